//! New processes: what counts for them, and with what the next of their kind are to begin.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    iter,
};

use chadthrottle_common::{
    event::ProcessSeen,
    newcomer::{Kind, MAX_KINDS, NAME, STAND_INS, TREES, Trees, USER},
};

use super::{
    Engine,
    in_force::{Choice, InForce, LimitCell, RulesInForce},
};
use crate::{
    model::process::Pid,
    process::{ancestry, descriptors},
};

/// What counts for the next processes of each kind, as far as it was found out.
#[derive(Default)]
pub struct Expected(HashMap<Kind, Choice>);

impl Expected {
    /// With what the kernel lets a process begin.
    fn of(&self, kind: Kind) -> Choice {
        let stand_ins = STAND_INS.map(|fields| kind.counting(fields));
        let mut known = iter::once(&kind).chain(&stand_ins);
        known
            .find_map(|kind| self.0.get(kind))
            .cloned()
            .unwrap_or_default()
    }
}

impl Engine {
    /// Takes in the processes that the kernel gave slots, each with what counts for it, and the
    /// devices that limited packets came to leave by. It costs next to nothing when there are none;
    /// so whatever may take longer than a millisecond calls it in between, and nothing new waits for
    /// it.
    pub(super) fn attend(&mut self) {
        while let Some(seen) = self.kernel.announcements.next() {
            self.announced(&seen);
        }
        while let Some(slot) = self.kernel.roads.next() {
            self.see_to_road(slot);
        }
    }

    fn announced(&mut self, seen: &ProcessSeen) {
        let ProcessSeen { kind, tag, .. } = *seen;
        let pid = Pid(seen.pid);
        self.attribution
            .announced(&mut self.owners, tag, pid, kind.name(), kind.uid);
        if let Some(owner) = self.owners.of_slot_mut(tag.slot)
            && owner.tag == tag
        {
            owner.began = Some(self.expected.of(kind));
        }
        self.rules.join(pid, kind.trees);
        self.assign_changed(pid);
        if let Err(error) = self.learn(tag.slot, kind) {
            log::warn!("processes like {pid} begin without limits: {error:#}");
        }
    }

    /// What counts for a process counts for the next of its kind, as far as that is all it takes.
    fn learn(&mut self, slot: u32, kind: Kind) -> anyhow::Result<()> {
        let Some(owner) = self.owners.of_slot(slot) else {
            return Ok(());
        };
        let identity = &owner.identity;
        if owner.ended.is_some() || identity.name.as_bytes() != kind.name() {
            return Ok(());
        }
        let choice = owner.enforcement.as_ref().map(|limit| &limit.choice);
        let choice = choice.cloned().unwrap_or_default();
        let choice = choice.without(|id| {
            !self.rules.get(id).is_some_and(|rule| {
                let in_tree = rule.trees() & kind.trees != 0;
                rule.rule.target.matches_kind(identity, in_tree)
            })
        });
        self.expect(kind, choice)
    }

    fn expect(&mut self, kind: Kind, choice: Choice) -> anyhow::Result<()> {
        if self.expected.of(kind) == choice {
            return Ok(());
        }
        self.remember(kind, choice)
    }

    fn remember(&mut self, kind: Kind, choice: Choice) -> anyhow::Result<()> {
        if self.expected.0.len() >= MAX_KINDS as usize {
            self.expected.0.clear();
            self.kernel.newcomers.forget();
            self.expect_stand_ins();
        }
        for (direction, id) in choice.cells() {
            if let Some(rule) = self.rules.get_mut(id)
                && rule.newcomers_cell(direction).is_none()
                && let Some(rate) = *rule.rule.limits.get(direction)
            {
                let cell = LimitCell::allocate(&mut self.kernel.limits, id, direction, rate)?;
                rule.newcomers.push(cell);
            }
        }
        let cell = |direction: chadthrottle_common::traffic::Direction,
                    class: chadthrottle_common::address::TrafficClass| {
            let id = choice.limits[direction.index()][class.index()]?;
            let cell = self.rules.get(id)?.newcomers_cell(direction)?;
            Some(&cell.cell)
        };
        let metered = !choice.meters.is_empty();
        self.kernel.newcomers.expect(kind, cell, metered)?;
        self.expected.0.insert(kind, choice);
        Ok(())
    }

    /// The rules have changed: what was found out may not hold any more. Returns the cells that
    /// processes began with; slots may name them until the announcements are read.
    pub(super) fn forget_newcomers(&mut self) -> Vec<LimitCell> {
        self.kernel.newcomers.forget();
        self.expected.0.clear();
        let mut cells = Vec::new();
        for rule in self.rules.iter_mut() {
            for cell in rule.newcomers.drain(..) {
                rule.before.take_over(&cell);
                cells.push(cell);
            }
        }
        self.follow_trees();
        self.expect_stand_ins();
        cells
    }

    /// Lets processes that are like none seen before begin with what the rules say of what is known
    /// of them.
    fn expect_stand_ins(&mut self) {
        for (kind, choice) in stand_ins(&self.rules) {
            if let Err(error) = self.remember(kind, choice) {
                log::warn!("new processes begin without limits: {error:#}");
                break;
            }
        }
    }

    /// Sees to it that the kernel knows the trees that limits are for.
    fn follow_trees(&mut self) {
        if self.rules.has_trees() {
            self.look_for_descendants();
        } else {
            self.kernel.follow_forks(false);
            for pid in self.kernel.newcomers.families().into_keys() {
                self.kernel.newcomers.leave(pid);
            }
        }
    }

    /// Takes in the descendants that there are now.
    pub(super) fn look_for_descendants(&mut self) {
        let followed = self.kernel.follow_forks(true);
        let forked = if followed {
            self.kernel.newcomers.families()
        } else {
            HashMap::new()
        };
        for (pid, trees) in &forked {
            self.rules.join(*pid, *trees);
        }
        let mut found: HashMap<Pid, Option<Vec<Pid>>> = HashMap::new();
        let mut next = self.rules.descendants();
        while let Some(pid) = next.pop() {
            self.attend();
            if let Entry::Vacant(place) = found.entry(pid) {
                let children = ancestry::is_alive(pid).then(|| descriptors::children(pid));
                next.extend(children.iter().flatten());
                place.insert(children);
            }
        }
        let children = |pid| found.get(&pid).cloned().flatten().unwrap_or_default();
        // Whoever was taken in meanwhile is looked at the next time.
        let alive = |pid| found.get(&pid).is_none_or(Option::is_some);
        self.rules.look_for_descendants(children, alive);
        if followed {
            self.tell_families(&forked);
        }
    }

    /// Brings what the kernel knows of trees to what is known here.
    fn tell_families(&mut self, there: &HashMap<Pid, Trees>) {
        let families = self.rules.families();
        for pid in there.keys().filter(|pid| !families.contains_key(pid)) {
            self.kernel.newcomers.leave(*pid);
        }
        for (pid, trees) in families {
            if there.get(&pid) != Some(&trees)
                && let Err(error) = self.kernel.newcomers.join(pid, trees)
            {
                log::debug!("{error:#}");
            }
        }
    }
}

/// What counts for a process by its trees, its name and its user, for all of these that rules
/// mention, together too, as their order decides; at most half as many as the kernel remembers.
fn stand_ins(rules: &RulesInForce) -> Vec<(Kind, Choice)> {
    let singly = rules.iter().map(InForce::trees);
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
    use super::*;
    use crate::{
        model::{
            direction::{Limits, PerDirection},
            rule::Rule,
            target::Target,
        },
        rate::Rate,
    };

    #[test]
    fn there_is_something_for_the_first_of_a_kind() {
        let mut rules = RulesInForce::default();
        let limits: Limits = PerDirection::of(|_| Some(Rate::from_bytes_per_second(1000)));
        let mut insert = |target| rules.insert(Rule::by_hand(target, limits));
        let user = Target::User {
            uid: 0,
            name: "root".into(),
        };
        let by_user = insert(user);
        let by_name = insert(Target::program("curl"));
        let [outer, inner] = [1, 2].map(|pid| insert(Target::Tree(Pid(pid).into())));
        // The inner one's root is the outer one's descendant.
        rules.join(Pid(2), 1);
        let expected = Expected(stand_ins(&rules).into_iter().collect());
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
        let of_tree = rules.insert(Rule::by_hand(Target::Tree(Pid(9).into()), limits));
        let trees = rules.get(of_tree).unwrap().trees();
        let expected = Expected(stand_ins(&rules).into_iter().collect());
        let kind = Kind {
            trees,
            name: comm("curl"),
            ..Kind::default()
        };
        assert_eq!(expected.of(kind).ids(), [by_name, of_tree].into());
    }

    #[test]
    fn there_are_never_more_than_the_kernel_remembers() {
        let mut rules = RulesInForce::default();
        let limits: Limits = PerDirection::of(|_| Some(Rate::from_bytes_per_second(1000)));
        for n in 0..100 {
            let name = Target::program(&format!("program-{n}"));
            rules.insert(Rule::by_hand(name, limits));
            let user = Target::User {
                uid: n,
                name: n.to_string(),
            };
            rules.insert(Rule::by_hand(user, limits));
        }
        let all = stand_ins(&rules);
        assert_eq!(all.len(), MAX_KINDS as usize / 2);
        let singly = |field| all.iter().filter(|(kind, _)| kind.counts == field).count();
        assert_eq!((singly(NAME), singly(USER)), (100, 100));
    }
}
