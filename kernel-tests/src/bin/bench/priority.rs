//! Background traffic on a link that nobody told chadthrottle of: how much of it is used while nobody else is there, how
//! long others' packets wait then, and what somebody else has of it.

use std::time::Duration;

use anyhow::{Context, Result};
use kernel_tests::{
    bottleneck::{Bottleneck, Link, Queue},
    flow::Direction,
    lab::Family,
    moment::Moment,
    peer::Job,
    product::Limiter,
    transfer::{Transfer, pings},
};
use serde::{Deserialize, Serialize};

use crate::{
    progress,
    results::{self, Output, Part},
    table::{self, Table, mean, shown},
};

const SECOND: Duration = Duration::from_secs(1);
/// Background traffic has this time to find the link…
const FINDING: u32 = 6;
/// …and is judged for this long while it is alone.
const ALONE: u32 = 10;
/// Somebody else is there for so long.
const BESIDE: u32 = 8;
/// And so long is looked how it comes back.
const AFTER: u32 = 6;

/// The least that background traffic is to have of a link alone, and others beside it: of this machine, and of others
/// behind a queue that is first in, first out or not.
const LEAST_ALONE: f64 = 0.90;
const LEAST_OWN: f64 = 0.95;
const LEAST_OTHER: [f64; 2] = [0.90, 0.80];
/// The most that a ping waits longer, in milliseconds: of 20 one, and of 100.
const MOST_WAIT: [f64; 2] = [10.0, 30.0];
/// It is to be back after so many seconds.
const BACK: usize = 3;

/// Who else is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Beside {
    /// Nobody; a ping tells how long packets wait.
    Ping,
    /// A CUBIC flow of this machine.
    Own,
    /// One of another machine behind the same link.
    Other,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    link: Link,
    direction: Direction,
    flows: u32,
    beside: Beside,
}

/// What came out.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Outcome {
    /// What a plain flow has alone, in bytes a second.
    plain: f64,
    /// Bytes a second that background traffic had, by seconds.
    background: Vec<f64>,
    /// The same of who else was there.
    normal: Vec<f64>,
    /// How much longer pings took beside it than on an empty link, in milliseconds: the middle one, of 20 one, of 100.
    waits: Option<[f64; 3]>,
}

/// A measured case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    case: Case,
    outcome: Result<Outcome, String>,
}

fn cases() -> Vec<Case> {
    let link = |down, up, round_trip, queue| Link {
        down,
        up,
        round_trip,
        queue,
    };
    let links = [
        link(10, 2, 40, Queue::Bloated),
        link(10, 2, 40, Queue::RoundTrip),
        link(10, 2, 40, Queue::FqCodel),
        link(10, 2, 40, Queue::Cake),
        link(10, 2, 10, Queue::Bloated),
        link(10, 2, 100, Queue::Bloated),
        link(50, 10, 40, Queue::Bloated),
    ];
    let mut cases = Vec::new();
    for link in links {
        for (direction, flows, beside) in [
            (Direction::Download, 1, Beside::Ping),
            (Direction::Download, 8, Beside::Ping),
            (Direction::Upload, 1, Beside::Ping),
            (Direction::Download, 1, Beside::Own),
            (Direction::Download, 8, Beside::Own),
            (Direction::Upload, 8, Beside::Own),
            (Direction::Download, 8, Beside::Other),
        ] {
            cases.push(Case {
                link,
                direction,
                flows,
                beside,
            });
        }
    }
    cases
}

/// Measures all.
pub fn measure(out: &Output) -> Result<()> {
    measure_all(&cases(), out)
}

/// Measures some.
pub fn measure_all(cases: &[Case], out: &Output) -> Result<()> {
    for &case in cases {
        let outcome = outcome(&case).map_err(|error| format!("{error:#}"));
        progress(&format!("    {case:?}: {outcome:.2?}"));
        out.keep(&Measured { case, outcome })?;
    }
    Ok(())
}

fn outcome(case: &Case) -> Result<Outcome> {
    let lab = Bottleneck::new(case.link)?;
    let echo = Job::echo().listen(lab.far().any_port(Family::V4));
    let echo = lab.far().traffic(echo)?;
    let empty = pings(lab.near(), &echo, 50)?;
    let plain = Transfer::alone(lab.far(), lab.near().place(), case.direction)?;
    let group = lab.near().cgroup().child("background")?;
    let _limiter = Limiter::in_background(&group, &[])?;
    let begin = Moment::now();
    let background = Transfer::start(
        lab.far(),
        lab.near().place_in(Some(&group)),
        case.direction,
        case.flows,
    )?;
    let judged = begin + SECOND * FINDING;
    judged.wait();
    if case.beside == Beside::Ping {
        let count = u64::from(ALONE) * 1000 / (case.link.round_trip + 10);
        let beside = pings(lab.near(), &echo, count as u32)?;
        let longer = |share| (beside.quantile(share) - empty.median()) * 1e3;
        return Ok(Outcome {
            plain,
            background: background.seconds(judged, 0..ALONE)?,
            normal: Vec::new(),
            waits: Some([0.5, 0.95, 0.99].map(longer)),
        });
    }
    let place = match case.beside {
        Beside::Other => lab.other().place(),
        _ => lab.near().place(),
    };
    let normal = Transfer::start(lab.far(), place, case.direction, 1)?;
    let its = normal.seconds(judged, 0..BESIDE).context("normal")?;
    drop(normal);
    Ok(Outcome {
        plain,
        background: background.seconds(judged, 0..BESIDE + AFTER)?,
        normal: its,
        waits: None,
    })
}

impl Case {
    /// The payload that the link carries, in bytes a second.
    fn speed(&self) -> f64 {
        self.link.payload(self.direction)
    }

    fn traffic(&self) -> String {
        match self.flows {
            1 => self.direction.to_string(),
            flows => format!("{flows} {}s", self.direction),
        }
    }
}

/// The text.
pub fn render(parts: &[Part<Measured>]) -> String {
    let all = results::of_all(parts);
    let mut alone = Table::new(&[
        "link",
        "background",
        "of the link",
        "a plain flow alone",
        "ping + (p50)",
        "+ (p95)",
        "+ (p99)",
    ]);
    let mut beside = Table::new(&[
        "link",
        "background",
        "beside it",
        "that has of what it has alone",
        "least second",
        "background meanwhile",
        "is back after",
    ]);
    let mut failed = String::new();
    for Measured { case, outcome } in &all {
        match (outcome, case.beside) {
            (Err(error), _) => failed += &format!("\n- {case:?} failed: {error}"),
            (Ok(outcome), Beside::Ping) => row_alone(&mut alone, case, outcome),
            (Ok(outcome), _) => row_beside(&mut beside, case, outcome),
        }
    }
    let alone = alone.below(&format!(
        "Nobody tells chadthrottle how fast the link is. `chadthrottle limit --priority background` is in force when the \
         traffic begins; it is judged from the {FINDING}th second on, for {ALONE} s. In parts of the payload that the link \
         carries, at least {LEAST_ALONE}, with what a plain flow has there alone (a virtual machine is slow); and how much longer a ping beside it takes than on the empty link, in ms: at most \
         {} at the 95th percentile and {} at the 99th.",
        MOST_WAIT[0], MOST_WAIT[1],
    ));
    let beside = beside.below(&format!(
        "Somebody else's CUBIC flow comes for {BESIDE} s, of this machine (own) or of another behind the same link (other). Judged from \
         its second second on, or, on another machine, from its fourth: at least {LEAST_OWN} of what it has alone, {} on \
         another machine, {} there with fq_codel or cake. Background traffic is to be back at {LEAST_ALONE} of what a \
         plain flow has alone {BACK} s after it at the latest.",
        LEAST_OTHER[0], LEAST_OTHER[1],
    ));
    format!("{alone}\n{beside}{failed}")
}

fn row_alone(table: &mut Table, case: &Case, outcome: &Outcome) {
    let used = mean(&outcome.background) / case.speed();
    let [p50, p95, p99] = outcome.waits.unwrap_or([f64::NAN; 3]);
    let is_fifo = matches!(case.link.queue, Queue::Bloated | Queue::RoundTrip);
    table.row(&[
        case.link.to_string(),
        case.traffic(),
        shown(format!("{used:.2}"), !is_fifo || used >= LEAST_ALONE),
        format!("{:.2}", outcome.plain / case.speed()),
        format!("{p50:.1}"),
        shown(format!("{p95:.1}"), p95 <= MOST_WAIT[0]),
        shown(format!("{p99:.1}"), p99 <= MOST_WAIT[1]),
    ]);
}

fn row_beside(table: &mut Table, case: &Case, outcome: &Outcome) {
    let is_own = case.beside == Beside::Own;
    let is_fifo = matches!(case.link.queue, Queue::Bloated | Queue::RoundTrip);
    let (from, least) = match (is_own, is_fifo) {
        (true, _) => (1, LEAST_OWN),
        (false, true) => (3, LEAST_OTHER[0]),
        (false, false) => (3, LEAST_OTHER[1]),
    };
    let judged = outcome.normal.get(from..).unwrap_or_default();
    let has = mean(judged) / outcome.plain;
    let worst = table::least(judged) / outcome.plain;
    let meanwhile = outcome.background.get(from..BESIDE as usize);
    let after = outcome
        .background
        .get(BESIDE as usize..)
        .unwrap_or_default();
    let is_back = |rate: &f64| rate / outcome.plain >= LEAST_ALONE;
    let back = after.iter().position(is_back);
    table.row(&[
        case.link.to_string(),
        case.traffic(),
        if is_own { "own" } else { "other" }.to_owned(),
        shown(format!("{has:.2}"), has >= least),
        format!("{worst:.2}"),
        format!("{:.2}", mean(meanwhile.unwrap_or_default()) / case.speed()),
        match back {
            Some(seconds) => shown(format!("{} s", seconds + 1), seconds < BACK),
            None => format!("**more than {AFTER} s**"),
        },
    ]);
}
