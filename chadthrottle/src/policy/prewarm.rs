//! What processes begin with that make their first socket, before they were compared with the rules.

use std::{
    collections::{BTreeSet, HashMap},
    iter,
};

use chadthrottle_common::newcomer::{Kind, MAX_KINDS, NAME, STAND_INS, TREES, Trees, USER};

use super::{
    active::{ActiveRule, ActiveRules},
    choose::Choice,
};
use crate::model::process::Identity;

/// What counts for the next processes of each kind, as far as it was found out.
#[derive(Debug, Default)]
pub struct Prewarmed(HashMap<Kind, Choice>);

impl Prewarmed {
    /// With what a process of this kind begins.
    pub fn of(&self, kind: Kind) -> Choice {
        let stand_ins = STAND_INS.map(|fields| kind.counting(fields));
        let mut known = iter::once(&kind).chain(&stand_ins);
        known
            .find_map(|kind| self.0.get(kind))
            .cloned()
            .unwrap_or_default()
    }

    /// Whether there is no room for a further kind.
    pub fn is_full(&self) -> bool {
        self.0.len() >= MAX_KINDS as usize
    }

    /// From now on processes of this kind begin so.
    pub fn insert(&mut self, kind: Kind, choice: Choice) {
        self.0.insert(kind, choice);
    }

    /// Nothing is known of any kind.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// What of a process's choice counts for every process of its kind.
pub fn of_kind(rules: &ActiveRules, choice: &Choice, process: &Identity, kind: Kind) -> Choice {
    choice.without(|id| {
        !rules.get(id).is_some_and(|active| {
            let in_tree = active.trees() & kind.trees != 0;
            active.rule.target.matches_kind(process, in_tree)
        })
    })
}

/// What counts for a process by its trees, its name and its user, for all of these that rules
/// mention, together too, as their order decides; at most half as many as the kernel remembers.
pub fn stand_ins(rules: &ActiveRules) -> Vec<(Kind, Choice)> {
    let singly = rules.iter().map(ActiveRule::trees);
    let families: BTreeSet<Trees> = (rules.families().into_values().chain(singly))
        .filter(|trees| *trees != 0)
        .collect();
    let targets = || rules.iter().map(|rule| &rule.rule.target);
    let names: BTreeSet<&str> = targets().flat_map(|target| target.names()).collect();
    let users: BTreeSet<u32> = targets().flat_map(|target| target.users()).collect();
    let mut found = Vec::new();
    // The broader the more important, should there be too many.
    for fields in STAND_INS.into_iter().rev() {
        let names = of_field(fields & NAME, names.iter().copied());
        let users = of_field(fields & USER, users.iter().copied());
        for trees in of_field(fields & TREES, families.iter().copied()) {
            for name in &names {
                for user in &users {
                    if found.len() >= MAX_KINDS as usize / 2 {
                        return found;
                    }
                    let choice = rules.choose_by(|rule| {
                        let target = &rule.rule.target;
                        trees.is_some_and(|trees| rule.trees() & trees != 0)
                            || name.is_some_and(|name| target.may_be_named(name))
                            || user.is_some_and(|user| target.users().any(|its| its == user))
                    });
                    let kind = Kind {
                        cgroup: 0,
                        trees: trees.unwrap_or_default(),
                        uid: user.unwrap_or_default(),
                        counts: fields,
                        name: comm(name.unwrap_or_default()),
                    };
                    found.push((kind, choice));
                }
            }
        }
    }
    found
}

/// All there are of a field, or nothing in its place if it does not count.
fn of_field<T>(counts: u32, all: impl Iterator<Item = T>) -> Vec<Option<T>> {
    match counts {
        0 => vec![None],
        _ => all.map(Some).collect(),
    }
}

/// A name as the kernel keeps it.
fn comm(name: &str) -> [u8; 16] {
    let mut comm = [0; 16];
    for (to, from) in comm.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    comm
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::{
        model::{direction::Limits, process::Pid, rule::Rule, target::Target},
        policy::fixtures::limits,
    };

    #[test]
    fn there_is_something_for_the_first_of_a_kind() {
        let mut rules = ActiveRules::default();
        let limits = limits(1000, 1000);
        let mut insert = |target| rules.insert(Rule::by_hand(target, limits), UNIX_EPOCH);
        let user = Target::User {
            uid: 0,
            name: "root".into(),
        };
        let by_user = insert(user);
        let by_name = insert(Target::program("curl"));
        let [outer, inner] = [1, 2].map(|pid| insert(Target::Tree(Pid(pid).into())));
        // The inner one's root is the outer one's descendant.
        rules.join(Pid(2), 1);
        let expected = Prewarmed(stand_ins(&rules).into_iter().collect());
        let ids = |name: &str, uid, trees| {
            let kind = Kind {
                cgroup: 5,
                trees,
                uid,
                counts: 0,
                name: comm(name),
            };
            expected.of(kind).ids().into_iter().collect::<Vec<_>>()
        };
        // The narrowest that was set by hand counts.
        assert_eq!(ids("curl", 1, 0), [by_name]);
        assert_eq!(ids("curl", 0, 0), [by_name]);
        assert_eq!(ids("wget", 0, 0), [by_user]);
        assert_eq!(ids("curl", 0, 1), [outer]);
        assert_eq!(ids("wget", 1, 3), [inner], "the newest");
        assert_eq!(ids("wget", 1, 0), []);
        // Or both, each for its direction.
        let limits = Limits {
            upload: None,
            ..limits
        };
        let of_tree = rules.insert(
            Rule::by_hand(Target::Tree(Pid(9).into()), limits),
            UNIX_EPOCH,
        );
        let trees = rules.get(of_tree).unwrap().trees();
        let expected = Prewarmed(stand_ins(&rules).into_iter().collect());
        let kind = Kind {
            trees,
            name: comm("curl"),
            ..Kind::default()
        };
        assert_eq!(expected.of(kind).ids(), [by_name, of_tree].into());
    }

    #[test]
    fn there_are_never_more_than_the_kernel_remembers() {
        let mut rules = ActiveRules::default();
        let limits = limits(1000, 1000);
        for n in 0..100 {
            let name = Target::program(&format!("program-{n}"));
            rules.insert(Rule::by_hand(name, limits), UNIX_EPOCH);
            let user = Target::User {
                uid: n,
                name: n.to_string(),
            };
            rules.insert(Rule::by_hand(user, limits), UNIX_EPOCH);
        }
        let all = stand_ins(&rules);
        assert_eq!(all.len(), MAX_KINDS as usize / 2);
        let singly = |field| all.iter().filter(|(kind, _)| kind.counts == field).count();
        assert_eq!((singly(NAME), singly(USER)), (100, 100));
    }
}
