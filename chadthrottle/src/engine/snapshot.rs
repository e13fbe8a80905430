//! What the engine shows of the world: one immutable picture a sample.

use std::{
    cmp::Reverse,
    sync::Arc,
    time::{Duration, SystemTime},
};

use chadthrottle_common::traffic::Direction;
use serde::{Deserialize, Serialize};

use super::connections::Watched;
use crate::{
    process::{Pid, ProcessKey},
    rate::{Bytes, Rate},
    rules::rule::{Rule, Scope, Sharing},
};

/// A value for each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerDirection<T> {
    /// Received by processes of this machine.
    pub download: T,
    /// Sent by them.
    pub upload: T,
}

impl<T: Copy> PerDirection<T> {
    /// A value for each direction.
    pub fn of(mut value: impl FnMut(Direction) -> T) -> Self {
        Self {
            download: value(Direction::Download),
            upload: value(Direction::Upload),
        }
    }

    /// Each value turned into another.
    pub fn map<U: Copy>(self, mut f: impl FnMut(T) -> U) -> PerDirection<U> {
        PerDirection::of(|direction| f(*self.get(direction)))
    }
}

impl<T> PerDirection<T> {
    /// The value of one direction.
    pub fn get(&self, direction: Direction) -> &T {
        match direction {
            Direction::Download => &self.download,
            Direction::Upload => &self.upload,
        }
    }

    /// The value of one direction, to change it.
    pub fn get_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Download => &mut self.download,
            Direction::Upload => &mut self.upload,
        }
    }
}

/// The limits of a target; nothing means unlimited, a rate of 0 means blocked.
pub type Limits = PerDirection<Option<Rate>>;

impl Limits {
    /// Whether neither direction is limited.
    pub fn is_unlimited(&self) -> bool {
        self.download.is_none() && self.upload.is_none()
    }

    /// Whether a direction is limited to nothing at all.
    pub fn is_blocked(&self) -> bool {
        [self.download, self.upload].contains(&Some(Rate::ZERO))
    }
}

/// How limits are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mechanism {
    /// Packets are delayed to their departure time; nothing is lost.
    Pacing,
    /// Packets above the limit's debt bound are dropped.
    Policing,
    /// Pacing on some devices, policing on others.
    Mixed,
}

impl std::fmt::Display for Mechanism {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pacing => f.write_str("pacing"),
            Self::Policing => f.write_str("policing"),
            Self::Mixed => f.write_str("mixed"),
        }
    }
}

/// A limit in force, by a number that is used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LimitId(pub u64);

/// What limits do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// What was let through over the last interval, of the traffic that is limited.
    pub achieved: PerDirection<Rate>,
    /// Payload dropped since the limit came into force.
    pub dropped: PerDirection<Bytes>,
    /// Packets marked as having met congestion, since then.
    pub marked: PerDirection<u64>,
    /// What the limit adds to the round trip now.
    pub delay: PerDirection<Duration>,
    /// How it is enforced.
    pub mechanism: Mechanism,
    /// Why it is not paced, or not everywhere; nothing when it is.
    pub why_policing: Option<String>,
    /// Why the limit is not, or not fully, enforced; nothing when it is.
    pub not_enforced: Option<String>,
}

impl Effect {
    /// Nothing has been done yet.
    pub fn none(mechanism: Mechanism) -> Self {
        Self {
            achieved: PerDirection::default(),
            dropped: PerDirection::default(),
            marked: PerDirection::default(),
            delay: PerDirection::default(),
            mechanism,
            why_policing: None,
            not_enforced: None,
        }
    }
}

impl Effect {
    /// How the limit is enforced, in a few words: `pacing, adding 140 ms` or `policing: this kernel
    /// has no sch_fq`.
    pub fn manner(&self) -> String {
        let mechanism = self.mechanism;
        if let Some(why) = &self.why_policing {
            return format!("{mechanism}: {why}");
        }
        match self.delay.download.max(self.delay.upload).as_millis() {
            0 => mechanism.to_string(),
            delay => format!("{mechanism}, adding {delay} ms"),
        }
    }
}

/// The limit of a process. What it dropped, marked and delays counts for all processes that share
/// it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimitState {
    /// The limit in force, for commands, and to be found in [`Snapshot::limits`].
    pub id: LimitId,
    /// What was asked for.
    pub limits: Limits,
    /// For which of its traffic.
    pub scope: Scope,
    /// Whether it has the limit for itself.
    pub sharing: Sharing,
    /// What it does.
    pub effect: Effect,
}

impl LimitState {
    /// A limit that has done nothing yet.
    pub fn new(id: LimitId, limits: Limits, mechanism: Mechanism) -> Self {
        Self {
            id,
            limits,
            scope: Scope::All,
            sharing: Sharing::Each,
            effect: Effect::none(mechanism),
        }
    }
}

/// A limit in force, and all that it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimitRow {
    /// Its number.
    pub id: LimitId,
    /// What was asked for.
    pub rule: Rule,
    /// Since when; a changed rate does not change it.
    pub since: SystemTime,
    /// How many running processes it limits.
    pub members: u32,
    /// Payload that they moved since then, of the traffic that the rule is about.
    pub bytes: PerDirection<Bytes>,
    /// What it does: of processes with a limit each, all together, and the longest delay.
    pub effect: Effect,
}

/// A process, as the table shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessRow {
    /// Which process this is, for commands.
    pub key: ProcessKey,
    /// Its name (`/proc/PID/comm`).
    pub name: Arc<str>,
    /// Its program file; empty when it can't be known (a kernel thread, or gone too fast).
    pub exe: Arc<str>,
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
    /// Its limit, if it has one; of two, the one of its internet traffic.
    pub limit: Option<LimitState>,
    /// The limit of its local traffic, if that is another.
    pub local_limit: Option<LimitState>,
    /// It has ended; what it moved stays readable for a while.
    pub ended: bool,
}

impl ProcessRow {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.key.pid
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

/// How serious a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For information.
    Info,
    /// Something does not work as asked.
    Warning,
}

/// Something that happened and that the person at the screen should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Counts up from 0, so that each can be told from the one before.
    pub id: u64,
    /// When.
    pub time: SystemTime,
    /// How serious.
    pub severity: Severity,
    /// What, in one line.
    pub text: String,
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
            unattributed: PerDirection::default(),
            processes: Vec::new(),
            limits: Vec::new(),
            mechanism: Mechanism::Pacing,
            why_policing: None,
            notices: Vec::new(),
            watched: Watched::default(),
        }
    }

    /// The part of all payload since the start that belongs to known processes, 0 to 1; 1 when
    /// there was none.
    pub fn coverage(&self) -> f64 {
        let sum = |d: PerDirection<Bytes>| d.download.count() as f64 + d.upload.count() as f64;
        let total = sum(self.total);
        if total == 0.0 {
            1.0
        } else {
            (1.0 - sum(self.unattributed) / total).clamp(0.0, 1.0)
        }
    }

    /// How many processes are limited.
    pub fn limited(&self) -> usize {
        self.processes.iter().filter(|p| p.limit.is_some()).count()
    }

    /// The limit in force with this number.
    pub fn limit(&self, id: LimitId) -> Option<&LimitRow> {
        self.limits.iter().find(|limit| limit.id == id)
    }
}
