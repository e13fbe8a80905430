//! What a person notices of background traffic, on a link that nobody told chadthrottle of: how long a web page takes beside
//! it, and how late and how complete a call is; how it follows a link that changes; and whether two of them are as strong
//! as each other.

use std::time::Duration;

use anyhow::Result;
use kernel_tests::{
    bottleneck::{Bottleneck, Link, Queue},
    cgroup::Cgroup,
    flow::Direction,
    lab::Family,
    moment::Moment,
    peer::{Job, Peer},
    product::Limiter,
    transfer::Transfer,
};
use serde::{Deserialize, Serialize};

use crate::{
    importance::{self, load},
    progress,
    results::{self, Output, Part},
    table::{Table, mean, median, shown},
};

const SECOND: Duration = Duration::from_secs(1);
/// Background traffic has so many flows, beside which a page is loaded and a call is held.
const FLOWS: u32 = 8;
/// It has this time to find the link.
const FINDING: Duration = Duration::from_secs(8);
/// A page is loaded so often.
const LOADS: u32 = 3;
/// A call lasts so long: so many datagrams each way, of 200 bytes.
const CALL: u32 = 500;
const DATAGRAM: u32 = 200;
/// A link changes, and is watched for so long.
const WATCHED: u32 = 15;
/// Two share it for so long, the second from a third of it on; the last third is judged.
const SHARED: u32 = 90;

/// A page may take so many times as long as alone, and a call may be so many milliseconds later, at the 95th percentile, and lose so
/// much more.
const MOST_PAGE: f64 = 1.1;
const MOST_LATE: f64 = 10.0;
const MOST_LOST: f64 = 0.001;
/// A change is to be found after so many seconds, and no more than this many are to have less than half of what is free.
const FOUND: usize = 3;
const MOST_POOR: usize = 5;
/// Jain's index of two.
const LEAST_FAIR: f64 = 0.9;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Case {
    /// A web page.
    Page,
    /// A call.
    Call,
    /// The link becomes another.
    Change(Link),
    /// A second one begins.
    Two,
}

/// What came out.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Outcome {
    /// In seconds: alone, beside background traffic, and beside as much that is none.
    Page([f64; 3]),
    /// How late the 95th of a hundred answers is, in seconds, and which part was lost: the same three.
    Call([(f64, f64); 3]),
    /// What it has of the link after the change, by seconds.
    Change(Vec<f64>),
    /// What each has in the last third, in bytes a second.
    Two([f64; 2]),
}

/// A measured case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    link: Link,
    case: Case,
    outcome: Result<Outcome, String>,
}

fn cases() -> Vec<(Link, Case)> {
    let link = |down, round_trip, queue| Link {
        down,
        up: down / 5,
        round_trip,
        queue,
    };
    let mut cases = Vec::new();
    for queue in [Queue::Bloated, Queue::RoundTrip, Queue::FqCodel] {
        let ten = link(10, 40, queue);
        cases.push((ten, Case::Page));
        cases.push((ten, Case::Call));
    }
    cases.push((link(50, 40, Queue::Bloated), Case::Page));
    let ten = link(10, 40, Queue::Bloated);
    for other in [
        link(5, 40, Queue::Bloated),
        link(20, 40, Queue::Bloated),
        link(10, 90, Queue::Bloated),
    ] {
        cases.push((ten, Case::Change(other)));
    }
    cases.push((ten, Case::Two));
    cases
}

/// Measures all.
pub fn measure(out: &Output) -> Result<()> {
    measure_all(&cases(), out)
}

/// Measures some.
pub fn measure_all(cases: &[(Link, Case)], out: &Output) -> Result<()> {
    for &(link, case) in cases {
        let outcome = outcome(link, case).map_err(|error| format!("{error:#}"));
        progress(&format!("    {link:?} {case:?}: {outcome:.3?}"));
        out.keep(&Measured {
            link,
            case,
            outcome,
        })?;
    }
    Ok(())
}

fn outcome(link: Link, case: Case) -> Result<Outcome> {
    let lab = Bottleneck::new(link)?;
    match case {
        Case::Page => three(&lab, page).map(Outcome::Page),
        Case::Call => three(&lab, call).map(Outcome::Call),
        Case::Change(other) => change(&lab, other),
        Case::Two => two(&lab),
    }
}

/// A cgroup that is in the background for as long as the limiter runs.
fn in_background(lab: &Bottleneck, name: &str) -> Result<(Cgroup, Limiter)> {
    let group = lab.near().cgroup().child(name)?;
    let limiter = Limiter::in_background(&group, &[])?;
    Ok((group, limiter))
}

/// Downloads in a cgroup, or in none of their own.
fn downloads(lab: &Bottleneck, group: Option<&Cgroup>, flows: u32) -> Result<Transfer> {
    let place = lab.near().place_in(group);
    Transfer::start(lab.far(), place, Direction::Download, flows)
}

/// What is measured on an empty link, beside background downloads, and beside others.
fn three<T>(lab: &Bottleneck, measure: impl Fn(&Bottleneck) -> Result<T>) -> Result<[T; 3]> {
    let alone = measure(lab)?;
    let (group, limiter) = in_background(lab, "background")?;
    let background = downloads(lab, Some(&group), FLOWS)?;
    (Moment::now() + FINDING).wait();
    let beside = measure(lab)?;
    drop((background, limiter));
    (Moment::now() + 3 * SECOND).wait();
    let _plain = downloads(lab, None, FLOWS)?;
    (Moment::now() + FINDING).wait();
    Ok([alone, beside, measure(lab)?])
}

fn page(lab: &Bottleneck) -> Result<f64> {
    let server = Job::http().listen(lab.far().any_port(Family::V4));
    let server = lab.far().traffic(server.at_most(300 * SECOND))?;
    let address = server.address()?;
    let mut took = Vec::new();
    for _ in 0..LOADS {
        took.push(load(address, lab.near().place())?);
        (Moment::now() + SECOND).wait();
    }
    Ok(median(&took))
}

fn call(lab: &Bottleneck) -> Result<(f64, f64)> {
    let echo = Job::echo().listen(lab.far().any_port(Family::V4));
    let echo = lab.far().traffic(echo)?;
    let call = Job::call(CALL).chunk(DATAGRAM).connect(echo.address()?);
    let call: Peer = lab.near().traffic(call)?;
    let (times, lost) = call.call(60 * SECOND)?;
    Ok((times.quantile(0.95), lost as f64 / f64::from(CALL)))
}

fn change(lab: &Bottleneck, other: Link) -> Result<Outcome> {
    let (group, _limiter) = in_background(lab, "background")?;
    let transfer = downloads(lab, Some(&group), 1)?;
    (Moment::now() + 2 * FINDING).wait();
    lab.change(other)?;
    let seconds = transfer.seconds(Moment::now(), 0..WATCHED)?;
    let speed = other.payload(Direction::Download);
    Ok(Outcome::Change(
        seconds.into_iter().map(|rate| rate / speed).collect(),
    ))
}

fn two(lab: &Bottleneck) -> Result<Outcome> {
    let begin = Moment::now();
    let (group, _limiter) = in_background(lab, "background")?;
    let first = downloads(lab, Some(&group), 1)?;
    (begin + SECOND * (SHARED / 3)).wait();
    let second = downloads(lab, Some(&group), 1)?;
    let last = SHARED * 2 / 3..SHARED;
    Ok(Outcome::Two([
        mean(&first.seconds(begin, last.clone())?),
        mean(&second.seconds(begin, last)?),
    ]))
}

/// The text.
pub fn render(parts: &[Part<Measured>]) -> String {
    let mut people = Table::new(&[
        "link",
        "what",
        "alone",
        "beside background",
        "beside others",
    ]);
    let mut changes = Table::new(&[
        "link",
        "becomes",
        "has 0.9 of it after",
        "seconds with less than half",
    ]);
    let (mut fair, mut failed) = (String::new(), String::new());
    for Measured {
        link,
        case,
        outcome,
    } in &results::of_all(parts)
    {
        match (outcome, case) {
            (Err(error), _) => failed += &format!("\n- {link} {case:?} failed: {error}"),
            (Ok(Outcome::Page([alone, beside, others])), _) => people.row(&[
                link.to_string(),
                "a page".to_owned(),
                format!("{alone:.2} s"),
                shown(format!("{beside:.2} s"), beside / alone <= MOST_PAGE),
                format!("{others:.2} s"),
            ]),
            (Ok(Outcome::Call(all)), _) => {
                let [alone, ..] = *all;
                let of_call = |(late, lost): (f64, f64)| {
                    let is_met = (late - alone.0) * 1e3 <= MOST_LATE && lost - alone.1 <= MOST_LOST;
                    (
                        format!("{:.0} ms, {:.1} %", late * 1e3, lost * 100.0),
                        is_met,
                    )
                };
                let [alone, (beside, is_met), others] = all.map(of_call);
                people.row(&[
                    link.to_string(),
                    "a call".to_owned(),
                    alone.0,
                    shown(beside, is_met),
                    others.0,
                ]);
            }
            (Ok(Outcome::Change(seconds)), Case::Change(other)) => {
                let found = seconds.iter().position(|has| *has >= 0.9);
                let poor = seconds.iter().filter(|has| **has < 0.5).count();
                changes.row(&[
                    link.to_string(),
                    other.to_string(),
                    match found {
                        Some(after) => shown(format!("{} s", after + 1), after < FOUND),
                        None => format!("**more than {WATCHED} s**"),
                    },
                    shown(poor.to_string(), poor <= MOST_POOR),
                ]);
            }
            (Ok(Outcome::Change(_)), _) => {}
            (Ok(Outcome::Two([first, second])), _) => {
                let jain = (first + second).powi(2) / (2.0 * (first * first + second * second));
                let jain = shown(format!("{jain:.2}"), jain >= LEAST_FAIR);
                fair = format!(
                    "Of two downloads in the background, the second of which begins {} s later, on {}: in the last {} of {SHARED} s \
                     Jain's index is {jain}, at least {LEAST_FAIR}.\n",
                    SHARED / 3,
                    link,
                    SHARED / 3,
                );
            }
        }
    }
    let people = people.below(&format!(
        "{} and a call ({CALL} datagrams of {DATAGRAM} bytes, fifty a second, each of which is sent back) beside {FLOWS} downloads \
         of the same machine: in the background, or as everybody's. Of the page the median of {LOADS}, at most {MOST_PAGE} times as long \
         as alone; of the call how late 95 % of the answers are at the most, and how many are lost: at most {MOST_LATE} ms \
         and {} % more than alone.",
        importance::page(),
        MOST_LOST * 100.0,
    ));
    let changes = changes.below(&format!(
        "One download in the background has had the link for {} s when it changes. It is to have {} of what is free after \
         {FOUND} s, and less than half of it in no more than {MOST_POOR} s of {WATCHED}.",
        2 * FINDING.as_secs(),
        0.9,
    ));
    format!("{people}\n{changes}\n{fair}{failed}")
}
