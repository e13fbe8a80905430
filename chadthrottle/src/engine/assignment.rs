//! What the rules say of a process, and putting it in force.
//!
//! In this order, for all processes that a command concerns: what counts for each is chosen, the throttle
//! pair is put where their packets meet it, what they would send is held while their devices get fq, and then
//! their slots name their limits. So what can hold the traffic that runs is there before the limit counts.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Instant,
};

use chadthrottle_common::{address::TrafficClass, traffic::Direction};

use super::{
    Engine,
    cells::{LimitCell, RuleCells},
    checking::{learn_road, put_windows},
    enforcement::{Enforcement, ROOT},
    owners::Owner,
    roads::Roads,
};
use crate::{
    kernel::Kernel,
    model::target::Target,
    policy::{
        active::{ActiveRule, ActiveRules},
        choose::Choice,
    },
    process::ancestry,
};

/// What came of looking at what counts for a process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// It is as it was.
    None,
    /// Other limits count than before.
    Replaced,
    /// It was not limited before.
    New,
}

impl Engine {
    /// Sees to it that the right limits count for every process, and that their packets meet the
    /// throttle pair. Then cells that are `surplus` are named by no slot, and free.
    pub(super) fn settle(&mut self, mut surplus: Vec<LimitCell>) -> anyhow::Result<()> {
        surplus.extend(self.forget_newcomers());
        let mut outcome = Ok(());
        let mut changes = Vec::new();
        for slot in self.owners.slots() {
            self.attend();
            // If one fails, the others are limited all the same.
            match self.choose(slot) {
                Ok(Change::None) => {}
                Ok(change) => changes.push((slot, change)),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome = outcome.and(self.try_place_throttle_pair());
        self.look_at_networks(true);
        let changes: Vec<_> = changes
            .into_iter()
            .map(|(slot, change)| (slot, change, self.roads_if_new(slot, change)))
            .collect();
        for (slot, change, _) in &changes {
            self.attend();
            if *change == Change::New {
                outcome = outcome.and(self.hold(*slot));
            }
        }
        for (slot, change, roads) in changes {
            self.attend();
            outcome = outcome.and(self.put_in_force(slot, change, &roads));
        }
        // Who began with one of them meanwhile.
        self.attend();
        for cell in surplus {
            self.kernel.limits.release(cell.cell);
        }
        outcome.and_then(|()| self.try_place_throttle_pair())
    }

    /// The same for a process that is new, or not what it was.
    pub(super) fn meet_rules(&mut self, slot: u32) {
        if let Err(error) = self.try_meet_rules(slot) {
            let owner = self.owners.of_slot(slot);
            let pid = owner
                .map(|owner| owner.pid().to_string())
                .unwrap_or_default();
            self.notices
                .warn(format!("process {pid} is not limited: {error:#}"));
        }
    }

    fn try_meet_rules(&mut self, slot: u32) -> anyhow::Result<()> {
        let change = self.choose(slot)?;
        if change == Change::None {
            return Ok(());
        }
        if !self.meets_throttle_pair(slot) {
            self.place_throttle_pair();
        }
        let roads = self.roads_if_new(slot, change);
        let held = match change {
            Change::New => self.hold(slot),
            _ => Ok(()),
        };
        self.put_in_force(slot, change, &roads).and(held)
    }

    /// Whether a limited process's packets meet the throttle pair where it is now.
    fn meets_throttle_pair(&self, slot: u32) -> bool {
        let owner = self.owners.of_slot(slot);
        let limit = owner.and_then(|owner| owner.enforcement.as_ref());
        limit.is_some_and(|limit| self.kernel.throttles_at(&limit.cgroups))
    }

    /// Looks at what counts for a process, and gives it the cells that it is to have to itself. The kernel
    /// does not know of it yet.
    fn choose(&mut self, slot: u32) -> anyhow::Result<Change> {
        let Some(owner) = self.owners.of_slot_mut(slot) else {
            return Ok(Change::None);
        };
        let pid = owner.pid();
        owner.changed = false;
        let began = owner.began.take();
        let mut choice = self
            .rules
            .choose(&owner.identity, || ancestry::ancestors(pid));
        if owner.ended.is_some() {
            // What it left to be sent stays under the limits that are still there, and no others.
            let before = owner.enforcement.as_ref().map(|before| &before.choice);
            choice = before
                .or(began.as_ref())
                .map_or_else(Choice::default, |before| {
                    before.without(|id| self.rules.get(id).is_none())
                });
        }
        let own = own_limits(&self.rules, &choice);
        let is_rest = self.rules.is_for_rest(&choice);
        if owner.enforcement.as_ref().map_or(choice.is_empty(), |now| {
            now.choice == choice
                && now.own.len() == own.len()
                && now.own.iter().all(|cell| is_among(cell, &own))
        }) {
            if began.is_some() {
                // What it began with may be more than what counts for it.
                set_limits(
                    &mut self.kernel,
                    &self.rules,
                    &self.cells,
                    owner,
                    &Direction::BOTH,
                )?;
            }
            return Ok(Change::None);
        }
        let mut new = Vec::new();
        for (direction, active) in &own {
            let (direction, id) = (*direction, active.id);
            let known = owner
                .enforcement
                .as_ref()
                .and_then(|e| e.own_cell(id, direction));
            if known.is_none()
                && let Some(rate) = *active.rule.limits.get(direction)
            {
                let cell = LimitCell::allocate(&mut self.kernel.limits, id, direction, rate);
                match cell {
                    Ok(cell) => new.push(cell),
                    Err(error) => {
                        new.into_iter()
                            .for_each(|cell: LimitCell| self.kernel.limits.release(cell.cell));
                        return Err(error);
                    }
                }
            }
        }
        let now = Instant::now();
        Ok(match &mut owner.enforcement {
            Some(enforcement) => {
                enforcement.replace(choice, now);
                enforcement.own.extend(new);
                if is_rest {
                    enforcement.climb();
                }
                Change::Replaced
            }
            none => {
                // While it is not held, nothing of it is met: there is no other place to look for it.
                let cgroup = match is_rest {
                    true => ROOT.into(),
                    false => owner.identity.cgroup.clone(),
                };
                let enforcement = none.insert(Enforcement::new(choice, &cgroup, now));
                enforcement.own.extend(new);
                if owner.ended.is_some() {
                    // Where it was is not known; those like it meet the pair already.
                    enforcement.cgroups.clear();
                }
                Change::New
            }
        })
    }

    /// Lets TCP keep what a process would send until its limit is put in force.
    fn hold(&mut self, slot: u32) -> anyhow::Result<()> {
        let Some(owner) = self.owners.of_slot(slot) else {
            return Ok(());
        };
        let limited = (owner.enforcement.as_ref())
            // It is not held yet, and there may be hundreds of them.
            .filter(|limit| !self.rules.is_for_rest(&limit.choice));
        if owner.ended.is_some() || !limited.is_some_and(|limit| limit.limits(Direction::Upload)) {
            return Ok(());
        }
        self.kernel.limits.hold(slot, &[])?;
        set_limits(
            &mut self.kernel,
            &self.rules,
            &self.cells,
            owner,
            &[Direction::Upload],
        )
    }

    /// The devices of the connections of a process that was not limited before.
    fn roads_if_new(&mut self, slot: u32, change: Change) -> Roads {
        let owner = self.owners.of_slot(slot);
        let lives = owner.filter(|owner| {
            let limited = owner.enforcement.as_ref();
            let is_rest = limited.is_some_and(|limit| self.rules.is_for_rest(&limit.choice));
            owner.ended.is_none() && !owner.is_crowd() && !is_rest
        });
        match lives.map(Owner::pid) {
            Some(pid) if change == Change::New => self.roads_of(pid),
            _ => Roads::default(),
        }
    }

    /// Lets the limits count that were chosen for a process, whose connections go by these devices.
    fn put_in_force(&mut self, slot: u32, change: Change, roads: &Roads) -> anyhow::Result<()> {
        let Some(owner) = self.owners.of_slot_mut(slot) else {
            return Ok(());
        };
        let (pid, ended) = (owner.pid(), owner.ended.is_some());
        let Some(enforcement) = &mut owner.enforcement else {
            return Ok(());
        };
        enforcement.in_force = true;
        if change == Change::New {
            let mut told = roads.all;
            if !ended {
                // Paced from the start where others are.
                for device in self.pacing.ready(pid) {
                    enforcement.add_road(device, Ok(()));
                }
                let seen = self.kernel.counters.devices(slot)?;
                for index in seen.union(&roads.devices) {
                    learn_road(&mut self.pacing, *index, pid, enforcement);
                }
                told &= put_windows(&mut self.windows, &mut self.kernel, pid, enforcement);
            }
            // What an earlier limit of this slot found out may not hold any more.
            self.kernel
                .limits
                .pace_anew(slot, &enforcement.paced_indexes(), told)?;
        }
        set_limits(
            &mut self.kernel,
            &self.rules,
            &self.cells,
            owner,
            &Direction::BOTH,
        )?;
        let Some(enforcement) = &mut owner.enforcement else {
            return Ok(());
        };
        // Only now does no slot name them any more.
        let own = own_limits(&self.rules, &enforcement.choice);
        let surplus = (enforcement.own).extract_if(.., |cell| !is_among(cell, &own));
        for cell in surplus {
            self.cells.take_over(&cell);
            self.kernel.limits.release(cell.cell);
        }
        if enforcement.choice.is_empty() {
            owner.enforcement = None;
        }
        Ok(())
    }

    pub(super) fn place_throttle_pair(&mut self) {
        if let Err(error) = self.try_place_throttle_pair() {
            self.notices.warn(format!("{error:#}"));
        }
    }

    /// Attaches the throttle pair where the packets of all limited processes meet it, and of those
    /// that rules wait for.
    fn try_place_throttle_pair(&mut self) -> anyhow::Result<()> {
        let root = self.kernel.cgroup_root().to_owned();
        let targets = self.rules.iter().flat_map(|rule| rule.rule.target.parts());
        let awaited = targets.filter_map(|target| match target {
            Target::Process(_) | Target::Tree(_) => None,
            Target::Cgroup(path) => Some(existing(&root, path)),
            Target::Program { .. } | Target::Unit(_) | Target::User { .. } | Target::Any(_) => {
                Some("/".into())
            }
        });
        let limited = self
            .owners
            .limits()
            .flat_map(|limit| limit.cgroups.iter().cloned());
        let cgroups: BTreeSet<PathBuf> = awaited.chain(limited).collect();
        self.kernel.throttle_at(&cgroups)
    }
}

/// The limits that a process has to itself: a rule may have come to be shared, or each process's own.
fn own_limits<'a>(rules: &'a ActiveRules, choice: &Choice) -> Vec<(Direction, &'a ActiveRule)> {
    choice
        .limits
        .parts()
        .filter_map(|(direction, id)| Some((direction, rules.get(id)?)))
        .filter(|(_, rule)| rule.is_each())
        .collect()
}

/// Whether a cell is of one of these limits.
fn is_among(cell: &LimitCell, own: &[(Direction, &ActiveRule)]) -> bool {
    own.iter()
        .any(|(direction, rule)| (*direction, rule.id) == (cell.direction, cell.limit))
}

/// Writes what the kernel looks at for every packet of a process, as far as it is limited in these directions.
fn set_limits(
    kernel: &mut Kernel,
    rules: &ActiveRules,
    cells: &RuleCells,
    owner: &Owner,
    directions: &[Direction],
) -> anyhow::Result<()> {
    let enforcement = owner.enforcement.as_ref();
    let cell = |direction: Direction, class: TrafficClass| {
        let enforcement = enforcement.filter(|_| directions.contains(&direction))?;
        let id = (*enforcement.choice.limits.get(direction).get(class))?;
        let cell = if rules.get(id)?.is_each() {
            enforcement.own_cell(id, direction)
        } else {
            cells.shared(id, direction)
        };
        Some(&cell?.cell)
    };
    // Of what is important it is counted by class, too: local traffic holds nobody.
    let metered = enforcement
        .is_some_and(|limit| !limit.choice.meters.is_empty() || rules.is_important(&limit.choice));
    let namespace = owner.namespace.number();
    let is_rest = enforcement.is_some_and(|limit| rules.is_for_rest(&limit.choice));
    (kernel.slots).set_limits(owner.tag, namespace, cell, metered, is_rest)
}

/// A cgroup's path, or that of the nearest above it that exists.
fn existing(root: &Path, path: &str) -> PathBuf {
    let below = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    Path::new(path)
        .ancestors()
        .find(|path| below(path).is_dir())
        .unwrap_or(Path::new("/"))
        .to_owned()
}
