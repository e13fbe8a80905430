//! A flow under a limit: one cell of a table.

use std::{fmt, time::Duration};

use anyhow::{Context, Result};
use kernel_tests::{
    flow::{Direction, Flow},
    lab::{Family, Lab},
    moment::Moment,
    peer::Job,
    product::Limiter,
};
use serde::{Deserialize, Serialize};

use crate::{
    disturbance::{self, Sleeper},
    mechanism::{InForce, Mechanism},
    progress,
    results::Output,
    table::{deviation, mean},
};

/// What happens before this is not judged…
pub const SETTLING: Duration = Duration::from_secs(2);
/// …and this long is.
pub const JUDGED: Duration = Duration::from_secs(10);
/// Windows for the coefficient of variation, and of the plots.
pub const WINDOW: Duration = Duration::from_millis(100);

/// How often a disturbed measurement is made.
const ATTEMPTS: usize = 3;

/// What is transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Traffic {
    /// TCP under CUBIC.
    Cubic,
    /// TCP under BBR.
    Bbr,
    /// UDP, sent at four times the limit.
    Udp,
    /// QUIC, quinn's.
    Quic,
}

impl Traffic {
    /// What the traffic program shall do.
    pub fn job(self, limit: u64) -> Result<Job> {
        Ok(match self {
            Self::Cubic => Job::tcp(),
            Self::Bbr => Job::tcp().congestion_control("bbr"),
            Self::Udp => Job::udp().rate(4 * limit),
            Self::Quic => Job::quic()?,
        })
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cubic => "CUBIC",
            Self::Bbr => "BBR",
            Self::Udp => "UDP",
            Self::Quic => "QUIC",
        })
    }
}

/// What is measured in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// What limits.
    pub mechanism: Mechanism,
    /// Bytes a second.
    pub limit: u64,
    /// Milliseconds.
    pub round_trip: u64,
    /// What is transferred.
    pub traffic: Traffic,
    /// Connections of the one process.
    pub flows: u32,
    /// Which way.
    pub direction: Direction,
    /// IPv4 or IPv6.
    pub family: Family,
}

impl Case {
    /// One CUBIC flow over IPv4 under chadthrottle, for others to differ from.
    pub fn plain(limit: u64, round_trip: u64, direction: Direction) -> Self {
        Self {
            mechanism: Mechanism::Chadthrottle,
            limit,
            round_trip,
            traffic: Traffic::Cubic,
            flows: 1,
            direction,
            family: Family::V4,
        }
    }
}

/// A cell, measured once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// What was measured.
    pub case: Case,
    /// What came out, or what went wrong.
    pub outcome: Result<Outcome, String>,
}

/// What came out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// At the receiver, in bytes a second, while it was judged.
    pub goodput: f64,
    /// Of the goodput of windows of 100 ms: standard deviation in parts of the mean.
    pub variation: f64,
    /// Of the sender's segments while it was judged, those that were sent again; nothing for UDP.
    pub repeated: Option<f64>,
    /// How late the machine woke a sleeper meanwhile (see [`disturbance`]), in milliseconds.
    pub lateness: f64,
    /// Bytes a second in every window, from when the flow was told to go.
    pub rates: Vec<u64>,
}

impl Cell {
    /// Goodput in percent of the limit.
    pub fn percent(&self) -> Option<f64> {
        let outcome = self.outcome.as_ref().ok()?;
        Some(outcome.goodput / self.case.limit as f64 * 100.0)
    }

    /// Whether the machine was not quiet meanwhile.
    pub fn is_disturbed(&self) -> bool {
        let quiet = disturbance::QUIET.as_secs_f64() * 1e3;
        self.lateness().is_some_and(|late| late > quiet)
    }

    /// How late the machine woke a sleeper, in milliseconds.
    pub fn lateness(&self) -> Option<f64> {
        Some(self.outcome.as_ref().ok()?.lateness)
    }
}

/// How the bytes a second of a limit are written.
pub fn rate(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB/s", bytes as f64 / 1e3),
        _ => format!("{} MB/s", bytes as f64 / 1e6),
    }
}

/// Measures all cases, so many at once, and keeps each cell. The limits are in force before the
/// flows begin. What was disturbed by something else on the machine is measured again.
pub fn measure(cases: &[Case], at_once: usize, out: &Output) -> Result<()> {
    let mut done = 0;
    for cases in cases.chunks(at_once) {
        progress(&format!("  cells {} to {}", done + 1, done + cases.len()));
        let mut quietest: Option<Vec<Cell>> = None;
        for _ in 0..ATTEMPTS {
            let cells = measure_at_once(cases);
            for cell in &cells {
                progress(&format!("    {}", in_words(cell)));
            }
            let was_quiet = !cells.iter().any(Cell::is_disturbed);
            if quietest
                .as_ref()
                .is_none_or(|before| lateness(&cells) < lateness(before))
            {
                quietest = Some(cells);
            }
            if was_quiet {
                break;
            }
            progress("    disturbed");
        }
        for cell in quietest.iter().flatten() {
            out.keep(cell)?;
        }
        done += cases.len();
    }
    Ok(())
}

/// Of cells that were measured together; without end if all failed.
fn lateness(cells: &[Cell]) -> f64 {
    let late = cells.iter().filter_map(Cell::lateness);
    late.reduce(f64::max).unwrap_or(f64::INFINITY)
}

fn in_words(cell: &Cell) -> String {
    let case = cell.case;
    let outcome = match (&cell.outcome, cell.percent()) {
        (Ok(outcome), Some(percent)) => format!(
            "{percent:.1} %, CoV {:.3}, late {:.0} ms, again {}",
            outcome.variation,
            outcome.lateness,
            outcome
                .repeated
                .map_or("-".to_owned(), |share| format!("{:.2} %", share * 100.0))
        ),
        (Err(error), _) => error.clone(),
        (Ok(_), None) => String::new(),
    };
    format!(
        "{} {} {} ms {} × {} {:?} {:?}: {outcome}",
        case.mechanism,
        rate(case.limit),
        case.round_trip,
        case.flows,
        case.traffic,
        case.direction,
        case.family
    )
}

/// A flow that waits to be told to go.
struct Ready {
    flow: Flow,
    _in_force: InForce,
    _lab: Lab,
}

fn measure_at_once(cases: &[Case]) -> Vec<Cell> {
    let ready: Vec<Result<Ready>> = cases.iter().map(prepare).collect();
    let outcomes = match limit(cases, &ready) {
        Ok(_limiters) => {
            let running: Vec<Result<_>> = ready
                .into_iter()
                .map(|ready| {
                    let mut ready = ready?;
                    ready.flow.near_mut().go()?;
                    Ok((ready, Moment::now()))
                })
                .collect();
            let sleeper = Sleeper::start();
            // All are there until the last is judged.
            let mut outcomes: Vec<_> = running
                .iter()
                .map(|running| match running {
                    Ok((ready, start)) => judge(&ready.flow, *start),
                    Err(error) => Err(anyhow::anyhow!("{error:#}")),
                })
                .collect();
            drop(running);
            let lateness = sleeper.lateness().as_secs_f64() * 1e3;
            for outcome in outcomes.iter_mut().flatten() {
                outcome.lateness = lateness;
            }
            outcomes
        }
        Err(error) => cases
            .iter()
            .map(|_| Err(anyhow::anyhow!("{error:#}")))
            .collect(),
    };
    cases
        .iter()
        .zip(outcomes)
        .map(|(case, outcome)| Cell {
            case: *case,
            outcome: outcome.map_err(|error: anyhow::Error| format!("{error:#}")),
        })
        .collect()
}

fn prepare(case: &Case) -> Result<Ready> {
    let lab = Lab::with_round_trip(Duration::from_millis(case.round_trip))?;
    let in_force = case
        .mechanism
        .put_in_force(&lab, case.limit, case.direction)?;
    let mut job = case.traffic.job(case.limit)?;
    if case.mechanism == Mechanism::Trickle {
        job = job.without_cloexec();
    }
    let job = job
        .connections(case.flows)
        .segments()
        .report_every(WINDOW / 2);
    let through = case.mechanism.launcher(case.limit);
    let flow = Flow::waiting(&through, &lab, job, case.direction, case.family)?;
    Ok(Ready {
        flow,
        _in_force: in_force,
        _lab: lab,
    })
}

/// One chadthrottle for each limit and direction, as the programs of several would add up.
fn limit(cases: &[Case], ready: &[Result<Ready>]) -> Result<Vec<Limiter>> {
    let mut groups: Vec<(u64, Direction, Vec<u32>)> = Vec::new();
    for (case, ready) in cases.iter().zip(ready) {
        let (true, Ok(ready)) = (case.mechanism.is_ours(), ready) else {
            continue;
        };
        let pid = ready.flow.near().pid();
        match groups
            .iter_mut()
            .find(|group| group.0 == case.limit && group.1 == case.direction)
        {
            Some((_, _, pids)) => pids.push(pid),
            None => groups.push((case.limit, case.direction, vec![pid])),
        }
    }
    groups
        .into_iter()
        .map(|(limit, direction, pids)| {
            Limiter::start(&pids, &[direction.option(), &limit.to_string()])
        })
        .collect()
}

fn judge(flow: &Flow, start: Moment) -> Result<Outcome> {
    let from = start + SETTLING;
    let to = from + JUDGED;
    let arrivals = flow.receiver().received_until(to).context("the receiver")?;
    let goodput = arrivals.rate(from, to)?;
    let windows = arrivals.rates(from, to, WINDOW)?;
    let sender = flow.sender();
    // Only to wait for its report.
    sender.received_until(to).context("the sender")?;
    let repeated = sender
        .segments_between(from, to)?
        .map(|(segments, repeated)| repeated / segments.max(1.0));
    let rates = arrivals.rates(start, to, WINDOW)?;
    Ok(Outcome {
        goodput,
        variation: deviation(&windows) / mean(&windows),
        repeated,
        lateness: 0.0,
        rates: rates.into_iter().map(|rate| rate.round() as u64).collect(),
    })
}
