//! Limits: what commands ask for, and which cells each process's packets are charged to.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Instant,
};

use chadthrottle_common::{address::TrafficClass, traffic::Direction};

use super::{
    Engine,
    enforcement::Enforcement,
    in_force::{Choice, InForce, LimitCell, RulesInForce},
    owners::Owner,
};
use crate::{
    kernel::{CellsExhausted, Kernel, SlotsExhausted},
    model::{
        command::{Command, CommandError},
        direction::Limits,
        limit::LimitId,
        process::{Pid, ProcessId, ProcessKey},
        rule::{Origin, Rule},
        target::Target,
    },
    process::{ancestry, open_pidfd},
    rate::Rate,
};

impl Engine {
    /// Carries out a command; [`Command::SetInterval`] is the loop's.
    pub(super) fn apply(&mut self, command: Command) -> Result<(), CommandError> {
        match command {
            Command::Set(rule) => self.set(*rule).map(|_| ()),
            Command::SetFile(rules) => self.set_file(rules),
            Command::Remove(id) => self.remove(id),
            Command::RemoveAll => {
                let ids: Vec<LimitId> = self.rules.iter().map(|rule| rule.id).collect();
                self.withdraw(&ids)
            }
            Command::Watch(watch) => {
                self.watch(|watching, attend| watching.set(watch, attend));
                Ok(())
            }
            Command::SetInterval(_) => Ok(()),
        }
    }

    /// Puts a rule in force; if that fails, what was before stays in force. Returns its number, if
    /// there is anything to be in force.
    fn set(&mut self, rule: Rule) -> Result<Option<LimitId>, CommandError> {
        self.set_by(rule, &mut Self::put_in_force)
    }

    /// The same, where `put` brings into the kernel what the rules say.
    fn set_by(
        &mut self,
        mut rule: Rule,
        put: &mut dyn FnMut(&mut Self, LimitId) -> anyhow::Result<()>,
    ) -> Result<Option<LimitId>, CommandError> {
        rule.target = rule.target.resolved(&|process| self.resolve(process))?;
        let replaced = self.rules.replaced_by(&rule);
        if rule.limits.is_unlimited() && !rule.metered {
            return match replaced {
                Some(id) => self.remove(id).map(|()| None),
                None => Ok(None),
            };
        }
        for process in rule.target.processes() {
            self.attend();
            // It is given a slot before its first socket.
            self.attribution
                .tag_of(&mut self.kernel, &mut self.owners, process.pid)
                .map_err(kernel_error)?;
            self.look_at(process.pid);
        }
        log::info!("{}: {}", rule.target, described(rule.limits));
        let Some(id) = replaced else {
            let id = self.rules.insert(rule);
            if let Err(error) = put(self, id) {
                if let Err(again) = self.withdraw(&[id]) {
                    self.notices.warn(format!("{again:#}"));
                }
                return Err(kernel_error(error));
            }
            return Ok(Some(id));
        };
        let Some(in_force) = self.rules.get_mut(id) else {
            return Ok(None);
        };
        let before = std::mem::replace(&mut in_force.rule, rule);
        if let Err(error) = put(self, id) {
            if let Some(in_force) = self.rules.get_mut(id) {
                in_force.rule = before;
            }
            if let Err(again) = put(self, id) {
                log::warn!("what was in force before: {again:#}");
            }
            return Err(kernel_error(error));
        }
        Ok(Some(id))
    }

    fn set_file(&mut self, rules: Vec<Rule>) -> Result<(), CommandError> {
        let stays = |old: &InForce| {
            let from_file = matches!(old.rule.origin, Origin::File(_));
            !from_file || rules.iter().any(|rule| rule.replaces(&old.rule))
        };
        let gone: Vec<LimitId> = self
            .rules
            .iter()
            .filter(|old| !stays(old))
            .map(|old| old.id)
            .collect();
        // Every process's slot is seen to only once, however many rules there are.
        let mut surplus = self.take_out(&gone);
        let mut order = Vec::new();
        let mut failure = Ok(());
        for rule in rules {
            self.attend();
            let set = self.set_by(rule, &mut |engine: &mut Self, id| {
                engine.fit_cells(id, &mut surplus)
            });
            match set {
                Ok(id) => order.extend(id),
                // The others are put in force all the same.
                Err(error) => failure = Err(error),
            }
        }
        self.rules.order(&order);
        self.settle(surplus).map_err(kernel_error)?;
        failure
    }

    fn remove(&mut self, id: LimitId) -> Result<(), CommandError> {
        if self.rules.get(id).is_none() {
            return Err(CommandError::NoSuchLimit);
        }
        self.withdraw(&[id])
    }

    /// Ends limits that are in force.
    fn withdraw(&mut self, ids: &[LimitId]) -> Result<(), CommandError> {
        let surplus = self.take_out(ids);
        self.settle(surplus).map_err(kernel_error)
    }

    /// Takes rules out. Returns their cells, which slots still name.
    fn take_out(&mut self, ids: &[LimitId]) -> Vec<LimitCell> {
        let removed = ids.iter().filter_map(|id| self.rules.remove(*id));
        removed
            .flat_map(|removed| {
                log::info!("{}: not limited any more", removed.rule.target);
                removed.shared
            })
            .collect()
    }

    /// Ends the limits of a process whose slot goes to another.
    pub(super) fn forget_limits_of(&mut self, key: ProcessKey) {
        let last = |rule: &InForce| {
            let mut processes = rule.rule.target.processes().into_iter();
            rule.ended && processes.all(|process| process.is(key))
        };
        let ended: Vec<LimitId> = self
            .rules
            .iter()
            .filter(|rule| last(rule) || rule.is_deserted())
            .map(|rule| rule.id)
            .collect();
        if !ended.is_empty()
            && let Err(error) = self.withdraw(&ended)
        {
            log::warn!("{error}");
        }
    }

    /// Brings the cells of a limit to what its rule says, and then every process's slot.
    fn put_in_force(&mut self, id: LimitId) -> anyhow::Result<()> {
        let mut surplus = Vec::new();
        let fitted = self.fit_cells(id, &mut surplus);
        let settled = self.settle(surplus);
        fitted.and(settled)
    }

    /// Brings the cells of a limit to what its rule says. Those that it needs no more go to
    /// `surplus`, as slots still name them.
    fn fit_cells(&mut self, id: LimitId, surplus: &mut Vec<LimitCell>) -> anyhow::Result<()> {
        let Some(in_force) = self.rules.get_mut(id) else {
            return Ok(());
        };
        let limits = in_force.rule.limits;
        let each = in_force.is_each();
        for direction in Direction::BOTH {
            let at = in_force
                .shared
                .iter()
                .position(|cell| cell.direction == direction);
            let rate = limits.get(direction).filter(|_| !each);
            match (at, rate) {
                (None, Some(rate)) => in_force.shared.push(LimitCell::allocate(
                    &mut self.kernel.limits,
                    id,
                    direction,
                    rate,
                )?),
                (Some(at), Some(rate)) => {
                    let cell = &in_force.shared[at].cell;
                    self.kernel.limits.change(cell, direction, rate)?;
                }
                (Some(at), None) => surplus.push(in_force.shared.swap_remove(at)),
                (None, None) => {}
            }
        }
        for slot in self.owners.slots() {
            self.attend();
            let owner = self.owners.of_slot(slot);
            let enforcement = owner.and_then(|owner| owner.enforcement.as_ref());
            for cell in enforcement.iter().flat_map(|enforcement| &enforcement.own) {
                if cell.limit == id
                    && let Some(rate) = *limits.get(cell.direction)
                {
                    let cells = &mut self.kernel.limits;
                    cells.change(&cell.cell, cell.direction, rate)?;
                }
            }
        }
        Ok(())
    }

    /// Sees to it that the right limits count for every process, and that their packets meet the
    /// throttle pair. Then cells that are `surplus` are named by no slot, and free.
    fn settle(&mut self, mut surplus: Vec<LimitCell>) -> anyhow::Result<()> {
        surplus.extend(self.forget_newcomers());
        let assigned = self.owners.slots().into_iter().try_for_each(|slot| {
            self.attend();
            self.assign(slot).map(|_| ())
        });
        // Who began with one of them meanwhile.
        self.attend();
        for cell in surplus {
            self.kernel.limits.release(cell.cell);
        }
        assigned.and_then(|()| self.try_place_throttle_pair())
    }

    /// The same for a process that is new, or not what it was.
    pub(super) fn assign_changed(&mut self, pid: Pid) {
        let Some(slot) = self.owners.of_process(pid).map(|owner| owner.tag.slot) else {
            return;
        };
        match self.assign(slot) {
            Ok(true) if !self.meets_throttle_pair(slot) => self.place_throttle_pair(),
            Ok(_) => {}
            Err(error) => self
                .notices
                .warn(format!("process {pid} is not limited: {error:#}")),
        }
    }

    /// Whether a limited process's packets meet the throttle pair where it is now.
    fn meets_throttle_pair(&self, slot: u32) -> bool {
        let owner = self.owners.of_slot(slot);
        let limit = owner.and_then(|owner| owner.enforcement.as_ref());
        limit.is_some_and(|limit| self.kernel.throttles_at(&limit.cgroups))
    }

    /// The same for one slot. Returns whether anything changed.
    fn assign(&mut self, slot: u32) -> anyhow::Result<bool> {
        let Some(owner) = self.owners.of_slot_mut(slot) else {
            return Ok(false);
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
        // What it is to have to itself. A rule may have come to be shared, or each process's own.
        let own: Vec<(Direction, &InForce)> = choice
            .cells()
            .filter_map(|(direction, id)| Some((direction, self.rules.get(id)?)))
            .filter(|(_, rule)| rule.is_each())
            .collect();
        let is_own = |cell: &LimitCell| {
            own.iter()
                .any(|(direction, rule)| (*direction, rule.id) == (cell.direction, cell.limit))
        };
        if owner.enforcement.as_ref().map_or(choice.is_empty(), |now| {
            now.choice == choice && now.own.len() == own.len() && now.own.iter().all(is_own)
        }) {
            if began.is_some() {
                // What it began with may be more than what counts for it.
                set_limits(&mut self.kernel, &self.rules, owner)?;
            }
            return Ok(false);
        }
        let mut new = Vec::new();
        for (direction, in_force) in &own {
            let (direction, id) = (*direction, in_force.id);
            let known = owner
                .enforcement
                .as_ref()
                .and_then(|e| e.own_cell(id, direction));
            if known.is_none()
                && let Some(rate) = *in_force.rule.limits.get(direction)
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
        let counters = self.kernel.counters.read(owner.tag.slot)?;
        let now = Instant::now();
        let enforcement = match &mut owner.enforcement {
            Some(enforcement) => {
                enforcement.replace(choice.clone(), &counters, now);
                enforcement
            }
            none => {
                let cgroup = owner.identity.cgroup.clone();
                let new = Enforcement::new(choice.clone(), &cgroup, &counters, now);
                let enforcement = none.insert(new);
                if owner.ended.is_some() {
                    // Where it was is not known; those like it meet the pair already.
                    enforcement.cgroups.clear();
                } else {
                    // Paced from the start where others are.
                    for device in self.pacing.ready(pid) {
                        enforcement.add_road(device.index, Ok(device));
                    }
                }
                // What an earlier limit of this slot found out may not hold any more.
                let devices = enforcement.paced_indexes();
                self.kernel.limits.pace(owner.tag.slot, &devices)?;
                enforcement
            }
        };
        enforcement.own.extend(new);
        set_limits(&mut self.kernel, &self.rules, owner)?;
        // Only now does no slot name them any more.
        let own_cells = owner.enforcement.iter_mut().map(|limit| &mut limit.own);
        let surplus: Vec<LimitCell> = own_cells
            .flat_map(|cells| cells.extract_if(.., |cell| !is_own(cell)))
            .collect();
        for cell in surplus {
            if let Some(in_force) = self.rules.get_mut(cell.limit) {
                in_force.before.take_over(&cell);
            }
            self.kernel.limits.release(cell.cell);
        }
        if choice.is_empty() {
            owner.enforcement = None;
        }
        Ok(true)
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

    fn resolve(&self, process: ProcessId) -> Result<ProcessKey, CommandError> {
        let pid = process.pid;
        let identity = self
            .attribution
            .identify(pid)
            .filter(|_| open_pidfd(pid).is_ok())
            .ok_or(CommandError::NoSuchProcess(pid))?;
        if !process.is(identity.key) {
            return Err(CommandError::PidReused(pid));
        }
        if identity.kernel_thread {
            return Err(CommandError::KernelThread(pid));
        }
        Ok(identity.key)
    }
}

/// Writes what the kernel looks at for every packet of a process.
fn set_limits(kernel: &mut Kernel, rules: &RulesInForce, owner: &Owner) -> anyhow::Result<()> {
    let enforcement = owner.enforcement.as_ref();
    let cell = |direction: Direction, class: TrafficClass| {
        let enforcement = enforcement?;
        let id = enforcement.choice.limits[direction.index()][class.index()]?;
        let rule = rules.get(id)?;
        let cell = if rule.is_each() {
            enforcement.own_cell(id, direction)
        } else {
            rule.shared_cell(direction)
        };
        Some(&cell?.cell)
    };
    let metered = enforcement.is_some_and(|limit| !limit.choice.meters.is_empty());
    kernel.slots.set_limits(owner.tag, cell, metered)
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

fn kernel_error(error: anyhow::Error) -> CommandError {
    if error.is::<SlotsExhausted>() {
        CommandError::Exhausted(format!("{error}; end some and try again"))
    } else if error.is::<CellsExhausted>() {
        CommandError::Exhausted(format!("{error}; remove some and try again"))
    } else {
        CommandError::Kernel(format!("{error:#}"))
    }
}

fn described(limits: Limits) -> String {
    let shown = |rate: Option<Rate>| rate.map_or("unlimited".to_owned(), |rate| rate.to_string());
    format!(
        "download {}, upload {}",
        shown(limits.download),
        shown(limits.upload)
    )
}
