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

use crate::table::{Table, median, with_range};

const RUNS: usize = 3;
const TIME: Duration = Duration::from_secs(2);

pub fn section() -> Result<String> {
    let mut table = Table::new(&["neighbour", "without", "with", "ratio"]);
    for (name, rate) in [("as fast as it goes", 0), ("at 50 MB/s", 50_000_000)] {
        let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let (alone, beside) = measure(rate)?;
            without.push(alone);
            with.push(beside);
            ratios.push(beside / alone);
        }
        table.row(&[
            name.to_owned(),
            format!("{:.1} MB/s", median(&without) / 1e6),
            format!("{:.1} MB/s", median(&with) / 1e6),
            with_range(&ratios),
        ]);
    }
    Ok(table.below(&format!(
        "Goodput of an unlimited TCP download over {} s, without any chadthrottle and then beside \
         another process of the same cgroup that is limited to 1 MB/s, medians of {RUNS} (the \
         ratio with its least and its greatest).",
        TIME.as_secs()
    )))
}

/// Goodput alone, and beside a limited process.
fn measure(rate: u64) -> Result<(f64, f64)> {
    let lab = Lab::new()?;
    let start = |rate| Flow::start(&lab, Job::tcp().rate(rate), Direction::Download, Family::V4);
    let neighbour = start(rate)?;
    (Moment::now() + Duration::from_millis(500)).wait();
    let alone = neighbour.goodput_for(TIME)?;
    let limited = start(20_000_000)?;
    let limiter = Limiter::start(&[limited.near().pid()], &["--download", "1M"])?;
    (limiter.applied() + Duration::from_secs(1)).wait();
    let beside = neighbour.goodput_for(TIME)?;
    Ok((alone, beside))
}
