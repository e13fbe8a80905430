//! A real QUIC client and server (quinn) under a limit.

use anyhow::Result;
use kernel_tests::{flow::Direction, lab::Family};

use crate::{
    cell::{self, Case, Cell, Traffic, rate},
    mechanism::Mechanism,
    plot::Plot,
    results::{Output, Part, of_all},
    table::Table,
    target::{Figure, Target, quietness},
};

const LIMIT: u64 = 1_250_000;
const ROUND_TRIPS: [u64; 2] = [0, 20];
const TARGET: Target = Target {
    goodput: 95.0..=103.0,
    median_error: None,
    repeated: None,
    variation: None,
};

fn case(mechanism: Mechanism, round_trip: u64, direction: Direction, family: Family) -> Case {
    Case {
        mechanism,
        limit: LIMIT,
        round_trip,
        traffic: Traffic::Quic,
        flows: 1,
        direction,
        family,
    }
}

/// Measures by policing, on this machine.
pub fn measure_policed(out: &Output) -> Result<()> {
    let cases: Vec<_> = Direction::ALL
        .into_iter()
        .flat_map(|direction| {
            Family::ALL.map(|family| case(Mechanism::Policing, 0, direction, family))
        })
        .collect();
    cell::measure(&cases, cases.len(), out)
}

/// Measures by pacing, with round trips.
pub fn measure_paced(out: &Output) -> Result<()> {
    let mut cases = Vec::new();
    for direction in Direction::ALL {
        for round_trip in ROUND_TRIPS {
            cases.push(case(
                Mechanism::Chadthrottle,
                round_trip,
                direction,
                Family::V4,
            ));
        }
        cases.push(case(Mechanism::Chadthrottle, 20, direction, Family::V6));
    }
    // Its cryptography is work for an emulated processor.
    cell::measure(&cases, 1, out)
}

/// The text, and the pictures.
pub fn render(parts: &[Part<Cell>]) -> (String, Vec<Plot>) {
    let cells = of_all(parts);
    let columns = [
        "enforced by",
        "direction",
        "round trip",
        "family",
        "goodput",
        "lost",
        "CoV",
    ];
    let mut table = Table::new(&columns);
    for cell in &cells {
        let case = cell.case;
        let show = |figure| TARGET.show(figure, Some(cell));
        table.row(&[
            by(case.mechanism).to_owned(),
            format!("{:?}", case.direction).to_lowercase(),
            format!("{} ms", case.round_trip),
            format!("IP{}", format!("{:?}", case.family).to_lowercase()),
            show(Figure::Goodput),
            show(Figure::Repeated),
            show(Figure::Variation),
        ]);
    }
    let all: Vec<_> = cells.iter().collect();
    let text = format!(
        "One stream of one connection between a client and a server made with quinn (CUBIC), \
         limited to {}: what the receiving program reads of the stream, in percent of the limit, \
         over 10 s from 2 s after the client began. A limit holds UDP payload, so QUIC's own \
         headers and acknowledgements (about 3 %) are within it. Lost are packets that the sender \
         gave up, of all that it sent.\n\n{}\n{}",
        rate(LIMIT),
        TARGET.verdict(&all),
        quietness(&all)
    );
    let rows = [
        (Mechanism::Policing, 0),
        (Mechanism::Chadthrottle, 0),
        (Mechanism::Chadthrottle, 20),
    ];
    let panels = rows.into_iter().map(|(mechanism, round_trip)| {
        let title = format!("QUIC, {}, {round_trip} ms, {}", rate(LIMIT), by(mechanism));
        let case = |direction| case(mechanism, round_trip, direction, Family::V4);
        (title, Direction::ALL.map(case).to_vec())
    });
    let plot = Plot::of_cells(
        "quic",
        Direction::ALL
            .map(|it| format!("{it:?}").to_lowercase())
            .to_vec(),
        &cells,
        panels.collect(),
    );
    (table.below(&text), vec![plot])
}

fn by(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::Policing => "policing",
        _ => "pacing",
    }
}
