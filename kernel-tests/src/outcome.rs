//! A test's name, its turn on the machine, and what it says besides passed or failed. That is
//! written past libtest's capture, so that it is seen when all is well.

use std::{
    cell::Cell,
    fs,
    io::{self, Write},
    ops::RangeInclusive,
    process::Command,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread,
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};

thread_local! {
    /// libtest names its threads after tests only when there are several.
    static NAME: Cell<&'static str> = const { Cell::new("a test") };
}

/// Begins a kernel test: the test ends here, counted as skipped, if it can't run on this machine.
/// With `alone`, no other test of its program runs meanwhile.
#[macro_export]
macro_rules! kernel_test {
    () => {
        $crate::kernel_test!(@begin shared);
    };
    (alone) => {
        $crate::kernel_test!(@begin alone);
    };
    (@begin $kind:ident) => {
        fn here() {}
        let Some(_turn) = $crate::outcome::Turn::$kind(::std::any::type_name_of_val(&here)) else {
            return Ok(());
        };
    };
}

/// A test's turn on the machine; it lasts as long as this is held.
pub enum Turn {
    /// Others may run beside it.
    Shared(RwLockReadGuard<'static, ()>),
    /// It would take the machine from others, or they from it.
    Alone(RwLockWriteGuard<'static, ()>),
}

static MACHINE: RwLock<()> = RwLock::new(());

impl Turn {
    /// Begins a test beside others, or says that it is skipped. `here` is the path of a function
    /// inside the test.
    pub fn shared(here: &'static str) -> Option<Self> {
        begin(here).then(|| Self::Shared(MACHINE.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The same for a test that should run alone.
    pub fn alone(here: &'static str) -> Option<Self> {
        begin(here).then(|| Self::Alone(MACHINE.write().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn begin(here: &'static str) -> bool {
    NAME.set(here.rsplit("::").nth(1).unwrap_or(here));
    let missing = what_is_missing();
    if let Some(missing) = missing {
        skipped(missing);
    }
    missing.is_none()
}

/// What every kernel test needs.
fn what_is_missing() -> Option<&'static str> {
    let has_ip = || {
        let version = Command::new("ip").arg("-V").output();
        version.is_ok_and(|output| output.status.success())
    };
    if !rustix::process::geteuid().is_root() {
        Some("needs root")
    } else if !fs::exists("/proc/self/ns/net").unwrap_or(false) {
        Some("the kernel has no network namespaces")
    } else if !has_ip() {
        Some("needs ip, of iproute2")
    } else {
        None
    }
}

/// Whether this machine's processors may be emulated: what is asked of it must leave it air.
pub fn is_slow() -> bool {
    std::env::var_os("CHADTHROTTLE_VM").is_some()
}

/// How long a program may take to start, to say something or to end. An emulated processor that
/// shares its own with another machine has needed over 20 seconds to have the programs verified
/// while traffic ran.
pub fn patience() -> Duration {
    Duration::from_secs(if is_slow() { 60 } else { 20 })
}

/// Goodput of a limit that is kept, beside its rate. Wide, so that a busy machine fails nothing;
/// the figures are printed, and the bench command records them.
pub fn kept() -> RangeInclusive<f64> {
    match is_slow() {
        true => 0.6..=1.15,
        false => 0.75..=1.10,
    }
}

/// Records a measured figure.
pub fn figure(text: &str) {
    say(&format!("FIGURE: {}: {text}", NAME.get()));
}

/// Says that a test can't run here.
pub fn skipped(reason: &str) {
    say(&format!("SKIPPED: {}: {reason}", NAME.get()));
}

fn say(line: &str) {
    // One write, so that lines of parallel tests don't mix. A closed output fails no test.
    let _ = io::stdout()
        .lock()
        .write_all(format!("{line}\n").as_bytes());
}

/// Records a measured rate beside the expected one, and fails if their ratio is out of bounds.
pub fn expect_ratio(
    what: &str,
    measured: f64,
    expected: f64,
    bounds: RangeInclusive<f64>,
) -> Result<()> {
    let ratio = measured / expected;
    figure(&format!(
        "{what}: {:.0} kB/s of {:.0} kB/s, ratio {ratio:.3}",
        measured / 1e3,
        expected / 1e3
    ));
    ensure!(
        bounds.contains(&ratio),
        "{what}: {measured:.0} B/s is {ratio:.3} of {expected:.0} B/s, not within {bounds:?}"
    );
    Ok(())
}

/// Does the same for each case at once, each in a thread of its own, and fails if one did.
pub fn in_parallel<T: Sync>(cases: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let name = NAME.get();
    thread::scope(|scope| {
        let running = cases
            .iter()
            .map(|case| {
                let work = &work;
                Ok(thread::Builder::new().spawn_scoped(scope, move || {
                    NAME.set(name);
                    work(case)
                })?)
            })
            .collect::<Result<Vec<_>>>()?;
        let mut outcome = Ok(());
        for case in running {
            let result = case.join().map_err(|_| anyhow!("a case panicked"))?;
            outcome = outcome.and(result);
        }
        outcome
    })
}
