//! How close paced flows come to their limit, over round trips.

use anyhow::Result;
use kernel_tests::{flow::Direction, lab::Family};

use crate::{
    cell::{self, Case, Cell, Traffic, rate},
    plot::Plot,
    results::{Output, Part, of_all},
    table::Table,
    target::{Figure, Target, quietness, stream},
};

/// The limits, and how many cells of each an emulated machine can carry at once.
pub const LIMITS: [(u64, usize); 4] = [(64_000, 3), (125_000, 3), (1_250_000, 3), (12_500_000, 1)];
const ROUND_TRIPS: [u64; 3] = [0, 20, 100];

const TARGET: Target = Target {
    goodput: 98.0..=102.0,
    median_error: Some(1.0),
    repeated: Some(0.1),
    variation: Some(0.15),
};

/// What is measured of a limit, all of a direction together.
fn cases(limit: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    for direction in Direction::ALL {
        for flows in [1, 8] {
            for traffic in [Traffic::Cubic, Traffic::Bbr] {
                for round_trip in ROUND_TRIPS {
                    cases.push(Case {
                        traffic,
                        flows,
                        ..Case::plain(limit, round_trip, direction)
                    });
                }
            }
        }
        cases.push(Case {
            family: Family::V6,
            ..Case::plain(limit, 20, direction)
        });
    }
    cases
}

/// Measures the cells of one limit.
pub fn measure(limit: usize, out: &Output) -> Result<()> {
    let Some((limit, at_once)) = LIMITS.get(limit) else {
        return Ok(());
    };
    cell::measure(&cases(*limit), *at_once, out)
}

/// The text, and the pictures.
pub fn render(parts: &[Part<Cell>]) -> (String, Vec<Plot>) {
    let cells = of_all(parts);
    let all: Vec<_> = cells.iter().collect();
    let mut text = format!(
        "Goodput at the receiver in percent of the limit over 10 s, from 2 s after the flow began; \
         of the sender's segments in that time (TCP_INFO) those that were sent again; and the \
         coefficient of variation of goodput over windows of 100 ms. The round trip is made by \
         netem on the far side; `8 ×` are eight connections of one limited process; the \
         congestion control is chosen on the sending socket. The targets:\n\n{}\n\n\
         What a single flow under BBR leaves unused it does not ask for: every 10 s it empties its \
         path for 0.2 s and a round trip to measure that (PROBE_RTT), and it keeps a little below \
         what it found; under HTB, in the next section, it does the same. Without a round trip, \
         eight flows have sent their first 80 segments before fq is on the device; what is dropped \
         of these takes a slow limit more than 2 s to send again.\n\n{}",
        TARGET.verdict(&all),
        quietness(&all)
    );
    for (limit, _) in LIMITS {
        let mut columns = vec![rate(limit)];
        for figure in Figure::ALL {
            columns.extend(ROUND_TRIPS.map(|ms| format!("{}, {ms} ms", figure.name())));
        }
        let mut table = Table::new(&columns.iter().map(String::as_str).collect::<Vec<_>>());
        let mut rows: Vec<(String, Vec<&Cell>)> = Vec::new();
        for cell in cells.iter().filter(|cell| cell.case.limit == limit) {
            let name = stream(cell);
            match rows.iter_mut().find(|row| row.0 == name) {
                Some((_, cells)) => cells.push(cell),
                None => rows.push((name, vec![cell])),
            }
        }
        if rows.is_empty() {
            continue;
        }
        for (name, cells) in rows {
            let mut row = vec![name];
            for figure in Figure::ALL {
                row.extend(ROUND_TRIPS.map(|ms| {
                    let cell = cells.iter().find(|cell| cell.case.round_trip == ms);
                    TARGET.show(figure, cell.copied())
                }));
            }
            table.row(&row);
        }
        text.push_str(&table.below(""));
    }
    let lines = [Traffic::Cubic, Traffic::Bbr];
    let panels = LIMITS.into_iter().flat_map(|(limit, _)| {
        Direction::ALL.map(|direction| {
            let title = format!("{direction:?}, {}, 20 ms", rate(limit));
            let case = |traffic| Case {
                traffic,
                ..Case::plain(limit, 20, direction)
            };
            (title, lines.map(case).to_vec())
        })
    });
    let plot = Plot::of_cells(
        "pacing",
        lines.map(|traffic| traffic.to_string()).to_vec(),
        &cells,
        panels.collect(),
    );
    (text, vec![plot])
}
