//! How soon a limit is kept, and gone.

use std::time::Duration;

use anyhow::Result;
use kernel_tests::{flow::Direction, reaction::Reaction};

use crate::table::{Table, median, worst};

const RUNS: usize = 5;

pub fn section() -> Result<String> {
    let mut table = Table::new(&[
        "running flow",
        "speed before",
        "limited: median",
        "worst",
        "free: median",
        "worst",
    ]);
    for direction in Direction::ALL {
        let runs = (0..RUNS)
            .map(|_| Reaction::measure(direction, Duration::from_secs(2)))
            .collect::<Result<Vec<_>>>()?;
        let figures = |of: fn(&Reaction) -> f64| runs.iter().map(of).collect::<Vec<_>>();
        let limited = figures(|run| run.limited_after * 1e3);
        let free = figures(|run| run.free_after * 1e3);
        table.row(&[
            format!("{direction:?}").to_lowercase(),
            format!("{:.0} MB/s", median(&figures(|run| run.before)) / 1e6),
            format!("{:.0} ms", median(&limited)),
            format!("{:.0} ms", worst(&limited)),
            format!("{:.0} ms", median(&free)),
            format!("{:.0} ms", worst(&free)),
        ]);
    }
    Ok(table.below(&format!(
        "A flow that runs as fast as it goes is limited to 1 MB/s for 2 s, {RUNS} times: limited \
         is the time from `applied` until goodput, sampled each 5 ms at the receiver, stays below \
         1.1 MB/s for good (apart from 400 kB that may be on their way), free is the time from \
         the end of chadthrottle until the first 20 ms with more than 20 MB/s."
    )))
}
