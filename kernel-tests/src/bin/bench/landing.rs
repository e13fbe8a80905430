//! Limits that come while traffic runs: how soon they are kept, and what is sent again for them.

mod shown;

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use kernel_tests::{
    flow::{Direction, Flow},
    lab::{Family, Lab},
    limiting::Limiting as Engine,
    moment::Moment,
    peer::{Job, Peer},
    product::Limiter,
};
use rustix::process::{Pid, setpriority_process};
use serde::{Deserialize, Serialize};
pub use shown::render;

use crate::{
    cell::{Traffic, WINDOW},
    mechanism::{InForce, Mechanism},
    progress,
    results::Output,
    table::mean,
};

/// How long flows run before they are limited.
const BEFORE: Duration = Duration::from_secs(3);
/// How much of that is drawn.
const DRAWN: Duration = Duration::from_secs(1);
const SECOND: Duration = Duration::from_secs(1);
/// Seconds that are looked at; all but the first are judged.
const SECONDS: u32 = 11;

const ROUND_TRIPS: [u64; 3] = [0, 20, 100];
const LIMITS: [u64; 4] = [64_000, 125_000, 1_250_000, 12_500_000];
const POLICED: [u64; 3] = [125_000, 1_250_000, 12_500_000];

/// What senders use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sender {
    /// CUBIC without ECN.
    Cubic,
    /// CUBIC with ECN at both ends.
    Ecn,
    /// BBR.
    Bbr,
}

/// What becomes of a limit while flows run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It comes, to flows at full speed.
    #[default]
    Set,
    /// It was ten times as high.
    Lowered,
    /// It was a tenth.
    Raised,
    /// It is changed each half second, ten seconds long.
    Twenty,
    /// It is taken away for a second, and set again.
    Toggled,
    /// A ninth flow joins eight of its process.
    Joined,
}

impl Change {
    /// All but the first.
    const LATER: [Self; 4] = [Self::Lowered, Self::Raised, Self::Twenty, Self::Toggled];

    const fn words(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Lowered => "lowered to a tenth",
            Self::Raised => "raised tenfold",
            Self::Twenty => "changed 20 times in 10 s",
            Self::Toggled => "taken away for 1 s",
            Self::Joined => "a ninth joins",
        }
    }
}

/// A landing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    mechanism: Mechanism,
    /// Whether somebody chose cake for the device.
    cake: bool,
    /// Bytes a second.
    limit: u64,
    /// Milliseconds.
    round_trip: u64,
    sender: Sender,
    flows: u32,
    direction: Direction,
    #[serde(default)]
    change: Change,
}

/// A landing that was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Landing {
    case: Case,
    outcome: Result<Outcome, String>,
}

/// What came out.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Outcome {
    /// Of each second since the limit came, as a part of the limit.
    seconds: Vec<f64>,
    /// Segments that were sent again, since then.
    again: f64,
    /// All segments.
    segments: f64,
    /// Bytes a second in windows of 100 ms, from a second before.
    rates: Vec<u64>,
}

impl Case {
    fn is_policed(&self) -> bool {
        self.cake || self.mechanism == Mechanism::Policing
    }

    /// How far a second may be from the limit.
    fn tolerance(&self) -> f64 {
        if self.limit < 1_250_000 || self.is_policed() {
            0.10
        } else {
            0.05
        }
    }
}

impl Outcome {
    fn judged(&self) -> &[f64] {
        self.seconds.get(1..).unwrap_or_default()
    }

    /// The second that is furthest from the limit.
    fn worst(&self) -> f64 {
        let off = |second: &f64| (second - 1.0).abs();
        let worst = self
            .judged()
            .iter()
            .max_by(|a, b| off(a).total_cmp(&off(b)));
        worst.copied().unwrap_or(f64::NAN)
    }

    /// How many segments may be sent again.
    fn may_repeat(&self, case: &Case) -> f64 {
        let share = if case.is_policed() { 0.02 } else { 0.001 };
        (self.segments * share).max(10.0)
    }
}

/// All landings of a limit where packets can be paced, and one beside HTB and IFB.
fn paced(limit: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    for direction in Direction::ALL {
        for flows in [1, 8] {
            for sender in [Sender::Cubic, Sender::Ecn, Sender::Bbr] {
                cases.extend(ROUND_TRIPS.map(|round_trip| Case {
                    mechanism: Mechanism::Chadthrottle,
                    cake: false,
                    limit,
                    round_trip,
                    sender,
                    flows,
                    direction,
                    change: Change::Set,
                }));
            }
        }
    }
    cases.extend(Direction::ALL.map(|direction| beside(limit, direction, Mechanism::Htb)));
    cases
}

/// One CUBIC flow over 20 ms.
fn beside(limit: u64, direction: Direction, mechanism: Mechanism) -> Case {
    Case {
        mechanism,
        cake: false,
        limit,
        round_trip: 20,
        sender: Sender::Cubic,
        flows: 1,
        direction,
        change: Change::Set,
    }
}

/// Limits that change, and flows that join.
fn changed() -> Vec<Case> {
    let mut cases = Vec::new();
    for (limit, flows) in [(125_000, 8), (1_250_000, 1), (1_250_000, 8)] {
        for direction in Direction::ALL {
            let case = |change| Case {
                flows,
                change,
                ..beside(limit, direction, Mechanism::Chadthrottle)
            };
            cases.extend(Change::LATER.map(case));
            if flows == 8 && direction == Direction::Download {
                cases.push(case(Change::Joined));
            }
        }
    }
    cases
}

/// Landings where packets can't be paced.
fn policed(cake: bool) -> Vec<Case> {
    let round_trips = if cake { &ROUND_TRIPS[..] } else { &[0] };
    let mut cases = Vec::new();
    for limit in POLICED {
        for direction in Direction::ALL {
            for flows in [1, 8] {
                cases.extend(round_trips.iter().map(|round_trip| Case {
                    mechanism: if cake {
                        Mechanism::Chadthrottle
                    } else {
                        Mechanism::Policing
                    },
                    cake,
                    limit,
                    round_trip: *round_trip,
                    sender: Sender::Cubic,
                    flows,
                    direction,
                    change: Change::Set,
                }));
            }
        }
    }
    cases
}

/// Measures the landings of one limit, paced.
pub fn measure(limit: usize, out: &Output) -> Result<()> {
    let cases = LIMITS.get(limit).map(|limit| paced(*limit));
    measure_all(&cases.unwrap_or_default(), out)
}

/// Measures landings where this kernel has no fq, or somebody chose another qdisc.
pub fn measure_policed(out: &Output) -> Result<()> {
    measure_all(&policed(false), out)
}

/// Measures limits that change.
pub fn measure_changed(out: &Output) -> Result<()> {
    measure_all(&changed(), out)
}

/// The same where somebody chose cake.
pub fn measure_cake(out: &Output) -> Result<()> {
    measure_all(&policed(true), out)
}

/// Measures landings, one after the other.
pub fn measure_all(cases: &[Case], out: &Output) -> Result<()> {
    for case in cases {
        let outcome = match case.change {
            Change::Set => land(case),
            Change::Joined => join(case),
            _ => change(case),
        };
        let outcome = outcome.map_err(|error| format!("{error:#}"));
        match &outcome {
            Ok(outcome) => progress(&format!(
                "    {case:?}: {} | mean {:.3}, {:.0} of {:.0} segments again",
                (outcome.seconds.iter())
                    .map(|second| format!("{second:.2}"))
                    .collect::<Vec<_>>()
                    .join(" "),
                mean(outcome.judged()),
                outcome.again,
                outcome.segments
            )),
            Err(error) => progress(&format!("    {case:?}: {error}")),
        }
        out.keep(&Landing {
            case: *case,
            outcome,
        })?;
    }
    Ok(())
}

/// What has to stay for as long as it is judged.
enum Limiting {
    Ours(#[expect(dead_code, reason = "only kept")] Limiter),
    Others(#[expect(dead_code, reason = "only kept")] InForce),
}

fn land(case: &Case) -> Result<Outcome> {
    let lab = Lab::with_round_trip(Duration::from_millis(case.round_trip))?;
    if case.sender == Sender::Ecn {
        for end in [lab.near(), lab.far()] {
            end.set("ipv4/tcp_ecn", "1")?;
        }
    }
    if case.cake {
        lab.near().tc("qdisc add dev lab root cake")?;
    }
    let _before = (case.mechanism != Mechanism::Htb)
        .then(|| {
            case.mechanism
                .put_in_force(&lab, case.limit, case.direction)
        })
        .transpose()?;
    let flow = Flow::start(&lab, job(case)?, case.direction, Family::V4)?;
    give_way(&flow)?;
    (Moment::now() + BEFORE).wait();
    let (set, _limiting) = if case.mechanism == Mechanism::Htb {
        let htb = case
            .mechanism
            .put_in_force(&lab, case.limit, case.direction)?;
        (Moment::now(), Limiting::Others(htb))
    } else {
        let options = [case.direction.option(), &case.limit.to_string()];
        let limiter = Limiter::start(&[flow.near().pid()], &options)?;
        (limiter.applied(), Limiting::Ours(limiter))
    };
    outcome(case, flow.receiver(), flow.sender(), set, set)
}

/// The kind of flows of a case.
fn job(case: &Case) -> Result<Job> {
    let traffic = match case.sender {
        Sender::Cubic | Sender::Ecn => Traffic::Cubic,
        Sender::Bbr => Traffic::Bbr,
    };
    let job = traffic.job(case.limit)?;
    Ok(job
        .connections(case.flows)
        .segments()
        .report_every(WINDOW / 2))
}

/// A limit that changes: to this one.
fn change(case: &Case) -> Result<Outcome> {
    let lab = Lab::with_round_trip(Duration::from_millis(case.round_trip))?;
    let flow = Flow::start(&lab, job(case)?, case.direction, Family::V4)?;
    give_way(&flow)?;
    let limiting = Engine::start()?;
    let pid = flow.near().pid();
    let set_to = |rate| limiting.set(pid, case.direction, rate);
    let before = match case.change {
        Change::Lowered => 10 * case.limit,
        Change::Raised => case.limit / 10,
        _ => case.limit,
    };
    (set_to(before)? + 2 * BEFORE).wait();
    let from = Moment::now();
    let mut set = from;
    match case.change {
        Change::Twenty => {
            for number in 0..20 {
                let rate = if number % 2 == 0 {
                    case.limit / 2
                } else {
                    case.limit
                };
                set = set_to(rate)?;
                (set + SECOND / 2).wait();
            }
        }
        Change::Toggled => {
            limiting.lift(pid, case.direction)?;
            (Moment::now() + SECOND).wait();
            set = set_to(case.limit)?;
        }
        _ => set = set_to(case.limit)?,
    }
    let from = if case.change == Change::Toggled {
        set
    } else {
        from
    };
    outcome(case, flow.receiver(), flow.sender(), from, set)
}

/// A flow that joins those of a limited process, which accepts all of them.
fn join(case: &Case) -> Result<Outcome> {
    let lab = Lab::with_round_trip(Duration::from_millis(case.round_trip))?;
    let near = lab
        .near()
        .traffic(job(case)?.listen(lab.near().any_port(Family::V4)))?;
    let address = near.address()?;
    let eight = lab.far().traffic(job(case)?.connect(address).send())?;
    let limiting = Engine::start()?;
    (limiting.set(near.pid(), case.direction, case.limit)? + 2 * BEFORE).wait();
    let joined = Moment::now();
    let _ninth = lab
        .far()
        .traffic(job(case)?.connections(1).connect(address).send())?;
    outcome(case, &near, &eight, joined, joined)
}

/// What came of a limit since it was set at that moment, and was sent again since `from`.
fn outcome(
    case: &Case,
    receiver: &Peer,
    sender: &Peer,
    from: Moment,
    set: Moment,
) -> Result<Outcome> {
    let end = set + SECOND * SECONDS;
    let arrivals = receiver.received_until(end).context("the receiver")?;
    sender.received_until(end).context("the sender")?;
    let counted = sender.segments_between(from, end)?;
    let (segments, again) = counted.context("no segments were counted")?;
    let seconds = arrivals.rates(set, end, SECOND)?;
    let drawn = Moment::from_nanoseconds(set.nanoseconds() - DRAWN.as_nanos() as u64);
    let rates = arrivals.rates(drawn, end, WINDOW)?;
    Ok(Outcome {
        seconds: (seconds.iter())
            .map(|second| second / case.limit as f64)
            .collect(),
        again,
        segments,
        rates: rates.into_iter().map(|rate| rate.round() as u64).collect(),
    })
}

/// Makes both ends of a flow give way, each with all its threads: eight flows at full speed leave an emulated
/// processor little time to start anything else.
fn give_way(flow: &Flow) -> Result<()> {
    for peer in [flow.near(), flow.far()] {
        for thread in fs::read_dir(format!("/proc/{}/task", peer.pid()))? {
            let thread = thread?.file_name();
            let number = thread.to_str().and_then(|number| number.parse().ok());
            let thread = number.and_then(Pid::from_raw).context("a thread's id")?;
            setpriority_process(Some(thread), 19)?;
        }
    }
    Ok(())
}
