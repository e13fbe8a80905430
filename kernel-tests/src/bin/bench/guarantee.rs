//! A part of a link that is guaranteed to a process, on a link that nobody told chadthrottle of: what the process has of it
//! in each second beside this machine's own traffic, which fills the link, and what that has meanwhile.

use std::time::Duration;

use anyhow::Result;
use kernel_tests::{
    bottleneck::{Bottleneck, Link, Queue},
    flow::Direction,
    moment::Moment,
    transfer::Transfer,
};
use serde::{Deserialize, Serialize};

use crate::{
    progress,
    results::{self, Output, Part},
    table::{Table, least, mean, shown},
};

/// This part of the link is guaranteed.
const PART: f64 = 0.2;
/// Beside so many flows of this machine, which have had this time to fill the link, and are judged for so long.
const OTHERS: u32 = 8;
const FILLING: Duration = Duration::from_secs(6);
const IDLE: u32 = 5;
/// The process uses it for so long, and is judged from this second on.
const BESIDE: u32 = 20;
const FROM: usize = 2;
/// After it, when it has paused for as long as others are held for.
const PAUSE: Duration = Duration::from_secs(13);
const AFTER: u32 = 5;
/// At least so much of the guarantee in each second.
const LEAST: f64 = 0.95;

/// What was measured, in parts of what the link carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Outcome {
    /// What the others have while the process is idle, and after it.
    idle: f64,
    after: f64,
    /// What the process has by seconds, without the guarantee and with it.
    without: Vec<f64>,
    with: Vec<f64>,
    /// What the others have meanwhile.
    others: f64,
}

/// A measured link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    link: Link,
    direction: Direction,
    outcome: Result<Outcome, String>,
}

/// Measures all.
pub fn measure(out: &Output) -> Result<()> {
    let link = |down, up, queue| Link {
        down,
        up,
        round_trip: 40,
        queue,
    };
    for (link, direction) in [
        (link(10, 2, Queue::Bloated), Direction::Download),
        (link(10, 2, Queue::RoundTrip), Direction::Download),
        (link(10, 2, Queue::FqCodel), Direction::Download),
        (link(10, 10, Queue::Bloated), Direction::Upload),
        (link(10, 10, Queue::RoundTrip), Direction::Upload),
        (link(10, 10, Queue::FqCodel), Direction::Upload),
        (link(50, 10, Queue::Bloated), Direction::Download),
    ] {
        let outcome = outcome(link, direction).map_err(|error| format!("{error:#}"));
        progress(&format!("    {link:?} {direction:?}: {outcome:.2?}"));
        out.keep(&Measured {
            link,
            direction,
            outcome,
        })?;
    }
    Ok(())
}

fn outcome(link: Link, direction: Direction) -> Result<Outcome> {
    let lab = Bottleneck::new(link)?;
    let speed = link.payload(direction);
    let group = lab.near().cgroup().child("guaranteed")?;
    let flow =
        |flows, group| Transfer::start(lab.far(), lab.near().place_in(group), direction, flows);
    let others = flow(OTHERS, None)?;
    (Moment::now() + FILLING).wait();
    let of_link = |transfer: &Transfer, from, seconds| {
        let rates = transfer.seconds(from, seconds)?;
        anyhow::Ok(
            rates
                .into_iter()
                .map(|rate| rate / speed)
                .collect::<Vec<f64>>(),
        )
    };
    let begin = Moment::now();
    let plain = flow(1, Some(&group))?;
    let without = of_link(&plain, begin, 0..BESIDE)?;
    drop(plain);
    let bytes = (speed * PART) as u64;
    let guaranteed = match direction {
        Direction::Download => format!("at_least = \"{bytes}/-\""),
        Direction::Upload => format!("at_least = \"-/{bytes}\""),
    };
    let home = lab.important(&group, &guaranteed)?;
    let _daemon = home.daemon()?;
    let idle = mean(&of_link(&others, Moment::now(), 1..1 + IDLE)?);
    let begin = Moment::now();
    let process = flow(1, Some(&group))?;
    let with = of_link(&process, begin, 0..BESIDE)?;
    let meanwhile = mean(&of_link(&others, begin, FROM as u32..BESIDE)?);
    drop(process);
    let after = of_link(&others, Moment::now() + PAUSE, 0..AFTER)?;
    Ok(Outcome {
        idle,
        after: mean(&after),
        without,
        with,
        others: meanwhile,
    })
}

/// The text.
pub fn render(parts: &[Part<Measured>]) -> String {
    let mut table = Table::new(&[
        "link",
        "it has, without",
        "with: the least second",
        "mean",
        "the others have meanwhile",
        "while it is idle",
        "after it",
    ]);
    let mut failed = String::new();
    for Measured {
        link,
        direction,
        outcome,
    } in &results::of_all(parts)
    {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                failed += &format!("\n- {link:?} {direction:?} failed: {error}");
                continue;
            }
        };
        let of_part = |seconds: &[f64]| seconds.iter().map(|part| part / PART).collect();
        let judged: Vec<f64> = of_part(&outcome.with[FROM..]);
        let without: Vec<f64> = of_part(&outcome.without[FROM..]);
        let least = least(&judged);
        table.row(&[
            format!("{link}, {direction}"),
            format!("{:.2}", mean(&without)),
            shown(format!("{least:.2}"), least >= LEAST),
            format!("{:.2}", mean(&judged)),
            format!("{:.2}", outcome.others),
            format!("{:.2}", outcome.idle),
            format!("{:.2}", outcome.after),
        ]);
    }
    let table = table.below(&format!(
        "A rule guarantees {PART} of the link to a process (`at_least`), which has one flow beside {OTHERS} of this machine. In \
         parts of the guarantee: what it has without the rule and with it, from the third second on, for {} s; at least \
         {LEAST} in each second. In parts of the link: what the others have.",
        BESIDE as usize - FROM,
    ));
    format!("{table}{failed}")
}
