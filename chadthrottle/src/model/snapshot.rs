//! What the engine shows of the world: one immutable picture a sample.

use std::{
    cmp::Reverse,
    sync::Arc,
    time::{Duration, SystemTime},
};

use chadthrottle_common::traffic::Direction;
use serde::{Deserialize, Serialize};

use super::{
    connections::Watched,
    direction::PerDirection,
    limit::{EffectiveLimits, LimitId, LimitRow, LimitState, Mechanism},
    link::Link,
    notice::Notice,
    process::{Identity, Pid, ProcessKey},
    uplink::Devices,
};
use crate::rate::{Bytes, Rate};

/// A process, as the table shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessRow {
    /// Which process this is, for commands.
    pub key: ProcessKey,
    /// Its name (`/proc/PID/comm`).
    pub name: Arc<str>,
    /// Its program file; empty when it can't be known (a kernel thread, or gone too fast).
    pub exe: Arc<str>,
    /// Its arguments, joined by spaces; empty when they can't be known.
    #[serde(default)]
    pub command_line: Arc<str>,
    /// Its user's name, else its number.
    pub user: Arc<str>,
    /// Its user's number, if it is known.
    pub uid: Option<u32>,
    /// Its cgroup v2 path; empty when it can't be known.
    pub cgroup: Arc<str>,
    /// Open inet sockets.
    pub connections: u32,
    /// Payload since it was first seen.
    pub bytes: PerDirection<Bytes>,
    /// Payload a second over the last interval.
    pub rate: PerDirection<Rate>,
    /// Which limits count for it.
    pub limits: EffectiveLimits,
    /// What they do to all of its traffic; where local traffic has others, to its internet traffic.
    pub limit: Option<LimitState>,
    /// What they do to its local traffic, where that has others.
    pub local_limit: Option<LimitState>,
    /// It has ended; what it moved stays readable for a while.
    pub ended: bool,
}

impl ProcessRow {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.key.pid
    }

    /// Whether no rule is for it: if it is limited all the same, it is one of everybody else, and waits for what is important.
    pub fn is_without_rules(&self) -> bool {
        self.limits.parts().next().is_none()
    }

    /// The process as rules see it.
    pub fn identity(&self) -> Identity {
        Identity {
            key: self.key,
            name: self.name.clone(),
            exe: self.exe.clone(),
            command_line: self.command_line.clone(),
            user: self.user.clone(),
            uid: self.uid,
            cgroup: self.cgroup.clone(),
            kernel_thread: false,
        }
    }

    /// The key that puts those that move most now first, then those that moved most so far.
    pub fn by_rate(&self) -> (Reverse<u64>, Reverse<u64>, ProcessKey) {
        let (download, upload) = (self.bytes.download.count(), self.bytes.upload.count());
        let total = download.saturating_add(upload);
        (Reverse(self.total_rate()), Reverse(total), self.key)
    }

    /// Both directions together.
    pub fn total_rate(&self) -> u64 {
        self.rate
            .download
            .bytes_per_second()
            .saturating_add(self.rate.upload.bytes_per_second())
    }
}

/// One sample of everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Counts samples. A snapshot with the number of the one before shows the same readings, after
    /// a command was carried out.
    pub sequence: u64,
    /// When it was taken.
    pub time: SystemTime,
    /// How long since the one before.
    pub interval: Duration,
    /// All inet payload since the start, attributed or not. Traffic between two processes of
    /// this machine counts as one's upload and the other's download.
    pub total: PerDirection<Bytes>,
    /// The same a second, over the interval.
    pub total_rate: PerDirection<Rate>,
    /// What the devices carried.
    #[serde(default)]
    pub devices: Devices,
    /// The link by which background traffic goes, if there is any.
    #[serde(default)]
    pub link: Option<Link>,
    /// What of the total belongs to no known process.
    pub unattributed: PerDirection<Bytes>,
    /// Every process that has inet sockets, or had traffic or a limit lately. In no order.
    pub processes: Vec<ProcessRow>,
    /// Every limit in force, those that come first first.
    pub limits: Vec<LimitRow>,
    /// How limits are enforced; without any, how they would be.
    pub mechanism: Mechanism,
    /// Why not all of them are paced; nothing when they are.
    pub why_policing: Option<String>,
    /// The latest notices, oldest first.
    pub notices: Vec<Notice>,
    /// What somebody asked for besides ([`Command::Watch`](super::command::Command::Watch)).
    pub watched: Watched,
}

impl Snapshot {
    /// Before anything was seen.
    pub fn empty(time: SystemTime) -> Self {
        Self {
            sequence: 0,
            time,
            interval: Duration::ZERO,
            total: PerDirection::default(),
            total_rate: PerDirection::default(),
            devices: Devices::default(),
            link: None,
            unattributed: PerDirection::default(),
            processes: Vec::new(),
            limits: Vec::new(),
            mechanism: Mechanism::Pacing,
            why_policing: None,
            notices: Vec::new(),
            watched: Watched::default(),
        }
    }

    /// The part of everything since the start that belongs to known processes, 0 to 1; 1 when there was nothing.
    /// Everything is the payload of all sockets, and what devices carried besides.
    pub fn coverage(&self) -> f64 {
        let sum = |d: PerDirection<Bytes>| d.download.count() as f64 + d.upload.count() as f64;
        let besides = self.devices.unaccounted().count() as f64;
        let total = sum(self.total) + besides;
        if total == 0.0 {
            1.0
        } else {
            (1.0 - (sum(self.unattributed) + besides) / total).clamp(0.0, 1.0)
        }
    }

    /// What the machine moves in a direction: what its devices carried, or all inet payload where they don't tell.
    pub fn moved(&self, direction: Direction) -> (Rate, Bytes) {
        match self.devices.carried() {
            Some(carried) => *carried.get(direction),
            None => (*self.total_rate.get(direction), *self.total.get(direction)),
        }
    }

    /// How many processes are limited.
    pub fn limited(&self) -> usize {
        let rows = self.processes.iter();
        rows.filter(|row| row.limit.is_some() || row.local_limit.is_some())
            .count()
    }

    /// The limit in force with this number.
    pub fn limit(&self, id: LimitId) -> Option<&LimitRow> {
        self.limits.iter().find(|limit| limit.id == id)
    }
}
