//! How soon a limit is kept, and gone.

use std::time::Duration;

use anyhow::Result;
use kernel_tests::{flow::Direction, reaction::Reaction};
use serde::{Deserialize, Serialize};

use crate::{
    results::{Output, Part},
    table::{Table, median, worst},
};

const RUNS: usize = 5;

/// A flow that was limited and freed; bytes and seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    direction: Direction,
    before: f64,
    limited_after: f64,
    free_after: f64,
}

/// Measures all.
pub fn measure(out: &Output) -> Result<()> {
    for direction in Direction::ALL {
        for _ in 0..RUNS {
            let run = Reaction::measure(direction, Duration::from_secs(2))?;
            out.keep(&Run {
                direction,
                before: run.before,
                limited_after: run.limited_after,
                free_after: run.free_after,
            })?;
        }
    }
    Ok(())
}

/// The text.
pub fn render(parts: &[Part<Run>]) -> String {
    let runs: Vec<&Run> = parts.iter().flat_map(|part| &part.results).collect();
    let mut table = Table::new(&[
        "running flow",
        "speed before",
        "limited: median",
        "worst",
        "free: median",
        "worst",
    ]);
    for direction in Direction::ALL {
        let figures = |of: fn(&Run) -> f64| {
            let runs = runs.iter().filter(|run| run.direction == direction);
            runs.map(|run| of(run)).collect::<Vec<_>>()
        };
        let limited = figures(|run| run.limited_after * 1e3);
        let free = figures(|run| run.free_after * 1e3);
        if limited.is_empty() {
            continue;
        }
        table.row(&[
            format!("{direction:?}").to_lowercase(),
            format!("{:.0} MB/s", median(&figures(|run| run.before)) / 1e6),
            format!("{:.0} ms", median(&limited)),
            format!("{:.0} ms", worst(&limited)),
            format!("{:.0} ms", median(&free)),
            format!("{:.0} ms", worst(&free)),
        ]);
    }
    table.below(&format!(
        "A flow that runs as fast as it goes is limited to 1 MB/s for 2 s, {RUNS} times: limited \
         is the time from `applied` until goodput, sampled each 5 ms at the receiver, stays below \
         1.1 MB/s for good (apart from 400 kB that may be on their way), free is the time from \
         the end of chadthrottle until the first 20 ms with more than 20 MB/s."
    ))
}
