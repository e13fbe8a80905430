//! A transfer between the two ends of a lab.

use std::{fmt, process::Command};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{
    lab::{Family, Lab},
    moment::Moment,
    peer::{Job, Peer},
    process::Place,
};

/// Which way the payload goes, seen from the near end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Near receives.
    Download,
    /// Near sends.
    Upload,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Download, Self::Upload];

    /// The option of `chadthrottle limit`.
    pub fn option(self) -> &'static str {
        match self {
            Self::Download => "--download",
            Self::Upload => "--upload",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Download => "download",
            Self::Upload => "upload",
        })
    }
}

/// Near connects to far; one of them sends, the other counts.
pub struct Flow {
    near: Peer,
    far: Peer,
    direction: Direction,
}

impl Flow {
    /// Starts a transfer of the kind that `job` makes ([`Job::tcp`] or [`Job::udp`] with its
    /// settings), from the near end's cgroup.
    pub fn start(lab: &Lab, job: Job, direction: Direction, family: Family) -> Result<Self> {
        Self::start_in(lab.near().place(), lab, job, direction, family)
    }

    /// The same with the near process in a place of its own.
    pub fn start_in(
        near: Place<'_>,
        lab: &Lab,
        job: Job,
        direction: Direction,
        family: Family,
    ) -> Result<Self> {
        Self::between(lab, job, direction, family, |job| Peer::start(job, near))
    }

    /// The same, but the near process makes no socket before it is told to go, and is started by
    /// a program with arguments that becomes it, if there are any.
    pub fn waiting(
        through: &[String],
        lab: &Lab,
        job: Job,
        direction: Direction,
        family: Family,
    ) -> Result<Self> {
        Self::between(lab, job, direction, family, |job| {
            let traffic = job.wait().command()?;
            let near = match through {
                [] => traffic,
                [program, arguments @ ..] => {
                    let mut command = Command::new(program);
                    command
                        .args(arguments)
                        .arg(traffic.get_program())
                        .args(traffic.get_args());
                    command
                }
            };
            Peer::from_command(near, lab.near().place())
        })
    }

    /// Starts the far end, and the near one as the caller does.
    fn between(
        lab: &Lab,
        job: Job,
        direction: Direction,
        family: Family,
        start_near: impl FnOnce(Job) -> Result<Peer>,
    ) -> Result<Self> {
        let listen = job.clone().listen(lab.far().any_port(family));
        let far = lab.far().traffic(match direction {
            Direction::Download => listen.send(),
            Direction::Upload => listen,
        })?;
        let connect = job.connect(far.address()?);
        let near = start_near(match direction {
            Direction::Download => connect,
            Direction::Upload => connect.send(),
        })?;
        Ok(Self {
            near,
            far,
            direction,
        })
    }

    /// The process to limit.
    pub fn near(&self) -> &Peer {
        &self.near
    }

    /// The same, to tell it something.
    pub fn near_mut(&mut self) -> &mut Peer {
        &mut self.near
    }

    /// The other end.
    pub fn far(&self) -> &Peer {
        &self.far
    }

    /// The end that counts what arrives.
    pub fn receiver(&self) -> &Peer {
        match self.direction {
            Direction::Download => &self.near,
            Direction::Upload => &self.far,
        }
    }

    /// The end that sends.
    pub fn sender(&self) -> &Peer {
        match self.direction {
            Direction::Download => &self.far,
            Direction::Upload => &self.near,
        }
    }

    /// Goodput under a limit that came into force at that moment; waits until it can be known.
    pub fn judged(&self, applied: Moment) -> Result<f64> {
        judged(self.receiver(), applied)
    }

    /// Goodput over the coming time.
    pub fn goodput_for(&self, time: std::time::Duration) -> Result<f64> {
        goodput_between(self.receiver(), Moment::now(), Moment::now() + time)
    }
}

/// Goodput at a receiver under a limit that came into force at that moment; waits until it can be
/// known.
pub fn judged(receiver: &Peer, applied: Moment) -> Result<f64> {
    use crate::goodput::{JUDGED_AFTER, JUDGED_FOR};
    receiver
        .received_until(applied + JUDGED_AFTER + JUDGED_FOR)?
        .judged(applied)
}

/// Goodput at a receiver between two moments; waits for the second.
pub fn goodput_between(receiver: &Peer, from: Moment, to: Moment) -> Result<f64> {
    receiver.received_until(to)?.rate(from, to)
}
