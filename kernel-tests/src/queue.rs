//! Queueing disciplines of a lab's devices, and what they do to round trips.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result};

use crate::{
    TestResult,
    lab::{End, Lab},
    outcome::skipped,
    quantiles::Quantiles,
};

/// How our qdiscs are told from others' (`chadthrottle/src/pacing/plan.rs`).
pub const OURS: &str = "qdisc fq cd7a:";

/// Runs `tc` at an end.
pub fn tc(end: &End, arguments: &str) -> Result<String> {
    let mut command = Command::new("tc");
    command.args(arguments.split(' '));
    end.run(command)
}

/// Whether the kernel has fq.
pub fn has_fq(lab: &Lab) -> Result<bool> {
    if tc(lab.near(), "qdisc add dev lo root fq").is_err() {
        return Ok(false);
    }
    tc(lab.near(), "qdisc del dev lo root")?;
    Ok(true)
}

/// Runs a test in a lab, if the kernel has fq; it counts as skipped on another.
pub fn with_fq(test: impl FnOnce(&Lab) -> TestResult) -> TestResult {
    let lab = Lab::new()?;
    if !has_fq(&lab)? {
        skipped("the kernel has no sch_fq");
        return Ok(());
    }
    test(&lab)
}

/// The same with a round trip of a real network. What the far end sends is delayed: the near end's
/// device must keep the kernel's own qdisc, so that it can get fq.
pub fn with_fq_and_round_trip(time: Duration, test: impl FnOnce(&Lab) -> TestResult) -> TestResult {
    with_fq(|lab| {
        let milliseconds = time.as_millis();
        let netem = format!("qdisc add dev lab root netem delay {milliseconds}ms limit 100000");
        if tc(lab.far(), &netem).is_err() {
            skipped("the kernel has no sch_netem");
            return Ok(());
        }
        test(lab)
    })
}

/// The smoothed round trip in seconds that each TCP connection at an end has measured.
pub fn tcp_round_trips(end: &End) -> Result<Vec<f64>> {
    let mut ss = Command::new("ss");
    // One line for each, without a heading, with what TCP knows.
    ss.args(["-tinHO"]);
    let list = end.run(ss)?;
    let of_line = |line: &str| -> Result<f64> {
        // … rtt:20.431/0.25 …
        let words = line.split_whitespace();
        let time = words.clone().find_map(|word| word.strip_prefix("rtt:"));
        let (mean, _) = (time.and_then(|time| time.split_once('/')))
            .with_context(|| format!("no round trip in: {line}"))?;
        Ok(mean.parse::<f64>()? / 1e3)
    };
    list.lines().map(of_line).collect()
}

/// Round trips that a process measured, in seconds.
#[derive(Clone, Debug)]
pub struct RoundTrips(Quantiles);

impl RoundTrips {
    /// In any order; there must be one.
    pub fn new(times: Vec<f64>) -> Result<Self> {
        Quantiles::new(times).map(Self).context("round trips")
    }

    /// The time that this share of them does not exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        self.0.at(share)
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The longest.
    pub fn longest(&self) -> f64 {
        self.quantile(1.0)
    }
}

impl std::fmt::Display for RoundTrips {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "median {:.2} ms, 95 % {:.2} ms, longest {:.2} ms",
            self.median() * 1e3,
            self.quantile(0.95) * 1e3,
            self.longest() * 1e3
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measured_values() {
        let times = RoundTrips::new((1..=101).rev().map(f64::from).collect()).unwrap();
        assert_eq!(times.median(), 51.0);
        assert_eq!(times.quantile(0.95), 96.0);
        assert_eq!(times.longest(), 101.0);
        assert!(RoundTrips::new(Vec::new()).is_err());
    }
}
