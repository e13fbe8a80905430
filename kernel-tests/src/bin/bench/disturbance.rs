//! Whether a machine was quiet while something was measured: how late it wakes a sleeper.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

const SLEEP: Duration = Duration::from_millis(5);

/// What is not quiet any more: goodput is looked at in windows of 100 ms.
pub const QUIET: Duration = Duration::from_millis(15);

/// A thread that sleeps, and takes note of when it wakes.
pub struct Sleeper {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Sleeper {
    /// Begins.
    pub fn start() -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&end);
        let thread = thread::spawn(move || {
            let mut late = Vec::new();
            while !ending.load(Ordering::Relaxed) {
                let start = Instant::now();
                thread::sleep(SLEEP);
                late.push(start.elapsed().saturating_sub(SLEEP));
            }
            late
        });
        Self { end, thread }
    }

    /// By how much the latest hundredth of the wakings was late, at least.
    pub fn lateness(self) -> Duration {
        self.end.store(true, Ordering::Relaxed);
        let mut late = self.thread.join().unwrap_or_default();
        late.sort_unstable();
        let index = late.len() * 99 / 100;
        late.get(index).copied().unwrap_or(Duration::MAX)
    }
}
