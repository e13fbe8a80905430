//! Limits that come while traffic runs: how soon they are kept, and what is sent again for them.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use kernel_tests::{
    flow::{Direction, Flow},
    lab::{Family, Lab},
    moment::Moment,
    product::Limiter,
};
use rustix::process::{Pid, setpriority_process};
use serde::{Deserialize, Serialize};

use crate::{
    cell::{Traffic, WINDOW, rate},
    mechanism::{InForce, Mechanism},
    plot::{Panel, Plot},
    progress,
    results::{Output, Part, of_all},
    table::{Table, mean},
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
    }
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

/// The same where somebody chose cake.
pub fn measure_cake(out: &Output) -> Result<()> {
    measure_all(&policed(true), out)
}

/// Measures landings, one after the other.
pub fn measure_all(cases: &[Case], out: &Output) -> Result<()> {
    for case in cases {
        let outcome = land(case).map_err(|error| format!("{error:#}"));
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
    let traffic = match case.sender {
        Sender::Cubic | Sender::Ecn => Traffic::Cubic,
        Sender::Bbr => Traffic::Bbr,
    };
    let job = (traffic.job(case.limit)?)
        .connections(case.flows)
        .segments()
        .report_every(WINDOW / 2);
    let flow = Flow::start(&lab, job, case.direction, Family::V4)?;
    for peer in [flow.near(), flow.far()] {
        give_way(peer.pid())?;
    }
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
    let end = set + SECOND * SECONDS;
    let arrivals = flow
        .receiver()
        .received_until(end)
        .context("the receiver")?;
    flow.sender().received_until(end).context("the sender")?;
    let counted = flow.sender().segments_between(set, end)?;
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

/// Makes all threads of a process give way: eight flows at full speed leave an emulated processor little
/// time to start anything else.
fn give_way(pid: u32) -> Result<()> {
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.file_name();
        let number = thread.to_str().and_then(|number| number.parse().ok());
        let thread = number.and_then(Pid::from_raw).context("a thread's id")?;
        setpriority_process(Some(thread), 19)?;
    }
    Ok(())
}

/// Words of a figure, bold where it misses.
fn figure(text: String, met: bool, missed: &mut usize) -> String {
    if met {
        text
    } else {
        *missed += 1;
        format!("**{text}**")
    }
}

/// The text, and the pictures.
pub fn render(parts: &[Part<Landing>]) -> (String, Vec<Plot>) {
    let landings = of_all(parts);
    let ours = |landing: &&Landing| landing.case.mechanism != Mechanism::Htb;
    let mut missed = 0;
    let mut tables = String::new();
    for (name, cake, mechanism, limits) in [
        ("paced", false, Mechanism::Chadthrottle, &LIMITS[..]),
        ("policed, no fq", false, Mechanism::Policing, &POLICED[..]),
        ("policed, cake", true, Mechanism::Chadthrottle, &POLICED[..]),
    ] {
        for limit in limits {
            let mut table = Table::new(&[
                &format!("{}, {name}", rate(*limit)),
                "worst second",
                "mean of 10 s",
                "sent again",
            ]);
            let these = landings.iter().filter(|landing| {
                let case = &landing.case;
                (case.cake, case.mechanism, case.limit) == (cake, mechanism, *limit)
            });
            let mut any = false;
            for landing in these {
                any = true;
                table.row(&row(landing, &mut missed));
            }
            if any {
                tables.push_str(&table.below(""));
            }
        }
    }
    let text = format!(
        "A flow, or eight of one process, runs at full speed for 3 s; then it is limited. The worst \
         of the ten seconds from one second after, as a part of the limit; their mean; and the \
         segments sent again from the moment of the limit to the end. Promised are seconds within \
         5 % (10 % below 1.25 MB/s and where it is policed), a mean within 2 % (5 %), and at most \
         0.1 % of the segments sent again (2 %), or 10. {missed} figures of {} landings miss.\n\n\
         A veth pair drops some of what eight fast senders give it, before any limit: that is sent again \
         in the first seconds of uploads, and counted here. BBR empties its path every 10 s \
         (PROBE_RTT), in whatever second that is. Where acknowledgements can't be held, a flow \
         without a round trip is held by its sender's persist timer, and a second has four or five of its \
         rounds.\n",
        landings.iter().filter(ours).count()
    );
    (format!("{text}\n{tables}"), vec![plot(&landings)])
}

fn row(landing: &Landing, missed: &mut usize) -> Vec<String> {
    let case = &landing.case;
    let many = if case.flows == 1 { "" } else { "8 × " };
    let sender = match case.sender {
        Sender::Cubic => "CUBIC",
        Sender::Ecn => "CUBIC with ECN",
        Sender::Bbr => "BBR",
    };
    let direction = case.direction;
    let name = format!("{direction:?}, {many}{sender}, {} ms", case.round_trip);
    let Ok(outcome) = &landing.outcome else {
        *missed += 3;
        return vec![name, "failed".into(), "failed".into(), "failed".into()];
    };
    let (worst, mean) = (outcome.worst(), mean(outcome.judged()));
    // Judged as it is shown.
    let near = |figure: f64, digits: i32, most: f64| {
        let unit = 10_f64.powi(digits);
        ((figure * unit).round() / unit - 1.0).abs() <= most + 1e-9
    };
    let together = if case.is_policed() { 0.05 } else { 0.02 };
    vec![
        name,
        figure(
            format!("{worst:.2}"),
            near(worst, 2, case.tolerance()),
            missed,
        ),
        figure(format!("{mean:.3}"), near(mean, 3, together), missed),
        figure(
            format!("{:.0} of {:.0}", outcome.again, outcome.segments),
            outcome.again <= outcome.may_repeat(case),
            missed,
        ),
    ]
}

/// One CUBIC flow over 20 ms, beside HTB and IFB.
fn plot(landings: &[Landing]) -> Plot {
    let lines = [Mechanism::Chadthrottle, Mechanism::Htb];
    let panels = LIMITS.into_iter().flat_map(|limit| {
        Direction::ALL.map(|direction| {
            let rates = lines.map(|mechanism| {
                let case = beside(limit, direction, mechanism);
                let landing = landings.iter().find(|landing| landing.case == case)?;
                let rates = &landing.outcome.as_ref().ok()?.rates;
                let percent = |rate: &u64| *rate as f64 / limit as f64 * 100.0;
                Some(rates.iter().map(percent).collect())
            });
            Panel {
                title: format!("{direction:?}, {}, from 1 s before", rate(limit)),
                rates: rates.to_vec(),
                window: WINDOW,
            }
        })
    });
    Plot {
        name: "landing",
        lines: lines.map(|mechanism| mechanism.to_string()).to_vec(),
        panels: (panels)
            .filter(|panel| panel.rates.iter().any(Option::is_some))
            .collect(),
    }
}
