//! The limits in force: which rule counts for which process, and the cells that processes share.

use std::{
    cell::OnceCell,
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, SystemTime},
};

use chadthrottle_common::{
    address::TrafficClass,
    limit::Enforced,
    newcomer::{MAX_TREES, Trees},
    traffic::Direction,
};

use crate::{
    kernel::{Cell, LimitCells},
    model::{
        direction::PerDirection,
        limit::LimitId,
        process::{Identity, Pid, ProcessId, ProcessKey},
        rule::{Origin, Rule, Sharing},
        target::Target,
    },
    rate::{Bytes, Rate},
};

/// A cell in use, and what was last read of it.
pub struct LimitCell {
    /// The cell.
    pub cell: Cell,
    /// Whose it is.
    pub limit: LimitId,
    /// Which direction of it.
    pub direction: Direction,
    /// What it has done.
    pub enforced: Enforced,
    /// What it adds to the round trip.
    pub delay: Duration,
}

impl LimitCell {
    /// A new cell.
    ///
    /// # Errors
    ///
    /// [`crate::kernel::CellsExhausted`], or the kernel's.
    pub fn allocate(
        cells: &mut LimitCells,
        limit: LimitId,
        direction: Direction,
        rate: Rate,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            cell: cells.allocate(direction, rate)?,
            limit,
            direction,
            enforced: Enforced::default(),
            delay: Duration::ZERO,
        })
    }

    /// Reads what it did.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn read(&mut self, cells: &LimitCells) -> anyhow::Result<()> {
        self.enforced = cells.enforced(&self.cell)?;
        self.delay = cells.delay(&self.cell)?;
        Ok(())
    }
}

/// A sum of what cells did.
#[derive(Clone, Copy, Default)]
pub struct Done {
    /// Payload dropped.
    pub dropped: PerDirection<Bytes>,
    /// Packets marked.
    pub marked: PerDirection<u64>,
    /// The longest delay.
    pub delay: PerDirection<Duration>,
}

impl Done {
    /// Adds what a cell did.
    pub fn add(&mut self, cell: &LimitCell) {
        let direction = cell.direction;
        let dropped = self.dropped.get_mut(direction);
        *dropped = Bytes::new(dropped.count() + cell.enforced.dropped_bytes);
        *self.marked.get_mut(direction) += cell.enforced.marked_packets;
        let delay = self.delay.get_mut(direction);
        *delay = (*delay).max(cell.delay);
    }

    /// Adds what a cell did that does nothing any more.
    pub fn take_over(&mut self, cell: &LimitCell) {
        self.add(cell);
        *self.delay.get_mut(cell.direction) = Duration::ZERO;
    }
}

/// A rule in force.
pub struct InForce {
    /// Its number.
    pub id: LimitId,
    /// What was asked for.
    pub rule: Rule,
    /// Since when.
    pub since: SystemTime,
    /// The cells that its processes share.
    pub shared: Vec<LimitCell>,
    /// Where each process has cells of its own: those that new processes share until they do.
    pub newcomers: Vec<LimitCell>,
    /// What cells did whose processes have left.
    pub before: Done,
    /// What its processes moved.
    pub bytes: PerDirection<u64>,
    /// The same in the last interval, a second.
    pub achieved: PerDirection<Rate>,
    /// Of a [`Target::Tree`]: its processes, as far as they were seen.
    members: HashSet<Pid>,
    /// The bit by which the kernel knows its tree; 0 for none.
    trees: Trees,
    /// Its place among those of the same precedence: the lowest first.
    place: i64,
    /// The process it was for has ended; it is in force for what that left to be sent.
    pub ended: bool,
}

/// Which limit counts, by direction and class of traffic.
pub type Chosen = [[Option<LimitId>; 2]; 2];

/// What counts for a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The limits.
    pub limits: Chosen,
    /// The rules that count its traffic.
    pub meters: Vec<LimitId>,
}

impl Choice {
    /// Whether nothing does.
    pub fn is_empty(&self) -> bool {
        self.limits == Chosen::default() && self.meters.is_empty()
    }

    /// A rule matches that comes after those that were added before.
    fn add(&mut self, in_force: &InForce) {
        if in_force.rule.metered {
            self.meters.push(in_force.id);
        }
        for direction in Direction::BOTH {
            if in_force.rule.limits.get(direction).is_none() {
                continue;
            }
            for class in TrafficClass::BOTH {
                let place = &mut self.limits[direction.index()][class.index()];
                if place.is_none() && in_force.rule.scope.covers(class) {
                    *place = Some(in_force.id);
                }
            }
        }
    }

    /// The cells that it takes: each direction of each limit, once.
    pub fn cells(&self) -> impl Iterator<Item = (Direction, LimitId)> {
        Direction::BOTH.into_iter().flat_map(|direction| {
            let [internet, local] = self.limits[direction.index()];
            let local = local.filter(|_| local != internet);
            [internet, local]
                .into_iter()
                .flatten()
                .map(move |id| (direction, id))
        })
    }

    /// All of them, each once.
    pub fn ids(&self) -> BTreeSet<LimitId> {
        let limits = self.limits.as_flattened().iter().flatten();
        limits.chain(&self.meters).copied().collect()
    }

    /// The same without those of which `gone` says so.
    pub fn without(&self, gone: impl Fn(LimitId) -> bool) -> Self {
        Self {
            limits: self
                .limits
                .map(|by| by.map(|id| id.filter(|id| !gone(*id)))),
            meters: self
                .meters
                .iter()
                .copied()
                .filter(|id| !gone(*id))
                .collect(),
        }
    }
}

/// All rules in force, those that come first first.
#[derive(Default)]
pub struct RulesInForce {
    rules: Vec<InForce>,
    last: u64,
    /// Trees that had a bit so far.
    trees: u32,
}

impl RulesInForce {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &InForce> {
        self.rules.iter()
    }

    /// All of them, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut InForce> {
        self.rules.iter_mut()
    }

    /// The one with this number.
    pub fn get(&self, id: LimitId) -> Option<&InForce> {
        self.rules.iter().find(|rule| rule.id == id)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: LimitId) -> Option<&mut InForce> {
        self.rules.iter_mut().find(|rule| rule.id == id)
    }

    /// The one whose place a rule takes.
    pub fn replaced_by(&self, rule: &Rule) -> Option<LimitId> {
        let replaced = self.rules.iter().find(|old| rule.replaces(&old.rule))?;
        Some(replaced.id)
    }

    /// Takes in a rule that replaces none. Of those set by hand the newest comes first, those of a
    /// file come last.
    pub fn insert(&mut self, rule: Rule) -> LimitId {
        self.last += 1;
        let id = LimitId(self.last);
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
        self.rules.push(InForce {
            id,
            rule,
            since: SystemTime::now(),
            shared: Vec::new(),
            newcomers: Vec::new(),
            before: Done::default(),
            bytes: PerDirection::default(),
            achieved: PerDirection::default(),
            members,
            trees,
            place,
            ended: false,
        });
        self.sort();
        id
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
        for in_force in &mut self.rules {
            if in_force.trees & trees != 0 {
                in_force.members.insert(pid);
            }
        }
    }

    /// The processes of all trees, as the kernel is to know them.
    pub fn families(&self) -> HashMap<Pid, Trees> {
        let mut families = HashMap::new();
        for in_force in self.rules.iter().filter(|rule| rule.trees != 0) {
            for pid in &in_force.members {
                *families.entry(*pid).or_default() |= in_force.trees;
            }
        }
        families
    }

    /// What counts for a process of which no more is known than which rules it `matches`.
    pub fn choose_by(&self, matches: impl Fn(&InForce) -> bool) -> Choice {
        let mut choice = Choice::default();
        for in_force in self.rules.iter().filter(|rule| matches(rule)) {
            choice.add(in_force);
        }
        choice
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

    /// Takes a rule out.
    pub fn remove(&mut self, id: LimitId) -> Option<InForce> {
        let at = self.rules.iter().position(|rule| rule.id == id)?;
        Some(self.rules.remove(at))
    }

    /// What counts for a process: in each direction and class the first rule that limits it.
    /// `parents` are its ancestors' ids, the nearest first; they are asked for only if they matter.
    pub fn choose(&mut self, process: &Identity, parents: impl Fn() -> Vec<Pid>) -> Choice {
        let mut choice = Choice::default();
        let known = OnceCell::new();
        let parents = || known.get_or_init(&parents);
        for in_force in &mut self.rules {
            let members = &mut in_force.members;
            let mut descends = |root: ProcessId| {
                let member = members.contains(&process.key.pid)
                    || parents().iter().any(|parent| members.contains(parent));
                // A root whose id went to another process since has no children any more.
                if member && root.pid != process.key.pid {
                    members.insert(process.key.pid);
                }
                member && root.pid != process.key.pid
            };
            if !in_force.rule.target.matches(process, &mut descends) {
                continue;
            }
            choice.add(in_force);
        }
        choice
    }

    /// Whether descendants are to be looked for.
    pub fn has_trees(&self) -> bool {
        self.rules.iter().any(InForce::has_trees)
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
        for in_force in &mut self.rules {
            if !in_force.has_trees() {
                continue;
            }
            in_force.members.retain(|pid| alive(*pid));
            let mut new: Vec<Pid> = in_force.members.iter().copied().collect();
            while let Some(parent) = new.pop() {
                for child in children(parent) {
                    if in_force.members.insert(child) {
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
        for in_force in &mut self.rules {
            let named = |id: &ProcessId| id.is(key);
            if in_force.rule.target.processes().iter().any(named) {
                any = true;
                in_force.ended = in_force.rule.target.forget(key);
            }
        }
        any
    }
}

impl InForce {
    /// Whether each of its processes has cells of its own.
    pub fn is_each(&self) -> bool {
        self.rule.sharing == Sharing::Each
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

    /// All cells that several processes share.
    pub fn common_cells(&self) -> impl Iterator<Item = &LimitCell> {
        self.shared.iter().chain(&self.newcomers)
    }

    /// All of them, to be changed.
    pub fn common_cells_mut(&mut self) -> impl Iterator<Item = &mut LimitCell> {
        self.shared.iter_mut().chain(&mut self.newcomers)
    }

    /// The cell with which new processes begin.
    pub fn newcomers_cell(&self, direction: Direction) -> Option<&LimitCell> {
        let cells = if self.is_each() {
            &self.newcomers
        } else {
            &self.shared
        };
        cells.iter().find(|cell| cell.direction == direction)
    }

    /// The cell that its processes share in a direction.
    pub fn shared_cell(&self, direction: Direction) -> Option<&LimitCell> {
        self.shared.iter().find(|cell| cell.direction == direction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{direction::Limits, rule::Scope},
        process::identity::Identifier,
    };

    fn process(pid: u32, name: &str) -> Identity {
        Identifier::default().of_departed(Pid(pid), name.as_bytes(), 1000)
    }

    fn limits(download: u64, upload: u64) -> Limits {
        let rate = |bytes| (bytes > 0).then_some(Rate::from_bytes_per_second(bytes));
        Limits {
            download: rate(download),
            upload: rate(upload),
        }
    }

    fn file(name: &str, target: Target, limits: Limits) -> Rule {
        Rule {
            origin: Origin::File(name.into()),
            ..Rule::by_hand(target, limits)
        }
    }

    fn chosen(rules: &mut RulesInForce, process: &Identity) -> Chosen {
        rules.choose(process, Vec::new).limits
    }

    #[test]
    fn the_first_rule_that_limits_a_direction_counts_in_it() {
        let mut rules = RulesInForce::default();
        let curl = rules.insert(file("a", Target::program("curl"), limits(1, 0)));
        let user = Target::User {
            uid: 1000,
            name: "u".into(),
        };
        let user = rules.insert(file("b", user, limits(2, 2)));
        rules.order(&[curl, user]);
        let both = |id| [Some(id); 2];
        assert_eq!(
            chosen(&mut rules, &process(1, "curl")),
            [both(curl), both(user)]
        );
        assert_eq!(
            chosen(&mut rules, &process(2, "wget")),
            [both(user), both(user)]
        );
        rules.order(&[user, curl]);
        assert_eq!(
            chosen(&mut rules, &process(1, "curl")),
            [both(user), both(user)]
        );
    }

    #[test]
    fn a_rule_about_one_class_leaves_the_other_to_the_next() {
        let mut rules = RulesInForce::default();
        let internet = Rule {
            scope: Scope::Internet,
            ..file("a", Target::program("curl"), limits(1, 0))
        };
        let internet = rules.insert(internet);
        let all = rules.insert(file("b", Target::program("curl"), limits(2, 0)));
        rules.order(&[internet, all]);
        assert_eq!(
            chosen(&mut rules, &process(1, "curl")),
            [[Some(internet), Some(all)], [None, None]]
        );
    }

    #[test]
    fn what_was_set_by_hand_comes_first_and_the_newest_of_it() {
        let mut rules = RulesInForce::default();
        let from_file = rules.insert(file("a", Target::program("curl"), limits(1, 1)));
        rules.order(&[from_file]);
        let older = rules.insert(Rule::by_hand(Target::program("curl"), limits(2, 2)));
        assert_eq!(chosen(&mut rules, &process(1, "curl"))[0][0], Some(older));
        let glob = Target::Program {
            by: crate::model::target::ProgramField::Name,
            pattern: "c*".parse().unwrap(),
        };
        let newer = rules.insert(Rule::by_hand(glob, limits(3, 3)));
        assert_eq!(chosen(&mut rules, &process(1, "curl"))[0][0], Some(newer));
        let narrow = rules.insert(Rule::by_hand(Pid(1), limits(4, 4)));
        rules.insert(Rule::by_hand(Target::program("wget"), limits(5, 5)));
        assert_eq!(chosen(&mut rules, &process(1, "curl"))[0][0], Some(narrow));
        rules.remove(narrow).unwrap();
        assert_eq!(chosen(&mut rules, &process(1, "curl"))[0][0], Some(newer));
    }

    #[test]
    fn a_rule_that_only_counts_leaves_limits_to_others() {
        let mut rules = RulesInForce::default();
        let meter = rules.insert(Rule {
            metered: true,
            ..file("a", Target::program("curl"), limits(0, 0))
        });
        let limit = rules.insert(file("b", Target::program("curl"), limits(1, 1)));
        let choice = rules.choose(&process(1, "curl"), Vec::new);
        assert_eq!(choice.limits, [[Some(limit); 2]; 2]);
        assert_eq!(choice.meters, [meter]);
        assert_eq!(choice.ids(), BTreeSet::from([meter, limit]));
    }

    #[test]
    fn descendants_are_remembered_when_their_parents_have_ended() {
        let mut rules = RulesInForce::default();
        let tree = rules.insert(Rule::by_hand(Target::Tree(Pid(10).into()), limits(1, 1)));
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
        let mut rules = RulesInForce::default();
        let tree = |pid| Rule::by_hand(Target::Tree(Pid(pid).into()), limits(1, 1));
        let [outer, inner] = [10, 11].map(|pid| rules.insert(tree(pid)));
        let bits = |rules: &RulesInForce, id| rules.get(id).unwrap().trees();
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
        let next = rules.insert(tree(14));
        assert_eq!(bits(&rules, next), 4);
        let many: Vec<_> = (20..82).map(|pid| rules.insert(tree(pid))).collect();
        assert_eq!(bits(&rules, many[61]), first);
        let more = rules.insert(tree(100));
        assert_eq!(bits(&rules, more), 0, "too many");
    }
}
