//! How close goodput comes to the limit.

use anyhow::{Context, Result};
use kernel_tests::{
    flow::{Direction, Flow},
    lab::{Family, Lab},
    peer::Job,
    product::Limiter,
};

use crate::{
    progress,
    table::{Table, median},
};

/// What is promised of policing, in percent of the limit.
const TARGET: std::ops::RangeInclusive<f64> = 90.0..=103.0;
const RUNS: usize = 3;
const COLUMNS: [(Direction, Family, &str); 4] = [
    (Direction::Download, Family::V4, "download, IPv4"),
    (Direction::Download, Family::V6, "download, IPv6"),
    (Direction::Upload, Family::V4, "upload, IPv4"),
    (Direction::Upload, Family::V6, "upload, IPv6"),
];

/// What is sent under which limit.
struct Row {
    what: &'static str,
    limit: u64,
    job: Job,
    /// Shares the machine with all other slow ones.
    slow: bool,
}

/// The slow ones send at most at 20 MB/s before they are limited, so that they don't keep the
/// machine from each other.
fn rows() -> Vec<Row> {
    let row = |what, limit, job| Row {
        what,
        limit,
        job,
        slow: limit < 10_000_000,
    };
    let tcp = || Job::tcp().rate(20_000_000);
    vec![
        row("CUBIC, 125 kB/s", 125_000, tcp()),
        row("CUBIC, 1.25 MB/s", 1_250_000, tcp()),
        row("CUBIC, 12.5 MB/s", 12_500_000, Job::tcp().rate(100_000_000)),
        row("BBR, 1.25 MB/s", 1_250_000, tcp().congestion_control("bbr")),
        row(
            "8 CUBIC flows, 1.25 MB/s",
            1_250_000,
            Job::tcp().rate(2_500_000).connections(8),
        ),
        row(
            "UDP at 5 MB/s, 1.25 MB/s",
            1_250_000,
            Job::udp().rate(5_000_000),
        ),
    ]
}

pub fn section() -> Result<String> {
    let rows = rows();
    let mut figures = vec![vec![Vec::new(); COLUMNS.len()]; rows.len()];
    for run in 1..=RUNS {
        for slow in [true, false] {
            let which = if slow { "below" } else { "above" };
            progress(&format!("  limits {which} 10 MB/s, run {run} of {RUNS}"));
            for (row, column, percent) in measure(&rows, slow)? {
                let cell = figures.get_mut(row).and_then(|row| row.get_mut(column));
                cell.context("no such cell")?.push(percent);
            }
        }
    }
    let mut columns = vec!["traffic and limit"];
    columns.extend(COLUMNS.map(|(_, _, name)| name));
    let mut table = Table::new(&columns);
    let mut missed = Vec::new();
    for (row, figures) in rows.iter().zip(&figures) {
        let mut cells = vec![row.what.to_owned()];
        for (figures, (_, _, column)) in figures.iter().zip(COLUMNS) {
            // Judged as it is shown.
            let percent = (median(figures) * 10.0).round() / 10.0;
            let met = TARGET.contains(&percent);
            cells.push(match met {
                true => format!("{percent:.1} %"),
                false => format!("**{percent:.1} %**, missed"),
            });
            if !met {
                missed.push(format!("{} ({column}, {percent:.1} %)", row.what));
            }
        }
        table.row(&cells);
    }
    let verdict = match missed.as_slice() {
        [] => "Every cell meets it.".to_owned(),
        missed => format!("Missed by: {}.", missed.join("; ")),
    };
    Ok(table.below(&format!(
        "Goodput at the receiver in percent of the limit, over 10 s after the limit's first \
         second, median of {RUNS} runs; each flow is a process of its own in a cgroup of its own, \
         its congestion control is chosen on the socket, the rows below 10 MB/s ran at the same \
         time. The target for policing is {} to {} %. {verdict}",
        TARGET.start(),
        TARGET.end()
    )))
}

/// Measures either all slow rows at once or the others: row, column, percent.
fn measure(rows: &[Row], slow: bool) -> Result<Vec<(usize, usize, f64)>> {
    let mut cells = Vec::new();
    for (number, row) in rows.iter().enumerate().filter(|(_, row)| row.slow == slow) {
        for (column, (direction, family, _)) in COLUMNS.into_iter().enumerate() {
            cells.push((number, column, row, direction, family));
        }
    }
    // Labs first: making them takes time in which flows would run.
    let labs = cells
        .iter()
        .map(|_| Lab::new())
        .collect::<Result<Vec<_>>>()?;
    let mut flows = Vec::new();
    for ((number, column, row, direction, family), lab) in cells.into_iter().zip(&labs) {
        let flow = Flow::start(lab, row.job.clone(), direction, family)?;
        flows.push((number, column, row.limit, direction, flow));
    }
    // One chadthrottle for each limit and direction, as the programs of several would add up.
    let mut limiters = Vec::new();
    for direction in Direction::ALL {
        let mut limits: Vec<u64> = flows.iter().map(|(_, _, limit, ..)| *limit).collect();
        limits.sort_unstable();
        limits.dedup();
        for limit in limits {
            let pids: Vec<u32> = flows
                .iter()
                .filter(|flow| flow.2 == limit && flow.3 == direction)
                .map(|flow| flow.4.near().pid())
                .collect();
            let options = [direction.option(), &limit.to_string()];
            limiters.push((limit, direction, Limiter::start(&pids, &options)?));
        }
    }
    flows
        .iter()
        .map(|(number, column, limit, direction, flow)| {
            let (_, _, limiter) = limiters
                .iter()
                .find(|limiter| limiter.0 == *limit && limiter.1 == *direction)
                .context("no limiter")?;
            let goodput = flow.judged(limiter.applied())?;
            Ok((*number, *column, goodput / *limit as f64 * 100.0))
        })
        .collect()
}
