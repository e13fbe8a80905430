//! Transfers over a link that somebody else's traffic shares.

use std::{ops::Range, time::Duration};

use anyhow::Result;
use kernel_tests::{
    bottleneck::Bottleneck,
    flow::Direction,
    lab::Family,
    moment::Moment,
    peer::{Job, Peer},
    process::Place,
};

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
    /// Starts one between this place and the far end.
    pub fn start(
        lab: &Bottleneck,
        place: Place<'_>,
        direction: Direction,
        flows: u32,
    ) -> Result<Self> {
        let job = || Job::tcp().at_most(Duration::from_secs(180));
        let listen = job().listen(lab.far().any_port(Family::V4));
        let download = direction == Direction::Download;
        let far = lab
            .far()
            .traffic(if download { listen.send() } else { listen })?;
        let connect = job().connect(far.address()?).connections(flows);
        let near = if download { connect } else { connect.send() };
        Ok(Self {
            near: Peer::start(near, place)?,
            far,
            direction,
        })
    }

    /// Bytes a second that arrived in each of these seconds since then.
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
