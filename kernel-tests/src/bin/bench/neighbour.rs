//! What a limit costs a process beside the limited one.

use std::time::Duration;

use anyhow::Result;
use kernel_tests::{
    flow::{Direction, Flow},
    lab::{Family, Lab},
    moment::Moment,
    peer::Job,
    product::Limiter,
};
use serde::{Deserialize, Serialize};

use crate::{
    results::{Output, Part},
    table::{Table, median, with_range},
};

const RUNS: usize = 3;
const TIME: Duration = Duration::from_secs(2);
/// What the neighbour receives at most, in bytes a second; 0 is no limit of its own.
const RATES: [(&str, u64); 2] = [("as fast as it goes", 0), ("at 50 MB/s", 50_000_000)];

/// Bytes a second of the neighbour.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    rate: u64,
    alone: f64,
    beside: f64,
}

/// Measures all.
pub fn measure(out: &Output) -> Result<()> {
    for (_, rate) in RATES {
        for _ in 0..RUNS {
            out.keep(&run(rate)?)?;
        }
    }
    Ok(())
}

/// Goodput alone, and beside a limited process.
fn run(rate: u64) -> Result<Run> {
    let lab = Lab::new()?;
    let start = |rate| Flow::start(&lab, Job::tcp().rate(rate), Direction::Download, Family::V4);
    let neighbour = start(rate)?;
    (Moment::now() + Duration::from_millis(500)).wait();
    let alone = neighbour.goodput_for(TIME)?;
    let limited = start(20_000_000)?;
    let limiter = Limiter::start(&[limited.near().pid()], &["--download", "1M"])?;
    (limiter.applied() + Duration::from_secs(1)).wait();
    let beside = neighbour.goodput_for(TIME)?;
    Ok(Run {
        rate,
        alone,
        beside,
    })
}

/// The text.
pub fn render(parts: &[Part<Run>]) -> String {
    let mut table = Table::new(&["neighbour", "without", "with", "ratio"]);
    for (name, rate) in RATES {
        let runs: Vec<&Run> = (parts.iter())
            .flat_map(|part| &part.results)
            .filter(|run| run.rate == rate)
            .collect();
        if runs.is_empty() {
            continue;
        }
        let figures = |of: fn(&Run) -> f64| runs.iter().map(|run| of(run)).collect::<Vec<_>>();
        table.row(&[
            name.to_owned(),
            format!("{:.1} MB/s", median(&figures(|run| run.alone)) / 1e6),
            format!("{:.1} MB/s", median(&figures(|run| run.beside)) / 1e6),
            with_range(&figures(|run| run.beside / run.alone)),
        ]);
    }
    table.below(&format!(
        "Goodput of an unlimited TCP download over {} s, without any chadthrottle and then beside \
         another process of the same cgroup that is limited to 1 MB/s, medians of {RUNS} (the \
         ratio with its least and its greatest).",
        TIME.as_secs()
    ))
}
