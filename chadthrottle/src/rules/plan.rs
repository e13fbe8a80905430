//! What of a rules file is in force at a time.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Zoned;
use serde::{Deserialize, Serialize};

use super::{
    file::{FileRule, RulesFile, Users},
    ledger::Ledger,
    quota::{Period, Then},
};
use crate::{
    model::{
        direction::Limits,
        rule::{Origin, Rule},
        terms::Terms,
    },
    rate::{Bytes, Rate},
};

/// The rules in force, in their order, and how each rule of the file stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What the engine is to do.
    pub rules: Vec<Rule>,
    /// All of the file's, in their order.
    pub standings: Vec<Standing>,
}

/// How a rule of the file stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it is in force, or why not.
    pub state: State,
    /// How much of its quota is used, if it has one.
    pub quota: Option<Used>,
}

/// Whether a rule is in force, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is.
    InForce,
    /// `enabled = false`.
    Disabled,
    /// It was ended by hand, until the rules are read again.
    Paused,
    /// It is not its time.
    OffSchedule,
    /// There is no such user.
    NoSuchUser,
}

impl State {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::InForce => "in force",
            Self::Disabled => "disabled",
            Self::Paused => "ended by hand until `rules apply`",
            Self::OffSchedule => "waits for its time",
            Self::NoSuchUser => "waits: there is no such user",
        }
    }
}

/// How much of a quota is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// What was moved in this period.
    pub used: Bytes,
    /// What may be moved.
    pub amount: Bytes,
    /// In which time.
    pub period: Period,
    /// What is done when it is used up.
    pub then: Then,
}

impl Used {
    /// Whether nothing is left of it.
    pub fn is_up(&self) -> bool {
        self.used >= self.amount
    }
}

/// What of a file is in force. `paused` are the names of rules that were ended by hand.
pub fn plan(
    file: &RulesFile,
    ledger: &Ledger,
    users: &dyn Users,
    paused: &BTreeSet<Arc<str>>,
    now: &Zoned,
) -> Plan {
    let mut plan = Plan::default();
    for rule in &file.rules {
        let quota = rule.quota.as_ref().map(|quota| Used {
            used: Bytes::new(ledger.used(&rule.name, quota, now.date())),
            amount: quota.amount,
            period: quota.period,
            then: quota.then,
        });
        let target = rule.target.resolve(users);
        let state = match &target {
            _ if !rule.enabled => State::Disabled,
            _ if paused.contains(&rule.name) => State::Paused,
            _ if !rule.schedule.is_active(now.datetime()) => State::OffSchedule,
            None => State::NoSuchUser,
            Some(_) => State::InForce,
        };
        if state == State::InForce
            && let Some(target) = target
        {
            let terms = terms(rule, quota.as_ref());
            let by_hand = Rule::by_hand(target, Limits::default());
            plan.rules.push(Rule {
                origin: Origin::File(Arc::clone(&rule.name)),
                scope: rule.scope,
                sharing: rule.sharing,
                metered: quota.is_some(),
                ..by_hand.with(terms)
            });
        }
        plan.standings.push(Standing {
            name: Arc::clone(&rule.name),
            state,
            quota,
        });
    }
    plan
}

/// The terms of a rule with so much of its quota used.
fn terms(rule: &FileRule, quota: Option<&Used>) -> Terms {
    let blocked = Limits {
        download: Some(Rate::ZERO),
        upload: Some(Rate::ZERO),
    };
    match quota {
        Some(quota) if quota.then == Then::Limit && !quota.is_up() => Default::default(),
        Some(quota) if quota.then == Then::Block && quota.is_up() => Terms::limits(blocked),
        _ => rule.terms(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{direction::PerDirection, priority::Priority},
        rules::file::{SystemUsers, read},
    };

    const TEXT: &str = r#"
        [[rule]]
        name = "limit"
        program = "a"
        download = "1M"
        quota = "100B/day"

        [[rule]]
        name = "block"
        program = "b"
        upload = "2M"
        quota = "100B/day"
        then = "block"

        [[rule]]
        name = "notify"
        program = "c"
        upload = "3M"
        quota = "100B/day"
        then = "notify"

        [[rule]]
        name = "mirror"
        program = "m"
        priority = "background"
        quota = "100B/day"
        from = "01:00"
        until = "02:00"

        [[rule]]
        name = "night"
        program = "d"
        download = "4M"
        from = "22:00"
        until = "06:00"

        [[rule]]
        name = "off"
        enabled = false
        program = "e"
        download = "5M"

        [[rule]]
        name = "nobody"
        user = "no such user"
        download = "6M"
    "#;

    /// Name, download and upload in MB/s (0 is blocked), metered.
    fn planned(
        ledger: &Ledger,
        paused: &[&str],
        now: &str,
    ) -> Vec<(String, Option<u64>, Option<u64>, bool)> {
        let file = read(TEXT).unwrap();
        let paused = paused.iter().map(|name| Arc::from(*name)).collect();
        let now: Zoned = format!("{now}[UTC]").parse().unwrap();
        let plan = plan(&file, ledger, &SystemUsers, &paused, &now);
        let megabytes = |rate: Option<Rate>| rate.map(|rate| rate.bytes_per_second() / 1_000_000);
        let mut found = Vec::new();
        for rule in plan.rules {
            let Origin::File(name) = rule.origin else {
                panic!("{rule:?}")
            };
            found.push((
                name.to_string(),
                megabytes(rule.limits.download),
                megabytes(rule.limits.upload),
                rule.metered,
            ));
        }
        found
    }

    #[test]
    fn what_is_in_force_when() {
        let mut ledger = Ledger::default();
        let of = |name: &str, down, up, metered| (name.to_owned(), down, up, metered);
        assert_eq!(
            planned(&ledger, &[], "2026-11-22T12:00"),
            [
                of("limit", None, None, true),
                of("block", None, Some(2), true),
                of("notify", None, Some(3), true),
            ]
        );
        let today = "2026-11-22".parse().unwrap();
        for name in ["limit", "block", "notify"] {
            let moved = PerDirection {
                download: 60,
                upload: 40,
            };
            ledger.add(&name.into(), Period::Day, today, moved);
        }
        assert_eq!(
            planned(&ledger, &["notify"], "2026-11-22T23:59"),
            [
                of("limit", Some(1), None, true),
                of("block", Some(0), Some(0), true),
                of("night", Some(4), None, false),
            ]
        );
        // The next day.
        assert_eq!(
            planned(&ledger, &["block", "notify"], "2026-11-23T00:00"),
            [
                of("limit", None, None, true),
                of("night", Some(4), None, false)
            ]
        );
    }

    #[test]
    fn a_quota_that_is_up_sends_to_the_background() {
        let file = read(TEXT).unwrap();
        let now: Zoned = "2026-11-22T01:30[UTC]".parse().unwrap();
        let priority = |ledger: &Ledger| {
            let plan = plan(&file, ledger, &SystemUsers, &BTreeSet::new(), &now);
            let mut rules = plan.rules.into_iter();
            let mirror = Origin::File("mirror".into());
            rules.find(|rule| rule.origin == mirror).unwrap().priority
        };
        let mut ledger = Ledger::default();
        assert_eq!(priority(&ledger), Priority::Normal);
        let moved = PerDirection {
            download: 60,
            upload: 40,
        };
        let today = "2026-11-22".parse().unwrap();
        ledger.add(&"mirror".into(), Period::Day, today, moved);
        assert_eq!(priority(&ledger), Priority::Background);
    }

    #[test]
    fn how_each_rule_stands() {
        let file = read(TEXT).unwrap();
        let now: Zoned = "2026-11-22T12:00[UTC]".parse().unwrap();
        let paused = BTreeSet::from(["limit".into()]);
        let plan = plan(&file, &Ledger::default(), &SystemUsers, &paused, &now);
        let states: Vec<State> = plan.standings.iter().map(|s| s.state).collect();
        assert_eq!(
            states,
            [
                State::Paused,
                State::InForce,
                State::InForce,
                State::OffSchedule,
                State::OffSchedule,
                State::Disabled,
                State::NoSuchUser
            ]
        );
    }
}
