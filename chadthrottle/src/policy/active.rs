//! The rules in force: their order, which replaces which, and which trees of processes they are for.

use std::{
    collections::{HashMap, HashSet},
    time::SystemTime,
};

use chadthrottle_common::{
    newcomer::{MAX_TREES, Trees},
    traffic::Direction,
};

use super::choose::Choice;
use crate::model::{
    direction::Limits,
    limit::{EffectiveLimits, LimitId},
    process::{Pid, ProcessId, ProcessKey},
    rule::{Origin, Rule, Scope, Sharing},
    target::Target,
};

/// A rule in force.
#[derive(Clone, Debug)]
pub struct ActiveRule {
    /// Its number.
    pub id: LimitId,
    /// What was asked for.
    pub rule: Rule,
    /// Since when.
    pub since: SystemTime,
    /// The process it was for has ended; it is in force for what that left to be sent.
    pub ended: bool,
    /// Of a [`Target::Tree`]: its processes, as far as they were seen.
    pub(super) members: HashSet<Pid>,
    /// The bit by which the kernel knows its tree; 0 for none.
    trees: Trees,
    /// Its place among those of the same precedence: the lowest first.
    place: i64,
}

impl ActiveRule {
    /// Whether each of its processes has its limits for itself.
    pub fn is_each(&self) -> bool {
        self.rule.sharing == Sharing::Each && !self.rule.is_background()
    }

    /// Whether none is left of the processes that it is for.
    pub fn is_deserted(&self) -> bool {
        let mut parts = self.rule.target.parts().iter();
        self.members.is_empty() && parts.all(|part| matches!(part, Target::Tree(_)))
    }

    /// Whether it is for descendants, too.
    fn has_trees(&self) -> bool {
        !self.rule.target.roots().is_empty()
    }

    /// The bit by which the kernel knows its tree; 0 for none.
    pub fn trees(&self) -> Trees {
        self.trees
    }
}

/// All rules in force, those that come first first.
#[derive(Clone, Debug, Default)]
pub struct ActiveRules {
    pub(super) rules: Vec<ActiveRule>,
    /// The last number that was given away; none is given twice.
    last: u64,
    /// Trees that had a bit so far.
    trees: u32,
    /// What counts, after all others, while some are more important: the link's rest, together.
    pub(super) everybody_else: Option<ActiveRule>,
}

impl ActiveRules {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &ActiveRule> {
        self.rules.iter()
    }

    /// Their numbers, for going through them while others may come and go.
    pub fn ids(&self) -> Vec<LimitId> {
        self.rules.iter().map(|rule| rule.id).collect()
    }

    /// The one with this number.
    pub fn get(&self, id: LimitId) -> Option<&ActiveRule> {
        let all = self.rules.iter().chain(&self.everybody_else);
        all.into_iter().find(|rule| rule.id == id)
    }

    pub(super) fn get_mut(&mut self, id: LimitId) -> Option<&mut ActiveRule> {
        self.rules.iter_mut().find(|rule| rule.id == id)
    }

    /// The one whose place a rule takes.
    pub fn replaced_by(&self, rule: &Rule) -> Option<LimitId> {
        let replaced = self.rules.iter().find(|old| rule.replaces(&old.rule))?;
        Some(replaced.id)
    }

    /// Takes in a rule that replaces none. Of those set by hand the newest comes first, those of a
    /// file come last.
    pub fn insert(&mut self, rule: Rule, now: SystemTime) -> LimitId {
        let id = self.next_id();
        let place = match rule.origin {
            Origin::Hand => -self.last.cast_signed(),
            Origin::File(_) => i64::MAX,
        };
        let members: HashSet<Pid> = rule.target.roots().iter().map(|root| root.pid).collect();
        let trees = if members.is_empty() {
            0
        } else {
            self.free_bit()
        };
        self.rules.push(ActiveRule {
            id,
            rule,
            since: now,
            ended: false,
            members,
            trees,
            place,
        });
        self.sort();
        id
    }

    fn next_id(&mut self) -> LimitId {
        self.last += 1;
        LimitId(self.last)
    }

    /// A bit for a further tree: the one that was used longest ago. None is free when there are
    /// too many trees; the children of further ones are only looked for.
    fn free_bit(&mut self) -> Trees {
        let used = self.rules.iter().fold(0, |used, rule| used | rule.trees);
        for _ in 0..MAX_TREES {
            let bit = 1 << (self.trees % MAX_TREES);
            self.trees = self.trees.wrapping_add(1);
            if used & bit == 0 {
                return bit;
            }
        }
        0
    }

    /// The kernel knows that a process belongs to these trees.
    pub fn join(&mut self, pid: Pid, trees: Trees) {
        for active in &mut self.rules {
            if active.trees & trees != 0 {
                active.members.insert(pid);
            }
        }
    }

    /// The processes of all trees, as the kernel is to know them.
    pub fn families(&self) -> HashMap<Pid, Trees> {
        let mut families = HashMap::new();
        for active in self.rules.iter().filter(|rule| rule.trees != 0) {
            for pid in &active.members {
                *families.entry(*pid).or_default() |= active.trees;
            }
        }
        families
    }

    /// Brings the rules of a file into the file's order.
    pub fn order(&mut self, ids: &[LimitId]) {
        for (place, id) in ids.iter().enumerate() {
            if let Some(rule) = self.get_mut(*id) {
                rule.place = i64::try_from(place).unwrap_or(i64::MAX);
            }
        }
        self.sort();
    }

    fn sort(&mut self) {
        self.rules
            .sort_by_key(|rule| (rule.rule.precedence(), rule.place));
    }

    /// Whether any is about background traffic.
    pub fn have_background(&self) -> bool {
        self.rules.iter().any(|active| active.rule.is_background())
    }

    /// Whether any is about how a link is shared.
    pub fn is_link_shared(&self) -> bool {
        self.everybody_else.is_some() || self.have_background()
    }

    /// The rules about background traffic have so much at present.
    pub fn set_background(&mut self, present: impl Fn(&ActiveRule) -> Limits) {
        let background = self
            .rules
            .iter_mut()
            .filter(|active| active.rule.is_background());
        background.for_each(|active| active.rule.limits = present(active));
    }

    /// How many background rules have no rate besides in a direction.
    pub fn without_ceiling(&self, direction: Direction) -> usize {
        let rules = self.rules.iter().map(|active| &active.rule);
        rules
            .filter(|rule| rule.is_background() && rule.ceiling.get(direction).is_none())
            .count()
    }

    /// What counts for everybody who is not mentioned, while some are more important.
    pub fn everybody_else(&self) -> Option<&ActiveRule> {
        self.everybody_else.as_ref()
    }

    /// Whether a limit is that of everybody else.
    pub fn is_rest(&self, id: LimitId) -> bool {
        self.everybody_else().is_some_and(|active| active.id == id)
    }

    /// Whether nothing counts for a process but what counts for everybody else.
    pub fn is_for_rest(&self, choice: &Choice) -> bool {
        let mut limits = choice.limits.parts();
        choice.meters.is_empty() && !choice.is_empty() && limits.all(|(_, id)| self.is_rest(id))
    }

    /// Which of the limits that count for a process are somebody's to change.
    pub fn listed(&self, limits: EffectiveLimits) -> EffectiveLimits {
        limits.map(|by| by.map(|id| id.filter(|id| !self.is_rest(*id))))
    }

    /// Whether a process comes before everybody else.
    pub fn is_important(&self, choice: &Choice) -> bool {
        let comes_first = |id| self.get(id).is_some_and(|active| active.rule.comes_first());
        self.everybody_else.is_some() && choice.limits.parts().any(|(_, id)| comes_first(id))
    }

    /// They have so much at present; nothing if they are not held.
    pub fn hold_everybody_else(&mut self, present: Limits) {
        if let Some(everybody_else) = &mut self.everybody_else {
            everybody_else.rule.limits = present;
        }
    }

    /// Where some come before everybody else, there is a limit for everybody else, about the same traffic. To be called
    /// whenever rules have changed.
    pub(super) fn see_to_everybody_else(&mut self) {
        let first = (self.rules.iter()).filter(|active| active.rule.comes_first());
        let scope_and_since = first
            .map(|active| (active.rule.scope, active.since))
            .reduce(|(scope, since), (other, later)| {
                let scope = if scope == other { scope } else { Scope::All };
                (scope, since.min(later))
            });
        let before = self.everybody_else.take();
        let Some((scope, since)) = scope_and_since else {
            return;
        };
        let mut everybody_else = before.unwrap_or_else(|| {
            let target = Target::Any(Vec::new());
            ActiveRule {
                id: self.next_id(),
                rule: Rule {
                    sharing: Sharing::Shared,
                    ..Rule::by_hand(target, Limits::default())
                },
                since,
                ended: false,
                members: HashSet::new(),
                trees: 0,
                place: i64::MAX,
            }
        });
        everybody_else.rule.scope = scope;
        self.everybody_else = Some(everybody_else);
    }

    /// Takes all of them out.
    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    /// What was seen of trees meanwhile is known here, too.
    pub fn keep_members_of(&mut self, others: &Self) {
        for active in &mut self.rules {
            if let Some(other) = others.get(active.id).filter(|other| other.trees != 0) {
                active.members.clone_from(&other.members);
            }
        }
    }

    /// Never gives away a number that the others gave away.
    pub fn number_after(&mut self, others: &Self) {
        self.last = self.last.max(others.last);
    }

    /// Takes a rule out.
    pub fn remove(&mut self, id: LimitId) -> Option<ActiveRule> {
        let at = self.rules.iter().position(|rule| rule.id == id)?;
        let removed = self.rules.remove(at);
        self.see_to_everybody_else();
        Some(removed)
    }

    /// Whether descendants are to be looked for.
    pub fn has_trees(&self) -> bool {
        self.rules.iter().any(ActiveRule::has_trees)
    }

    /// The descendants that are known, and the processes they descend from.
    pub fn descendants(&self) -> Vec<Pid> {
        let trees = self.rules.iter().filter(|rule| rule.has_trees());
        trees.flat_map(|tree| &tree.members).copied().collect()
    }

    /// Takes in the descendants that there are now, so that they are known when the processes
    /// between them and the root have ended; forgets those that ended.
    pub fn look_for_descendants(
        &mut self,
        children: impl Fn(Pid) -> Vec<Pid>,
        alive: impl Fn(Pid) -> bool,
    ) {
        for active in &mut self.rules {
            if !active.has_trees() {
                continue;
            }
            active.members.retain(|pid| alive(*pid));
            let mut new: Vec<Pid> = active.members.iter().copied().collect();
            while let Some(parent) = new.pop() {
                for child in children(parent) {
                    if active.members.insert(child) {
                        new.push(child);
                    }
                }
            }
        }
    }

    /// A process has ended: a rule that was for it alone is in force only for what it left to be
    /// sent. Returns whether there was one.
    pub fn process_ended(&mut self, key: ProcessKey) -> bool {
        let mut any = false;
        for active in &mut self.rules {
            let named = |id: &ProcessId| id.is(key);
            if active.rule.target.processes().iter().any(named) {
                any = true;
                active.ended = active.rule.target.forget(key);
            }
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::UNIX_EPOCH};

    use super::*;
    use crate::policy::fixtures::{limits, process};

    #[test]
    fn descendants_are_remembered_when_their_parents_have_ended() {
        let mut rules = ActiveRules::default();
        let tree = Rule::by_hand(Target::Tree(Pid(10).into()), limits(1, 1));
        let tree = rules.insert(tree, UNIX_EPOCH);
        // 10 has the child 11, that has the child 12.
        let child = rules.choose(&process(11, "sh"), || vec![Pid(10), Pid(1)]);
        assert!(child.ids().contains(&tree));
        let grandchild = rules.choose(&process(12, "curl"), || vec![Pid(11), Pid(10), Pid(1)]);
        assert!(grandchild.ids().contains(&tree));
        // 11 has ended, and 12 is init's child now.
        let orphan = rules.choose(&process(12, "curl"), || vec![Pid(1)]);
        assert!(orphan.ids().contains(&tree));
        assert!(
            rules
                .choose(&process(13, "curl"), || vec![Pid(1)])
                .is_empty()
        );
        // 12 forks 14, and ends.
        let children = |parent| {
            if parent == Pid(12) {
                vec![Pid(14)]
            } else {
                Vec::new()
            }
        };
        rules.look_for_descendants(children, |_| true);
        rules.look_for_descendants(|_| Vec::new(), |pid| pid == Pid(14));
        assert!(
            rules
                .choose(&process(14, "curl"), || vec![Pid(1)])
                .ids()
                .contains(&tree)
        );
        rules.look_for_descendants(|_| Vec::new(), |_| false);
        assert!(rules.get(tree).unwrap().is_deserted());
    }

    #[test]
    fn trees_have_bits_by_which_the_kernel_knows_them() {
        let mut rules = ActiveRules::default();
        let tree = |pid| Rule::by_hand(Target::Tree(Pid(pid).into()), limits(1, 1));
        let [outer, inner] = [10, 11].map(|pid| rules.insert(tree(pid), UNIX_EPOCH));
        let bits = |rules: &ActiveRules, id| rules.get(id).unwrap().trees();
        let (first, second) = (bits(&rules, outer), bits(&rules, inner));
        assert_eq!((first, second), (1, 2));
        rules.join(Pid(12), first | second);
        rules.join(Pid(13), 1 << 40);
        let families = [(10, first), (11, second), (12, first | second)];
        let families = families.map(|(pid, trees)| (Pid(pid), trees));
        assert_eq!(rules.families(), HashMap::from(families));
        let choice = rules.choose(&process(12, "make"), Vec::new);
        assert_eq!(choice.ids(), BTreeSet::from([inner]), "the newest");
        let chosen = |trees| rules.choose_by(|rule| rule.trees() & trees != 0);
        assert_eq!(chosen(first | second), choice);
        assert_eq!(chosen(first).ids(), BTreeSet::from([outer]));
        // A bit is not used again at once, and never twice.
        rules.remove(outer);
        let next = rules.insert(tree(14), UNIX_EPOCH);
        assert_eq!(bits(&rules, next), 4);
        let many: Vec<_> = (20..82)
            .map(|pid| rules.insert(tree(pid), UNIX_EPOCH))
            .collect();
        assert_eq!(bits(&rules, many[61]), first);
        let more = rules.insert(tree(100), UNIX_EPOCH);
        assert_eq!(bits(&rules, more), 0, "too many");
    }
}
