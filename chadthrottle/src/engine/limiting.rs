//! Limits: what commands ask for, and which cells each process's packets are charged to.

use std::{
    collections::BTreeSet,
    mem,
    path::{Path, PathBuf},
    time::{Instant, SystemTime},
};

use chadthrottle_common::{address::TrafficClass, traffic::Direction};

use super::{
    Engine,
    cells::{LimitCell, RuleCells},
    checking::learn_road,
    enforcement::Enforcement,
    owners::Owner,
};
use crate::{
    kernel::{CellsExhausted, Kernel, SlotsExhausted},
    model::{
        command::{Command, CommandError},
        direction::Limits,
        limit::LimitId,
        process::{ProcessId, ProcessKey},
        rule::Rule,
        target::Target,
    },
    policy::{
        active::{ActiveRule, ActiveRules},
        choose::Choice,
    },
    process::{ancestry, open_pidfd},
    rate::Rate,
};

impl Engine {
    /// Carries out a command; [`Command::SetInterval`] is the loop's.
    pub(super) fn apply(&mut self, command: &Command) -> Result<(), CommandError> {
        match command {
            Command::Watch(watch) => {
                self.watch(|watching, attend| watching.set(*watch, attend));
                Ok(())
            }
            Command::SetInterval(_) => Ok(()),
            _ => self.change_rules(command),
        }
    }

    /// Brings the rules in force that a command asks for; if that fails, those before stay.
    fn change_rules(&mut self, command: &Command) -> Result<(), CommandError> {
        let now = SystemTime::now();
        let (rules, changes) = self
            .rules
            .after(command, now, &|process| self.resolve(process))?;
        let changed = || changes.set.iter().filter_map(|id| rules.get(*id));
        for process in changed().flat_map(|active| active.rule.target.processes()) {
            self.attend();
            // It is given a slot before its first socket.
            self.known(process.pid).map_err(kernel_error)?;
            self.look_at(process.pid);
        }
        for active in changed() {
            let Rule { target, limits, .. } = &active.rule;
            log::info!("{target}: {}", described(*limits));
        }
        for active in changes.removed.iter().filter_map(|id| self.rules.get(*id)) {
            log::info!("{}: not limited any more", active.rule.target);
        }
        let before = self.replace_rules(rules).map_err(kernel_error)?;
        let Err(error) = self.enforce() else {
            return Ok(());
        };
        // Where there are too few cells for all that a file limits, most of it is better than none.
        if !matches!(command, Command::SetFile(_)) {
            self.go_back_to(before);
        }
        Err(kernel_error(error))
    }

    /// Puts these rules in the place of those in force, with the cells that they need. Returns those
    /// before.
    fn replace_rules(&mut self, mut rules: ActiveRules) -> anyhow::Result<ActiveRules> {
        // A process that is new meanwhile finds the cells of whichever rules count for it.
        if let Err(error) = self.allocate_cells(&rules) {
            for cell in self.cells.take_surplus(&self.rules) {
                self.kernel.limits.release(cell.cell);
            }
            return Err(error);
        }
        rules.keep_members_of(&self.rules);
        Ok(mem::replace(&mut self.rules, rules))
    }

    /// Brings the rules back that were in force before.
    fn go_back_to(&mut self, mut before: ActiveRules) {
        before.number_after(&self.rules);
        let back = self.replace_rules(before).and_then(|_| self.enforce());
        if let Err(error) = back {
            self.notices.warn(format!("{error:#}"));
        }
    }

    /// Gives the rules the cells that they have none of yet.
    fn allocate_cells(&mut self, rules: &ActiveRules) -> anyhow::Result<()> {
        rules.iter().try_for_each(|active| {
            self.attend();
            self.cells.allocate(active, &mut self.kernel.limits)
        })
    }

    /// Ends the limits of a process whose slot goes to another.
    pub(super) fn forget_limits_of(&mut self, key: ProcessKey) {
        let last = |rule: &ActiveRule| {
            let mut processes = rule.rule.target.processes().into_iter();
            rule.ended && processes.all(|process| process.is(key))
        };
        let ended: Vec<LimitId> = self
            .rules
            .iter()
            .filter(|rule| last(rule) || rule.is_deserted())
            .map(|rule| rule.id)
            .collect();
        for id in &ended {
            self.rules.remove(*id);
        }
        if !ended.is_empty()
            && let Err(error) = self.enforce()
        {
            log::warn!("{error:#}");
        }
    }

    /// Brings cells and slots to what the rules say.
    fn enforce(&mut self) -> anyhow::Result<()> {
        let surplus = self.cells.take_surplus(&self.rules);
        let rated = self.set_rates();
        let settled = self.settle(surplus);
        rated.and(settled)
    }

    /// Brings the cells in use to the rates of their rules.
    fn set_rates(&mut self) -> anyhow::Result<()> {
        for id in self.rules.ids() {
            self.attend();
            if let Some(active) = self.rules.get(id) {
                self.cells.set_rates(active, &mut self.kernel.limits)?;
            }
        }
        for slot in self.owners.slots() {
            self.attend();
            let owner = self.owners.of_slot_mut(slot);
            let enforcement = owner.and_then(|owner| owner.enforcement.as_mut());
            for cell in enforcement.into_iter().flat_map(|limit| &mut limit.own) {
                let limits = self.rules.get(cell.limit).map(|active| active.rule.limits);
                if let Some(rate) = limits.and_then(|limits| *limits.get(cell.direction)) {
                    cell.set_rate(&mut self.kernel.limits, rate)?;
                }
            }
        }
        Ok(())
    }

    /// Sees to it that the right limits count for every process, and that their packets meet the
    /// throttle pair. Then cells that are `surplus` are named by no slot, and free.
    fn settle(&mut self, mut surplus: Vec<LimitCell>) -> anyhow::Result<()> {
        surplus.extend(self.forget_newcomers());
        let mut assigned = Ok(());
        for slot in self.owners.slots() {
            self.attend();
            // The others are limited all the same.
            assigned = assigned.and(self.assign(slot).map(|_| ()));
        }
        // Who began with one of them meanwhile.
        self.attend();
        for cell in surplus {
            self.kernel.limits.release(cell.cell);
        }
        assigned.and_then(|()| self.try_place_throttle_pair())
    }

    /// The same for a process that is new, or not what it was.
    pub(super) fn meet_rules(&mut self, slot: u32) {
        match self.assign(slot) {
            Ok(true) if !self.meets_throttle_pair(slot) => self.place_throttle_pair(),
            Ok(_) => {}
            Err(error) => {
                let owner = self.owners.of_slot(slot);
                let pid = owner
                    .map(|owner| owner.pid().to_string())
                    .unwrap_or_default();
                self.notices
                    .warn(format!("process {pid} is not limited: {error:#}"));
            }
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
        let own: Vec<(Direction, &ActiveRule)> = choice
            .limits
            .parts()
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
                set_limits(&mut self.kernel, &self.rules, &self.cells, owner)?;
            }
            return Ok(false);
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
                        enforcement.add_road(device, Ok(()));
                    }
                    // What can hold the traffic that runs is there before the limit counts.
                    for index in self.kernel.counters.devices(owner.tag.slot)? {
                        learn_road(&mut self.pacing, index, pid, enforcement);
                    }
                    if enforcement.limits(Direction::Download) {
                        for device in enforcement.devices() {
                            self.windows.add(&mut self.kernel, device, pid);
                        }
                    }
                }
                // What an earlier limit of this slot found out may not hold any more.
                let devices = enforcement.paced_indexes();
                self.kernel.limits.pace(owner.tag.slot, &devices)?;
                enforcement
            }
        };
        enforcement.own.extend(new);
        set_limits(&mut self.kernel, &self.rules, &self.cells, owner)?;
        // Only now does no slot name them any more.
        let own_cells = owner.enforcement.iter_mut().map(|limit| &mut limit.own);
        let surplus: Vec<LimitCell> = own_cells
            .flat_map(|cells| cells.extract_if(.., |cell| !is_own(cell)))
            .collect();
        for cell in surplus {
            self.cells.take_over(&cell);
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
fn set_limits(
    kernel: &mut Kernel,
    rules: &ActiveRules,
    cells: &RuleCells,
    owner: &Owner,
) -> anyhow::Result<()> {
    let enforcement = owner.enforcement.as_ref();
    let cell = |direction: Direction, class: TrafficClass| {
        let enforcement = enforcement?;
        let id = (*enforcement.choice.limits.get(direction).get(class))?;
        let cell = if rules.get(id)?.is_each() {
            enforcement.own_cell(id, direction)
        } else {
            cells.shared(id, direction)
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
