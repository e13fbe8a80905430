//! Transfers over a link that somebody else's traffic shares, and how long packets take beside them.

use std::{ops::Range, time::Duration};

use crate::{
    flow::Direction,
    lab::{End, Family},
    moment::Moment,
    peer::{Job, Peer},
    process::Place,
    queue::RoundTrips,
    table::mean,
};
use anyhow::Result;

const SECOND: Duration = Duration::from_secs(1);

/// Payload in a packet of a link, which counts Ethernet's header.
const PAYLOAD: f64 = 1448.0 / 1514.0;

/// So much of it a link of so many Mbit/s carries, in bytes a second.
pub fn payload(megabits: u32) -> f64 {
    f64::from(megabits) * 125_000.0 * PAYLOAD
}

/// How long a plain transfer is watched that is alone, after its first seconds, and how long queues have to drain then.
const ALONE: u32 = 7;
const ALONE_FROM: u32 = 2;
const PAUSE: Duration = Duration::from_secs(3);

/// How long so many small datagrams take from an end to where `echo` sends them back, and until they are there again.
///
/// # Errors
///
/// A program does not start, or an answer does not come in a minute.
pub fn pings(from: &End, echo: &Peer, count: u32) -> Result<RoundTrips> {
    let ping = from.traffic(Job::ping(count).connect(echo.address()?))?;
    ping.round_trips(Duration::from_secs(60))
}

/// A transfer between two ends, and who of them counts.
pub struct Transfer {
    near: Peer,
    far: Peer,
    direction: Direction,
}

impl Transfer {
    /// Starts one between a place and another end.
    ///
    /// # Errors
    ///
    /// A program does not start.
    pub fn start(other: &End, place: Place<'_>, direction: Direction, flows: u32) -> Result<Self> {
        Self::start_with(other, place, direction, flows, None)
    }

    /// The same, by another congestion control than the usual one.
    ///
    /// # Errors
    ///
    /// A program does not start, or the kernel does not have it.
    pub fn start_with(
        other: &End,
        place: Place<'_>,
        direction: Direction,
        flows: u32,
        algorithm: Option<&str>,
    ) -> Result<Self> {
        let job = || {
            let job = Job::tcp().at_most(Duration::from_secs(180));
            match algorithm {
                Some(algorithm) => job.congestion_control(algorithm),
                None => job,
            }
        };
        let listen = job().listen(other.any_port(Family::V4));
        let download = direction == Direction::Download;
        let far = other.traffic(if download { listen.send() } else { listen })?;
        let connect = job().connect(far.address()?).connections(flows);
        let near = if download { connect } else { connect.send() };
        Ok(Self {
            near: Peer::start(near, place)?,
            far,
            direction,
        })
    }

    /// Bytes a second that a plain flow has, in the mean. Returns when nothing of it waits any more.
    ///
    /// # Errors
    ///
    /// A program does not start, or ends.
    pub fn alone(other: &End, place: Place<'_>, direction: Direction) -> Result<f64> {
        let begin = Moment::now();
        let flow = Self::start(other, place, direction, 1)?;
        let rate = mean(&flow.seconds(begin, ALONE_FROM..ALONE)?);
        drop(flow);
        (Moment::now() + PAUSE).wait();
        Ok(rate)
    }

    /// The port of the other end.
    ///
    /// # Errors
    ///
    /// It does not listen.
    pub fn port(&self) -> Result<u16> {
        Ok(self.far.address()?.port())
    }

    /// Bytes a second that arrived in each of these seconds since then. Waits for the last one's end.
    ///
    /// # Errors
    ///
    /// The receiver has ended.
    pub fn seconds(&self, begin: Moment, seconds: Range<u32>) -> Result<Vec<f64>> {
        let receiver = match self.direction {
            Direction::Download => &self.near,
            Direction::Upload => &self.far,
        };
        let end = begin + SECOND * seconds.end;
        let arrived = receiver.received_until(end)?;
        seconds
            .map(|second| {
                let from = begin + SECOND * second;
                arrived.rate(from, from + SECOND)
            })
            .collect()
    }
}
