//! The engine's thread and its loop.

use std::{sync::Arc, thread, time::Duration};

use anyhow::Context as _;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval},
};

use super::{Engine, background::TEND};
use crate::{
    kernel::{Kernel, WatchedEvents},
    model::{
        command::Command,
        handle::{EngineHandle, Request},
        snapshot::Snapshot,
    },
};

/// The time between turns: how soon ended processes and missed bytes are noticed.
const TURN: Duration = Duration::from_millis(100);

/// How many commands may wait; a person can't type as fast as they are carried out.
const WAITING_COMMANDS: usize = 64;

/// The running engine. Dropping it takes everything out of the kernel and waits for that.
pub struct EngineThread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for EngineThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the engine panicked; the kernel has removed its limits all the same");
        }
    }
}

/// Starts the engine on a thread of its own, because loading the kernel's side and reading `/proc`
/// block. The handle comes when the engine is loaded and the first snapshot is there, or else why
/// it can't be loaded.
///
/// # Errors
///
/// No thread can be had.
pub fn start(
    every: Duration,
) -> anyhow::Result<(
    impl Future<Output = anyhow::Result<EngineHandle>>,
    EngineThread,
)> {
    let (stop, stopped) = oneshot::channel();
    let (announce, loaded) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no event loop for the engine")?;
    let live = async move || match Running::load() {
        Ok((running, handle)) => {
            go_first();
            // Where nobody waits any more there is nothing to run for.
            if announce.send(Ok(handle)).is_ok() {
                running.run(stopped, every).await;
            }
        }
        Err(error) => drop(announce.send(Err(error))),
    };
    let thread = thread::Builder::new()
        .name("engine".to_owned())
        .spawn(move || runtime.block_on(live()))
        .context("no thread for the engine")?;
    let thread = EngineThread {
        stop: Some(stop),
        thread: Some(thread),
    };
    let handle = async {
        let loaded = loaded.await;
        loaded.unwrap_or_else(|_| Err(anyhow::anyhow!("the engine panicked while it was loaded")))
    };
    Ok((handle, thread))
}

/// Gives this thread the processors before ordinary ones: a new process is to be limited within
/// milliseconds also where fifty others want to run. It uses a percent of one.
fn go_first() {
    const NICE: i32 = -10;
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        log::debug!("the engine waits for its turn like everybody: {error}");
    }
}

/// The engine, and the other ends of its handle.
struct Running {
    engine: Engine,
    events: WatchedEvents,
    requests: mpsc::Receiver<Request>,
    publish: watch::Sender<Arc<Snapshot>>,
}

impl Running {
    /// On the event loop that it will run on.
    fn load() -> anyhow::Result<(Self, EngineHandle)> {
        let (kernel, events) = Kernel::load()?;
        let mut engine = Engine::new(kernel);
        let (publish, snapshots) = watch::channel(Arc::new(engine.sample()));
        let (commands, requests) = mpsc::channel(WAITING_COMMANDS);
        let events = events
            .watch()
            .context("the kernel's events can't be watched")?;
        let running = Self {
            engine,
            events,
            requests,
            publish,
        };
        let handle = EngineHandle {
            snapshots,
            commands,
        };
        Ok((running, handle))
    }

    async fn run(self, mut stopped: oneshot::Receiver<()>, every: Duration) {
        let Self {
            mut engine,
            mut events,
            mut requests,
            publish,
        } = self;
        let mut samples = sampling(every);
        let [mut turns, mut tends] = [TURN, TEND].map(interval);
        for ticks in [&mut turns, &mut tends] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                seen = events.told() => match seen {
                    Ok(()) => engine.attend(),
                    Err(error) => {
                        log::error!("the kernel's events can't be read any more: {error}");
                        break;
                    }
                },
                request = requests.recv() => {
                    let Some((command, answer)) = request else { break };
                    if let Command::SetInterval(every) = command {
                        samples = sampling(every);
                    }
                    let result = engine.apply(&command);
                    publish.send_replace(Arc::new(engine.picture()));
                    // Whoever asked may be gone.
                    let _ = answer.send(result);
                }
                _ = tends.tick(), if engine.rules.is_link_shared() => engine.tend_background(),
                _ = samples.tick() => {
                    publish.send_replace(Arc::new(engine.sample()));
                }
                _ = turns.tick() => engine.turn(),
            }
        }
    }
}

/// A clock of samples, the first one `every` from now.
fn sampling(every: Duration) -> tokio::time::Interval {
    let every = every.max(Duration::from_millis(10));
    let mut samples = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
    samples
}
