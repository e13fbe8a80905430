//! What a test says besides passed or failed. Written past libtest's capture, so that it is seen
//! when all is well.

use std::{
    io::{self, Write},
    ops::RangeInclusive,
    thread,
};

use anyhow::{Result, anyhow, ensure};

/// The name of the test that runs in this thread.
pub fn test_name() -> String {
    thread::current().name().unwrap_or("a test").to_owned()
}

/// Records a measured figure.
pub fn figure(text: &str) {
    say(&format!("FIGURE: {}: {text}", test_name()));
}

/// Says that a test can't run here.
pub fn skipped(reason: &str) {
    say(&format!("SKIPPED: {}: {reason}", test_name()));
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
    let name = test_name();
    thread::scope(|scope| {
        let running = cases
            .iter()
            .map(|case| {
                let work = &work;
                Ok(thread::Builder::new()
                    .name(name.clone())
                    .spawn_scoped(scope, move || work(case))?)
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
