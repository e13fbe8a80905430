//! How soon a flow that runs as fast as it goes is limited, and free again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::{
    flow::{Direction, Flow},
    lab::{Family, Lab},
    outcome::is_slow,
    peer::Job,
    product::Limiter,
};

/// The limit.
const RATE: f64 = 1e6;

/// How it went, in bytes and seconds.
pub struct Reaction {
    /// Bytes a second before.
    pub before: f64,
    /// From the word that the limit is in force until it was kept.
    pub limited_after: f64,
    /// From SIGTERM until the limiter was gone.
    pub ended_after: f64,
    /// From then until the flow was fast again.
    pub free_after: f64,
}

impl Reaction {
    /// Limits a running flow to 1 MB/s for that time, then frees it.
    pub fn measure(direction: Direction, limited_for: Duration) -> Result<Self> {
        let lab = Lab::new()?;
        let job = match is_slow() {
            // Emulated processors that are kept busy leave megabytes in queues, to be read later.
            true => Job::busy(),
            false => Job::tcp(),
        };
        let job = job.report_every(Duration::from_millis(5));
        let flow = Flow::start(&lab, job, direction, Family::V4)?;
        let before = flow.goodput_for(Duration::from_secs(1))?;
        // Fast, and twice as fast at least as what a limit lets through at once.
        let fast = (20.0 * RATE).min(before / 2.0);
        ensure!(fast > 2.0 * RATE, "only {before} B/s without a limit");

        let limiter = Limiter::start(&[flow.near().pid()], &[direction.option(), "1M"])?;
        let applied = limiter.applied();
        let arrivals = flow.receiver().received_until(applied + limited_for)?;
        let ended = limiter.end(Signal::TERM)?;
        // A virtual queue of 350 ms may be used up at once.
        let kept = arrivals
            .kept_from(RATE * 1.1, RATE * 0.4)
            .context("no samples")?;

        let window = Duration::from_millis(20);
        let enough = ended.gone + Duration::from_secs(2);
        let free = flow
            .receiver()
            .received_until(enough)?
            .faster_from(ended.gone, window, fast)
            .context("it stayed limited")?;
        Ok(Self {
            before,
            limited_after: kept.seconds_since(applied),
            ended_after: ended.gone.seconds_since(ended.signalled),
            free_after: free.seconds_since(ended.gone),
        })
    }
}
