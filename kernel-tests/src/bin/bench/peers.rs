//! The same cells, fewer of them, for what people use otherwise.

use anyhow::Result;
use kernel_tests::flow::Direction;

use crate::{
    bucket::{BURST_MS, LEAST_BURST},
    cell::{self, Case, Cell, Traffic, rate},
    mechanism::Mechanism,
    plot::Plot,
    progress,
    results::{Output, Part, of_all},
    table::Table,
    target::{Figure, Target, quietness, stream},
};

/// The limits, and how many cells of each run at once. All peers of a cell do below 10 MB/s, where
/// an emulated machine can carry them.
pub const LIMITS: [(u64, usize); 3] = [(125_000, 8), (1_250_000, 4), (12_500_000, 1)];
const ROUND_TRIPS: [u64; 2] = [0, 20];

/// What the others are measured against is nobody's promise of theirs: no figure is bold.
const NONE: Target = Target {
    goodput: f64::NEG_INFINITY..=f64::INFINITY,
    median_error: None,
    repeated: None,
    variation: None,
};

fn cases(limit: u64) -> Vec<Case> {
    let plain = |round_trip, direction| Case::plain(limit, round_trip, direction);
    let mut cases = Vec::new();
    for direction in Direction::ALL {
        cases.extend(ROUND_TRIPS.map(|round_trip| plain(round_trip, direction)));
        if limit == 1_250_000 {
            cases.push(Case {
                flows: 8,
                ..plain(20, direction)
            });
            cases.push(Case {
                traffic: Traffic::Bbr,
                ..plain(20, direction)
            });
        }
    }
    let beside = |case: Case| Mechanism::PEERS.map(|mechanism| Case { mechanism, ..case });
    cases.into_iter().flat_map(beside).collect()
}

/// Measures the cells of one limit.
pub fn measure(limit: usize, out: &Output) -> Result<()> {
    let Some((limit, at_once)) = LIMITS.get(limit) else {
        return Ok(());
    };
    let missing_kinds = (Mechanism::PEERS.iter())
        .filter(|mechanism| mechanism.missing().is_some())
        .count();
    let (cases, missing): (Vec<_>, Vec<_>) = cases(*limit)
        .into_iter()
        .partition(|case| case.mechanism.missing().is_none());
    for case in missing {
        let why = case.mechanism.missing().unwrap_or_default().to_owned();
        progress(&format!("  skipped: {why}"));
        out.keep(&Cell {
            case,
            outcome: Err(why),
        })?;
    }
    // All of a cell at once, or one after the other.
    let present = Mechanism::PEERS.len() - missing_kinds;
    let at_once = (at_once / Mechanism::PEERS.len() * present).max(1);
    cell::measure(&cases, at_once, out)
}

/// The text, and the pictures.
pub fn render(parts: &[Part<Cell>]) -> (String, Vec<Plot>) {
    let cells = of_all(parts);
    let mut text = format!(
        "As under Pacing, in the same machine, chadthrottle and the others at the same time (at \
         12.5 MB/s one after the other). HTB at `rate` the limit with `burst 15k`, as in its manual, \
         for a download behind an IFB; it counts Ethernet frames, so about 4 % less goodput is right for it. The \
         token bucket is the plain one that one would write first: in cgroup_skb of the limited \
         direction, {BURST_MS} ms' worth (at least {} KiB, or the largest packets never pass), it \
         drops what it has no tokens for and counts whole IP packets. trickle with `-s`, the limit \
         in whole KiB/s, its flows on sockets without SOCK_CLOEXEC, as it knows no others. A process that ended before its time counts as failed.\n\n{}",
        LEAST_BURST / 1024,
        quietness(&cells.iter().collect::<Vec<_>>())
    );
    for figure in Figure::ALL {
        let mut columns = vec![figure.name().to_owned()];
        columns.extend(Mechanism::PEERS.map(|mechanism| mechanism.to_string()));
        let mut table = Table::new(&columns.iter().map(String::as_str).collect::<Vec<_>>());
        for row in cells.iter().filter(|cell| cell.case.mechanism.is_ours()) {
            let case = row.case;
            let mut figures = vec![format!(
                "{}, {} ms, {}",
                rate(case.limit),
                case.round_trip,
                stream(row)
            )];
            figures.extend(Mechanism::PEERS.map(|mechanism| {
                let beside = Case { mechanism, ..case };
                let cell = cells.iter().find(|cell| cell.case == beside);
                NONE.show(figure, cell)
            }));
            table.row(&figures);
        }
        text.push_str(&table.below(""));
    }
    let mut failures: Vec<_> = (cells.iter())
        .filter_map(|cell| Some((cell, cell.outcome.as_ref().err()?)))
        .map(|(cell, error)| {
            let case = cell.case;
            format!(
                "- {}, {}, {} ms, {}: {error}\n",
                case.mechanism,
                rate(case.limit),
                case.round_trip,
                stream(cell)
            )
        })
        .collect();
    if !failures.is_empty() {
        failures.insert(0, "\nFailed:\n\n".to_owned());
        text.push_str(&failures.concat());
    }
    let panels = LIMITS.into_iter().flat_map(|(limit, _)| {
        Direction::ALL.map(|direction| {
            let title = format!("{direction:?}, {}, 20 ms", rate(limit));
            let case = |mechanism| Case {
                mechanism,
                ..Case::plain(limit, 20, direction)
            };
            (title, Mechanism::PEERS.map(case).to_vec())
        })
    });
    let plot = Plot::of_cells(
        "peers",
        Mechanism::PEERS.map(|it| it.to_string()).to_vec(),
        &cells,
        panels.collect(),
    );
    (text, vec![plot])
}
