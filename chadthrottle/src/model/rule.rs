//! A rule: a target, its limits, and how they are shared.

use std::{fmt, sync::Arc};

use chadthrottle_common::{address::TrafficClass, traffic::Direction};
use serde::{Deserialize, Serialize};

use super::{direction::Limits, priority::Priority, target::Target};

/// Which traffic a rule is about.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All of it.
    #[default]
    All,
    /// What is not local.
    Internet,
    /// This machine and its networks: those it has an address in, and private (RFC 1918), shared by a carrier's
    /// customers (CGNAT), link-local, unique local (ULA), loopback and multicast addresses.
    Local,
}

impl Scope {
    /// Whether it has traffic of this class in it.
    pub const fn covers(self, class: TrafficClass) -> bool {
        matches!(
            (self, class),
            (Self::All, _)
                | (Self::Internet, TrafficClass::Internet)
                | (Self::Local, TrafficClass::Local)
        )
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Internet => "internet",
            Self::Local => "local",
        })
    }
}

/// How the processes that a rule matches share its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// Each has limits of its own.
    #[default]
    Each,
    /// All of them together have them.
    Shared,
}

/// Where a rule comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Set by hand: in the dialog or on the command line. It comes before any of the file's.
    Hand,
    /// The rule of the rules file with this name.
    File(Arc<str>),
}

/// A target and its limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Where it comes from.
    pub origin: Origin,
    /// What it applies to.
    pub target: Target,
    /// To which of its traffic.
    pub scope: Scope,
    /// The limits; without any, the rule only counts. Of background traffic, what it has at present, which the engine
    /// writes here.
    pub limits: Limits,
    /// How important its traffic is.
    #[serde(default)]
    pub priority: Priority,
    /// Of background traffic: however much others leave, it never has more than this.
    #[serde(default)]
    pub ceiling: Limits,
    /// How they are shared.
    pub sharing: Sharing,
    /// Whether its traffic is counted even where another rule's limit applies, or none: for quotas.
    pub metered: bool,
}

impl Rule {
    /// Limits set by hand, for all traffic, each process its own.
    pub fn by_hand(target: impl Into<Target>, limits: Limits) -> Self {
        Self {
            origin: Origin::Hand,
            target: target.into(),
            scope: Scope::All,
            limits,
            priority: Priority::Normal,
            ceiling: Limits::default(),
            sharing: Sharing::Each,
            metered: false,
        }
    }

    /// With these limits, and in the background or not: what it has there is known later.
    pub fn with(self, limits: Limits, priority: Priority) -> Self {
        let (limits, ceiling) = match priority {
            Priority::Background => (Limits::default(), limits),
            Priority::Normal | Priority::High => (limits, Limits::default()),
        };
        Self {
            limits,
            ceiling,
            priority,
            ..self
        }
    }

    /// The limits that somebody asked for.
    pub fn asked(&self) -> Limits {
        match self.is_background() {
            true => self.ceiling,
            false => self.limits,
        }
    }

    /// What others leave is for these processes together, by hand and for all their traffic.
    pub fn in_background(target: impl Into<Target>) -> Self {
        Self {
            priority: Priority::Background,
            sharing: Sharing::Shared,
            ..Self::by_hand(target, Limits::default())
        }
    }

    /// These processes come before everybody else's, by hand and for the traffic that this is about if nothing is said.
    pub fn with_high_priority(target: impl Into<Target>) -> Self {
        Self {
            priority: Priority::High,
            scope: Priority::High.scope(),
            ..Self::by_hand(target, Limits::default())
        }
    }

    /// Whether its processes come before everybody else's.
    pub fn is_high(&self) -> bool {
        self.priority == Priority::High
    }

    /// Whether it says anything of traffic: a limit, or how important it is.
    pub fn says_anything(&self) -> bool {
        self.priority != Priority::Normal || !self.limits.is_unlimited()
    }

    /// Whether its processes have what others leave.
    pub fn is_background(&self) -> bool {
        self.priority == Priority::Background
    }

    /// Whether what it says of traffic of a direction counts: limits of others do not reach what is important.
    pub fn decides(&self, direction: Direction) -> bool {
        self.priority != Priority::Normal || self.limits.get(direction).is_some()
    }

    /// Whether a rule with the same origin, about the same traffic of the same target, takes its
    /// place. Rules of a file are known by their names.
    pub fn replaces(&self, other: &Self) -> bool {
        match (&self.origin, &other.origin) {
            (Origin::File(mine), Origin::File(theirs)) => mine == theirs,
            (Origin::Hand, Origin::Hand) => {
                self.target == other.target && self.scope == other.scope
            }
            _ => false,
        }
    }

    /// Where it stands among others: those set by hand first, the narrowest of them before the
    /// others. Rules of a file keep their order.
    pub fn precedence(&self) -> (bool, u8) {
        match self.origin {
            Origin::Hand => (false, self.target.breadth()),
            Origin::File(_) => (true, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::process::Pid;

    #[test]
    fn what_is_set_by_hand_and_narrow_comes_first() {
        let hand = |target: Target| Rule::by_hand(target, Limits::default());
        let mut file = hand(Pid(1).into());
        file.origin = Origin::File("a".into());
        let mut rules = [
            file.clone(),
            hand(Target::program("curl")),
            hand(Pid(1).into()),
        ];
        rules.sort_by_key(Rule::precedence);
        assert_eq!(
            rules.map(|rule| rule.precedence()),
            [(false, 0), (false, 2), (true, 0)]
        );
        assert!(!file.replaces(&hand(Pid(1).into())));
        assert!(hand(Pid(1).into()).replaces(&hand(Pid(1).into())));
        let mut local = hand(Pid(1).into());
        local.scope = Scope::Local;
        assert!(!local.replaces(&hand(Pid(1).into())));
    }

    #[test]
    fn scopes() {
        use TrafficClass::{Internet, Local};
        for (scope, internet, local) in [
            (Scope::All, true, true),
            (Scope::Internet, true, false),
            (Scope::Local, false, true),
        ] {
            assert_eq!(
                [scope.covers(Internet), scope.covers(Local)],
                [internet, local]
            );
        }
    }
}
