//! How close policed flows come to their limit.

use anyhow::Result;
use kernel_tests::{flow::Direction, lab::Family};

use crate::{
    cell::{self, Case, Cell, Traffic, rate},
    mechanism::Mechanism,
    plot::Plot,
    progress,
    results::{Output, Part, of_all},
    table::{Table, median},
    target::{Figure, Target, quietness},
};

const TARGET: Target = Target {
    goodput: 90.0..=103.0,
    median_error: None,
    repeated: None,
    variation: None,
};
const RUNS: usize = 3;
/// Flows below 10 MB/s that run at the same time, and above.
const AT_ONCE: (usize, usize) = (10, 2);

const COLUMNS: [(Direction, Family, &str); 4] = [
    (Direction::Download, Family::V4, "download, IPv4"),
    (Direction::Download, Family::V6, "download, IPv6"),
    (Direction::Upload, Family::V4, "upload, IPv4"),
    (Direction::Upload, Family::V6, "upload, IPv6"),
];

/// Limit, traffic, flows.
const ROWS: [(u64, Traffic, u32); 9] = [
    (64_000, Traffic::Cubic, 1),
    (125_000, Traffic::Cubic, 1),
    (1_250_000, Traffic::Cubic, 1),
    (1_250_000, Traffic::Cubic, 8),
    (1_250_000, Traffic::Bbr, 1),
    (1_250_000, Traffic::Udp, 1),
    (12_500_000, Traffic::Cubic, 1),
    (12_500_000, Traffic::Cubic, 8),
    (12_500_000, Traffic::Bbr, 1),
];

fn case(row: (u64, Traffic, u32), direction: Direction, family: Family) -> Case {
    let (limit, traffic, flows) = row;
    Case {
        mechanism: Mechanism::Policing,
        limit,
        round_trip: 0,
        traffic,
        flows,
        direction,
        family,
    }
}

/// Measures all, several times.
pub fn measure(out: &Output) -> Result<()> {
    let all: Vec<Case> = ROWS
        .into_iter()
        .flat_map(|row| COLUMNS.map(|(direction, family, _)| case(row, direction, family)))
        .collect();
    let (slow, fast): (Vec<_>, Vec<_>) = all.iter().partition(|case| case.limit < 10_000_000);
    for run in 1..=RUNS {
        progress(&format!("  run {run} of {RUNS}"));
        cell::measure(&slow, AT_ONCE.0, out)?;
        cell::measure(&fast, AT_ONCE.1, out)?;
    }
    Ok(())
}

/// The run that is in the middle by goodput; a failure if there is one.
fn middle(cells: &[Cell], case: Case) -> Option<Cell> {
    let mut runs: Vec<&Cell> = cells.iter().filter(|cell| cell.case == case).collect();
    if let Some(failed) = runs.iter().find(|cell| cell.outcome.is_err()) {
        return Some((*failed).clone());
    }
    let percents: Vec<f64> = runs.iter().filter_map(|cell| cell.percent()).collect();
    let median = median(&percents);
    runs.sort_by(|one, other| {
        let off = |cell: &Cell| (cell.percent().unwrap_or(f64::NAN) - median).abs();
        off(one).total_cmp(&off(other))
    });
    runs.first().map(|cell| (*cell).clone())
}

/// The text, and the pictures.
pub fn render(parts: &[Part<Cell>]) -> (String, Vec<Plot>) {
    let runs = of_all(parts);
    let mut columns = vec!["traffic and limit"];
    columns.extend(COLUMNS.map(|(_, _, name)| name));
    let mut table = Table::new(&columns);
    let mut cells = Vec::new();
    for row in ROWS {
        let (limit, traffic, flows) = row;
        let flows = match flows {
            1 => String::new(),
            flows => format!("{flows} × "),
        };
        let mut words = vec![format!("{flows}{traffic}, {}", rate(limit))];
        for (direction, family, _) in COLUMNS {
            let cell = middle(&runs, case(row, direction, family));
            words.push(TARGET.show(Figure::Goodput, cell.as_ref()));
            cells.extend(cell);
        }
        table.row(&words);
    }
    let all: Vec<_> = cells.iter().collect();
    let text = format!(
        "What chadthrottle does where the kernel has no fq, or where somebody chose another qdisc \
         (so it is measured where there is fq). Goodput at the receiver in percent of the limit \
         over 10 s, from 2 s after the flow began, the median of {RUNS} runs, without a round \
         trip to speak of; UDP is sent at four times its limit; flows below 10 MB/s ran {} at \
         once. Policing works by loss, so nothing is promised of segments sent again and of \
         evenness.\n\n{}\n{}",
        AT_ONCE.0,
        TARGET.verdict(&all),
        quietness(&all)
    );
    let lines = [Traffic::Cubic, Traffic::Bbr];
    let panels = [1_250_000, 12_500_000].into_iter().flat_map(|limit| {
        Direction::ALL.map(|direction| {
            let title = format!("{direction:?}, {}, policed", rate(limit));
            let case = |traffic| case((limit, traffic, 1), direction, Family::V4);
            (title, lines.map(case).to_vec())
        })
    });
    let plot = Plot::of_cells(
        "policing",
        lines.map(|traffic| traffic.to_string()).to_vec(),
        &cells,
        panels.collect(),
    );
    (table.below(&text), vec![plot])
}
