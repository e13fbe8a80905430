//! Limits: what commands ask for, and which cells each process's packets are charged to.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Instant,
};

use chadthrottle_common::traffic::Direction;

use super::{
    Engine,
    command::{Command, CommandError},
    enforcement::Enforcement,
    in_force::{Choice, InForce, LimitCell},
    snapshot::{LimitId, Limits},
};
use crate::{
    process::{Pid, ProcessKey, ancestry, open_pidfd},
    rate::Rate,
    rules::{
        rule::{Origin, Rule},
        target::{ProcessId, Target},
    },
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
                ids.into_iter().try_for_each(|id| self.remove(id))
            }
            Command::Watch(watch) => {
                self.watching.set(watch);
                Ok(())
            }
            Command::SetInterval(_) => Ok(()),
        }
    }

    /// Puts a rule in force; if that fails, what was before stays in force. Returns its number, if
    /// there is anything to be in force.
    fn set(&mut self, mut rule: Rule) -> Result<Option<LimitId>, CommandError> {
        rule.target = rule.target.resolved(&|process| self.resolve(process))?;
        let replaced = self.rules.replaced_by(&rule);
        if rule.limits.is_unlimited() && !rule.metered {
            return match replaced {
                Some(id) => self.remove(id).map(|()| None),
                None => Ok(None),
            };
        }
        for process in rule.target.processes() {
            // It is given a slot before its first socket.
            self.attribution
                .tag_of(&mut self.kernel, &mut self.owners, process.pid)
                .map_err(kernel_error)?;
            self.look_at(process.pid);
        }
        log::info!("{}: {}", rule.target, described(rule.limits));
        let Some(id) = replaced else {
            let id = self.rules.insert(rule);
            if let Err(error) = self.put_in_force(id) {
                self.rules.remove(id);
                self.assign_all_or_warn();
                return Err(kernel_error(error));
            }
            return Ok(Some(id));
        };
        let Some(in_force) = self.rules.get_mut(id) else {
            return Ok(None);
        };
        let before = std::mem::replace(&mut in_force.rule, rule);
        if let Err(error) = self.put_in_force(id) {
            if let Some(in_force) = self.rules.get_mut(id) {
                in_force.rule = before;
            }
            if let Err(again) = self.put_in_force(id) {
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
        for id in gone {
            self.remove(id)?;
        }
        let mut order = Vec::new();
        let mut failure = Ok(());
        for rule in rules {
            match self.set(rule) {
                Ok(id) => order.extend(id),
                // The others are put in force all the same.
                Err(error) => failure = Err(error),
            }
        }
        self.rules.order(&order);
        self.assign_all().map_err(kernel_error)?;
        failure
    }

    fn remove(&mut self, id: LimitId) -> Result<(), CommandError> {
        let Some(removed) = self.rules.remove(id) else {
            return Err(CommandError::NoSuchLimit);
        };
        log::info!("{}: not limited any more", removed.rule.target);
        let assigned = self.assign_all();
        for cell in removed.shared {
            self.kernel.limits.release(cell.cell);
        }
        assigned
            .and_then(|()| self.try_place_throttle_pair())
            .map_err(kernel_error)
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
        for id in ended {
            if let Err(error) = self.remove(id) {
                log::warn!("{error}");
            }
        }
    }

    /// Brings the cells of a limit to what its rule says, and then every process's slot.
    fn put_in_force(&mut self, id: LimitId) -> anyhow::Result<()> {
        let Some(in_force) = self.rules.get_mut(id) else {
            return Ok(());
        };
        let limits = in_force.rule.limits;
        let each = in_force.is_each();
        let mut surplus = Vec::new();
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
        for cell in self
            .owners
            .iter()
            .filter_map(|owner| owner.enforcement.as_ref())
            .flat_map(|e| &e.own)
        {
            if cell.limit == id
                && let Some(rate) = *limits.get(cell.direction)
            {
                self.kernel
                    .limits
                    .change(&cell.cell, cell.direction, rate)?;
            }
        }
        let assigned = self.assign_all();
        for cell in surplus {
            self.kernel.limits.release(cell.cell);
        }
        assigned?;
        self.try_place_throttle_pair()
    }

    /// Sees to it that the right limits count for every process.
    fn assign_all(&mut self) -> anyhow::Result<()> {
        let slots: Vec<u32> = self.owners.iter().map(|owner| owner.tag.slot).collect();
        for slot in slots {
            self.assign(slot)?;
        }
        Ok(())
    }

    fn assign_all_or_warn(&mut self) {
        if let Err(error) = self
            .assign_all()
            .and_then(|()| self.try_place_throttle_pair())
        {
            self.notices.warn(format!("{error:#}"));
        }
    }

    /// The same for processes that are new, or not what they were.
    pub(super) fn assign_changed(&mut self, pids: impl IntoIterator<Item = Pid>) {
        if self.rules.iter().next().is_none() {
            return;
        }
        let mut assigned = false;
        for pid in pids {
            let Some(slot) = self.owners.of_process(pid).map(|owner| owner.tag.slot) else {
                continue;
            };
            match self.assign(slot) {
                Ok(changed) => assigned |= changed,
                Err(error) => self
                    .notices
                    .warn(format!("process {pid} is not limited: {error:#}")),
            }
        }
        if assigned {
            self.place_throttle_pair();
        }
    }

    /// The same for one slot. Returns whether anything changed.
    fn assign(&mut self, slot: u32) -> anyhow::Result<bool> {
        let Some(owner) = self.owners.of_slot_mut(slot) else {
            return Ok(false);
        };
        let pid = owner.pid();
        owner.changed = false;
        let mut choice = self
            .rules
            .choose(&owner.identity, || ancestry::ancestors(pid));
        if owner.ended.is_some() {
            // What it left to be sent stays under the limits that are still there, and no others.
            let before = owner.enforcement.as_ref().map(|before| &before.choice);
            choice = before.map_or_else(Choice::default, |before| {
                before.without(|id| self.rules.get(id).is_none())
            });
        }
        if owner
            .enforcement
            .as_ref()
            .map_or(choice.is_empty(), |now| now.choice == choice)
        {
            return Ok(false);
        }
        let mut new = Vec::new();
        for (direction, id) in choice.cells() {
            let Some(in_force) = self.rules.get(id).filter(|rule| rule.is_each()) else {
                continue;
            };
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
                // What an earlier limit of this slot found out may not hold any more.
                self.kernel.limits.pace(owner.tag.slot, &[])?;
                let cgroup = owner.identity.cgroup.clone();
                none.insert(Enforcement::new(choice.clone(), &cgroup, &counters, now))
            }
        };
        enforcement.own.extend(new);
        let cell = |direction: Direction, class: chadthrottle_common::address::TrafficClass| {
            let id = choice.limits[direction.index()][class.index()]?;
            let own = enforcement.own_cell(id, direction);
            let cell = own.or_else(|| self.rules.get(id)?.shared_cell(direction))?;
            Some(&cell.cell)
        };
        self.kernel
            .slots
            .set_limits(owner.tag, cell, !choice.meters.is_empty())?;
        // Only now does no slot name them any more.
        let surplus = enforcement.own.extract_if(.., |cell| {
            !choice
                .cells()
                .any(|wanted| wanted == (cell.direction, cell.limit))
        });
        for cell in surplus {
            if let Some(in_force) = self.rules.get_mut(cell.limit) {
                in_force.before.add(&cell);
                *in_force.before.delay.get_mut(cell.direction) = Default::default();
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
    let error = match error.downcast() {
        Ok(exhausted) => return CommandError::SlotsExhausted(exhausted),
        Err(error) => error,
    };
    match error.downcast() {
        Ok(exhausted) => CommandError::CellsExhausted(exhausted),
        Err(error) => CommandError::Kernel(error),
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
