//! Limits in force, and what they do.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use chadthrottle_common::traffic::Direction;
use serde::{Deserialize, Serialize};

use super::{
    direction::{Limits, PerClass, PerDirection},
    priority::Priority,
    rule::{Rule, Scope, Sharing},
    terms::Terms,
};
use crate::rate::{Bytes, Rate};

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

/// Which limit counts for a process, by direction and class of traffic.
pub type EffectiveLimits = PerDirection<PerClass<Option<LimitId>>>;

impl EffectiveLimits {
    /// Each direction of each limit, once.
    pub fn parts(&self) -> impl Iterator<Item = (Direction, LimitId)> + use<> {
        let limits = *self;
        Direction::BOTH.into_iter().flat_map(move |direction| {
            let PerClass { internet, local } = *limits.get(direction);
            let local = local.filter(|_| local != internet);
            let ids = [internet, local].into_iter().flatten();
            ids.map(move |id| (direction, id))
        })
    }

    /// All of them, each once.
    pub fn ids(&self) -> BTreeSet<LimitId> {
        self.parts().map(|(_, id)| id).collect()
    }

    /// Which count for traffic that a limit's state is about.
    pub fn about(&self, scope: Scope) -> PerDirection<Option<LimitId>> {
        self.map(|by| match scope {
            Scope::All | Scope::Internet => by.internet,
            Scope::Local => by.local,
        })
    }
}

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
    /// Whether the limit has just come or changed, and what was in flight is let in beyond it.
    pub settling: bool,
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
            settling: false,
        }
    }
}

impl Effect {
    /// How the limit is enforced, in a few words: `pacing, adding 140 ms` or `policing: this kernel
    /// has no sch_fq`. The second that it takes to settle is told, too.
    pub fn manner(&self) -> String {
        let mechanism = self.mechanism;
        if self.settling {
            return format!("settling: what was on its way is let in; {mechanism}");
        }
        if let Some(why) = &self.why_policing {
            return format!("{mechanism}: {why}");
        }
        match self.delay.download.max(self.delay.upload).as_millis() {
            0 => mechanism.to_string(),
            delay => format!("{mechanism}, adding {delay} ms"),
        }
    }
}

/// What limits a process's traffic, or a part of it. What was dropped, marked and delayed counts for
/// all processes that share the limits. Which they are is in its row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimitState {
    /// What was asked for; of background traffic, what it has at present.
    pub limits: Limits,
    /// How important its traffic is.
    #[serde(default)]
    pub priority: Priority,
    /// What it has before everybody else.
    #[serde(default)]
    pub at_least: Limits,
    /// For which of its traffic.
    pub scope: Scope,
    /// Whether it has the limits for itself.
    pub sharing: Sharing,
    /// What they do.
    pub effect: Effect,
}

impl LimitState {
    /// Limits that have done nothing yet.
    pub fn new(limits: Limits, mechanism: Mechanism) -> Self {
        Self {
            limits,
            priority: Priority::Normal,
            at_least: Limits::default(),
            scope: Scope::All,
            sharing: Sharing::Each,
            effect: Effect::none(mechanism),
        }
    }

    /// What it has at present.
    pub fn terms(&self) -> Terms {
        Terms {
            limits: self.limits,
            priority: self.priority,
            at_least: self.at_least,
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
