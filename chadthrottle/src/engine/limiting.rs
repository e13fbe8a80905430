//! Commands: what they ask for comes in force, or what was in force before stays.

use std::{mem, time::SystemTime};

use super::Engine;
use crate::{
    kernel::{CeilingsExhausted, CellsExhausted, SlotsExhausted},
    model::{
        command::{Command, CommandError},
        limit::LimitId,
        priority::Priority,
        process::{ProcessId, ProcessKey},
        rule::Rule,
        terms::AtLeast,
    },
    policy::active::{ActiveRule, ActiveRules},
    process::{identity, open_pidfd},
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
            Command::SetLinkSpeed(said) => {
                self.background.believe(*said);
                Ok(())
            }
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
            log::info!("{}: {}", active.rule.target, described(&active.rule));
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
        let left = self.background.left();
        rules.iter().try_for_each(|active| {
            self.attend();
            (self.cells).allocate(active, left, &mut self.kernel.limits)
        })?;
        match rules.everybody_else() {
            Some(active) => {
                (self.cells).allocate_for_everybody_else(active, &mut self.kernel.limits)
            }
            None => Ok(()),
        }
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
        if identity::is_zombie(pid) {
            return Err(CommandError::Zombie(pid));
        }
        Ok(identity.key)
    }
}

fn kernel_error(error: anyhow::Error) -> CommandError {
    if error.is::<SlotsExhausted>() {
        CommandError::Exhausted(format!("{error}; end some and try again"))
    } else if error.is::<CellsExhausted>() || error.is::<CeilingsExhausted>() {
        CommandError::Exhausted(format!("{error}; remove some and try again"))
    } else {
        CommandError::Kernel(format!("{error:#}"))
    }
}

fn described(rule: &Rule) -> String {
    if rule.is_background() && rule.ceiling.is_unlimited() {
        return "has what others leave".to_owned();
    }
    let (limits, most) = match rule.priority {
        Priority::Background => (rule.ceiling, "has what others leave, at most ".to_owned()),
        Priority::High => (rule.limits, "comes before everybody else, ".to_owned()),
        Priority::Normal if rule.comes_first() => (
            rule.limits,
            format!("has {} before everybody else, ", AtLeast(rule.at_least)),
        ),
        Priority::Normal => (rule.limits, String::new()),
    };
    let shown = |rate: Option<Rate>| rate.map_or("unlimited".to_owned(), |rate| rate.to_string());
    format!(
        "{most}download {}, upload {}",
        shown(limits.download),
        shown(limits.upload)
    )
}
