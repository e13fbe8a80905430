//! A rule: a target, its limits, and how they are shared.

use std::sync::Arc;

use chadthrottle_common::traffic::Direction;
use serde::{Deserialize, Serialize};

pub use super::scope::Scope;
use super::{direction::Limits, priority::Priority, target::Target, terms::Terms};

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
    /// So much of the link it has before everybody else, while it uses it.
    #[serde(default)]
    pub at_least: Limits,
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
            at_least: Limits::default(),
            sharing: Sharing::Each,
            metered: false,
        }
    }

    /// On these terms. What it has of them in the background is known later.
    pub fn with(self, terms: Terms) -> Self {
        let (limits, ceiling) = match terms.is_background() {
            true => (Limits::default(), terms.limits),
            false => (terms.limits, Limits::default()),
        };
        Self {
            limits,
            ceiling,
            priority: terms.priority,
            at_least: terms.at_least,
            ..self
        }
    }

    /// What its processes have at present.
    pub fn terms(&self) -> Terms {
        Terms {
            limits: self.limits,
            priority: self.priority,
            at_least: self.at_least,
        }
    }

    /// What somebody asked for.
    pub fn asked(&self) -> Terms {
        let limits = match self.is_background() {
            true => self.ceiling,
            false => self.limits,
        };
        Terms {
            limits,
            ..self.terms()
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
        let terms = Terms {
            priority: Priority::High,
            ..Terms::default()
        };
        Self {
            scope: terms.scope(),
            ..Self::by_hand(target, Limits::default()).with(terms)
        }
    }

    /// Whether its processes have what they ask for before everybody else.
    pub fn is_high(&self) -> bool {
        self.terms().is_high()
    }

    /// Whether its processes come before everybody else.
    pub fn comes_first(&self) -> bool {
        self.terms().comes_first()
    }

    /// Whether its processes have what others leave.
    pub fn is_background(&self) -> bool {
        self.terms().is_background()
    }

    /// Whether it is about how a link is shared.
    pub fn is_about_link(&self) -> bool {
        self.terms().is_about_link()
    }

    /// Whether it says anything of traffic: a limit, or how important it is.
    pub fn says_anything(&self) -> bool {
        self.terms().says_anything()
    }

    /// Whether what it says of traffic of a direction counts: limits of others do not reach what is important.
    pub fn decides(&self, direction: Direction) -> bool {
        self.is_about_link() || self.limits.get(direction).is_some()
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
}
