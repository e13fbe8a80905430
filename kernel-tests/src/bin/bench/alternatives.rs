//! What else one can do so that a backup is not felt, beside background traffic: nothing, HTB by somebody who knows how fast the
//! link is or believes that he does, cake at the router, and senders that yield by themselves (TCP-LP).

use std::{fmt, time::Duration};

use anyhow::Result;
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
    table::{Table, least, mean},
};

const SECOND: Duration = Duration::from_secs(1);
/// The backup: so many flows.
const FLOWS: u32 = 8;
/// It has this time to find the link, and is judged for so long while it is alone.
const FINDING: u32 = 6;
const ALONE: u32 = 6;
/// A normal flow of the same machine comes for so long, and is judged from its second second on.
const BESIDE: u32 = 8;
const FROM: u32 = 1;

const LINK: Link = Link {
    down: 10,
    up: 2,
    round_trip: 40,
    queue: Queue::Bloated,
};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Way {
    Nothing,
    Background,
    /// HTB whose rate is so many per cent of the link's, with the backup in a class that borrows what others leave: what
    /// TrafficToll and scripts around `tc` do.
    Htb(u32),
    /// The router's, which knows how fast the link is.
    Cake,
    /// The senders of the backup use TCP-LP.
    Yielding,
}

impl Way {
    const ALL: [Self; 6] = [
        Self::Background,
        Self::Nothing,
        Self::Htb(100),
        Self::Htb(130),
        Self::Cake,
        Self::Yielding,
    ];

    fn queue(self) -> Queue {
        match self {
            Self::Cake => Queue::Cake,
            _ => LINK.queue,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Background => f.write_str("`chadthrottle --priority background`"),
            Self::Htb(100) => f.write_str("HTB at the link's speed"),
            Self::Htb(part) => write!(f, "HTB at {part} % of it"),
            Self::Cake => f.write_str("cake at the router"),
            Self::Yielding => f.write_str("TCP-LP"),
        }
    }
}

/// What came out.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Outcome {
    /// What a normal flow has alone, and beside the backup by seconds, in bytes a second.
    plain: f64,
    normal: Vec<f64>,
    /// What the backup has of the link alone, and beside it.
    alone: f64,
    beside: f64,
    /// How much longer than on the empty link 95 of 100 pings take at the most beside the backup, in milliseconds.
    waits: f64,
}

/// A measured way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    way: Way,
    direction: Direction,
    outcome: Result<Outcome, String>,
}

/// Measures all.
pub fn measure(out: &Output) -> Result<()> {
    for direction in Direction::ALL {
        for way in Way::ALL {
            let outcome = outcome(way, direction).map_err(|error| format!("{error:#}"));
            progress(&format!("    {way} {direction:?}: {outcome:.2?}"));
            out.keep(&Measured {
                way,
                direction,
                outcome,
            })?;
        }
    }
    Ok(())
}

fn outcome(way: Way, direction: Direction) -> Result<Outcome> {
    let lab = Bottleneck::new(Link {
        queue: way.queue(),
        ..LINK
    })?;
    let echo = Job::echo().listen(lab.far().any_port(Family::V4));
    let echo = lab.far().traffic(echo)?;
    let empty = pings(lab.near(), &echo, 50)?.median();
    let plain = Transfer::alone(lab.far(), lab.near().place(), direction)?;
    let group = lab.near().cgroup().child("backup")?;
    let _limiter = match way {
        Way::Background => Some(Limiter::in_background(&group, &[])?),
        _ => None,
    };
    if let Way::Htb(part) = way {
        shape(&lab, direction, part)?;
    }
    let place = lab.near().place_in(Some(&group));
    let algorithm = (way == Way::Yielding).then_some("lp");
    let backup = Transfer::start_with(lab.far(), place, direction, FLOWS, algorithm)?;
    if let Way::Htb(_) = way {
        put_behind(&lab, direction, backup.port()?)?;
    }
    let judged = Moment::now() + SECOND * FINDING;
    judged.wait();
    let count = u64::from(ALONE) * 1000 / (LINK.round_trip + 10);
    let beside = pings(lab.near(), &echo, count as u32)?;
    let waits = (beside.quantile(0.95) - empty) * 1e3;
    let alone = mean(&backup.seconds(judged, 0..ALONE)?);
    let begin = Moment::now();
    let normal = Transfer::start(lab.far(), lab.near().place(), direction, 1)?;
    let normal = normal.seconds(begin, 0..BESIDE)?;
    let beside = mean(&backup.seconds(begin, FROM..BESIDE)?);
    let speed = LINK.payload(direction);
    Ok(Outcome {
        plain,
        normal,
        alone: alone / speed,
        beside: beside / speed,
        waits,
    })
}

/// Two classes, of which the second has what the first leaves.
fn shape(lab: &Bottleneck, direction: Direction, part: u32) -> Result<()> {
    let kbit = LINK.megabits(direction) * 10 * part;
    let near = lab.near();
    let device = match direction {
        Direction::Upload => "lab",
        Direction::Download => {
            near.redirect_arriving("shaped")?;
            "shaped"
        }
    };
    near.tc(&format!(
        "qdisc add dev {device} root handle 1: htb default 10\n\
         class add dev {device} parent 1: classid 1:1 htb rate {kbit}kbit burst 15k\n\
         class add dev {device} parent 1:1 classid 1:10 htb rate {}kbit ceil {kbit}kbit burst 15k prio 0\n\
         class add dev {device} parent 1:1 classid 1:20 htb rate {}kbit ceil {kbit}kbit burst 15k prio 1",
        kbit * 99 / 100,
        kbit / 100,
    ))
}

/// What goes to or comes from a port of the other end is the backup's.
fn put_behind(lab: &Bottleneck, direction: Direction, port: u16) -> Result<()> {
    let (device, end) = match direction {
        Direction::Upload => ("lab", "dport"),
        Direction::Download => ("shaped", "sport"),
    };
    lab.near().tc(&format!(
        "filter add dev {device} parent 1: protocol ip prio 1 u32 match ip {end} {port} 0xffff flowid 1:20"
    ))
}

/// The text.
pub fn render(parts: &[Part<Measured>]) -> String {
    let mut table = Table::new(&[
        "backup",
        "what is done",
        "backup alone, of the link",
        "ping + (p95)",
        "own flow, of what it has alone",
        "least second",
        "backup meanwhile",
    ]);
    let mut failed = String::new();
    for Measured {
        way,
        direction,
        outcome,
    } in &results::of_all(parts)
    {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                failed += &format!("\n- {way}, {direction:?} failed: {error}");
                continue;
            }
        };
        let judged: Vec<f64> = (outcome.normal.iter().skip(FROM as usize))
            .map(|rate| rate / outcome.plain)
            .collect();
        table.row(&[
            format!("{FLOWS} {direction}s"),
            way.to_string(),
            format!("{:.2}", outcome.alone),
            format!("{:.0} ms", outcome.waits),
            format!("{:.2}", mean(&judged)),
            format!("{:.2}", least(&judged)),
            format!("{:.2}", outcome.beside),
        ]);
    }
    let table = table.below(&format!(
        "A backup of {FLOWS} flows, and then a normal flow of the same machine beside it for {BESIDE} s, judged from its second second on. \
         The link is {LINK}, but for cake. HTB is what scripts around `tc` and TrafficToll set up: the backup has \
         1 % and borrows what others leave, and somebody must know the link's speed; downloads go through an IFB. cake at the router \
         knows the speed as well, and nothing of processes. TCP-LP is the kernel's sender for low priority; for a download the \
         other end has to use it.",
    ));
    format!("{table}{failed}")
}
