//! Transfers over a link that somebody else's traffic shares.

use std::{ops::Range, time::Duration};

use crate::{
    flow::Direction,
    lab::{End, Family},
    moment::Moment,
    peer::{Job, Peer},
    process::Place,
};
use anyhow::Result;

const SECOND: Duration = Duration::from_secs(1);

/// Payload in a packet of a link, which counts Ethernet's header.
pub const PAYLOAD: f64 = 1448.0 / 1514.0;

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

    /// The other end's.
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
