//! Limits: setting them, seeing that they are enforced, and how.

use std::time::Instant;

use anyhow::Context as _;
use chadthrottle_common::{limit::MAX_PACED, tag::Tag, traffic::Direction};

use super::{
    Engine, attribution,
    command::{Command, CommandError, Target},
    enforcement::{Check, Enforcement, Expected},
    snapshot::{Limits, Mechanism, PerDirection},
};
use crate::{
    kernel::Kernel,
    pacing::Pacing,
    process::{Pid, ProcessKey, identity},
    rate::Rate,
};

impl Engine {
    /// Limits of busy processes follow them into other cgroups.
    pub(super) fn follow_moves(&mut self, busy: &[Pid]) {
        let mut moved = false;
        for pid in busy {
            if let Some(owner) = self.owners.of_process_mut(*pid)
                && let Some(limit) = &mut owner.enforcement
                && let Some(cgroup) = identity::cgroup_of(*pid)
                && limit.moved_to(&cgroup)
            {
                moved = true;
                self.notices.info(format!(
                    "{} ({pid}) is in {cgroup} now; its limit follows",
                    owner.identity.name
                ));
            }
        }
        if moved {
            self.place_throttle_pair();
        }
    }

    /// Checks that limits meet all their packets: those for which `due` says so.
    pub(super) fn check_limits(&mut self, due: impl Fn(&Enforcement) -> bool) {
        let mut moved = false;
        for owner in self.owners.iter_mut() {
            let slot = owner.tag.slot;
            let Some(limit) = owner.enforcement.as_mut().filter(|limit| due(limit)) else {
                continue;
            };
            let (name, pid) = (&owner.identity.name, owner.identity.key.pid);
            // In this order: what the pair met must be at least what the observers had seen.
            let readings = self.kernel.counters.read(slot).and_then(|counters| {
                let enforced = |direction| self.kernel.limits.enforced(slot, direction);
                let download = enforced(Direction::Download)?;
                let upload = enforced(Direction::Upload)?;
                Ok((counters, PerDirection { download, upload }))
            });
            match readings {
                Ok((counters, enforced)) => {
                    let delay = |direction| {
                        self.kernel
                            .limits
                            .delay(slot, direction)
                            .unwrap_or_default()
                    };
                    limit.set_delay(PerDirection::of(delay));
                    pace(&mut self.kernel, &mut self.pacing, slot, pid, limit);
                    if limit.check(&counters, enforced) == Check::Climb {
                        limit.climb();
                        moved = true;
                        self.notices.info(format!(
                            "{name} ({pid}) has sockets in another cgroup; its limit moves to the root"
                        ));
                    }
                }
                Err(error) => log::warn!("limit of {name} ({pid}): {error:#}"),
            }
        }
        if moved {
            self.place_throttle_pair();
        }
    }

    /// Takes fq away where no limit needs it any more.
    pub(super) fn release_devices(&mut self) {
        if !self.pacing.is_empty() {
            let used = self
                .owners
                .limits()
                .flat_map(Enforcement::paced_on)
                .collect();
            self.pacing.retain(&used);
        }
    }

    /// Where somebody took our fq away, nothing holds packets: limits are policed there until it
    /// is known what can be done.
    pub(super) fn notice_lost_devices(&mut self) {
        if self.pacing.is_empty() {
            return;
        }
        let lost = self.pacing.lost();
        if lost.is_empty() {
            return;
        }
        self.notices
            .warn("somebody replaced our fq on a network device");
        for owner in self.owners.iter_mut() {
            let Some(limit) = &mut owner.enforcement else {
                continue;
            };
            if limit.lose_roads(&lost) {
                let slot = owner.tag.slot;
                let mut policed = self.kernel.limits.pace(slot, &limit.paced_indexes());
                for direction in Direction::BOTH {
                    if let (Ok(()), Some(rate)) = (&policed, *limit.limits.get(direction)) {
                        // Packets that were to wait have left at once: waiting for their time
                        // would be a stall.
                        policed = self.kernel.limits.set(slot, direction, rate, false);
                    }
                }
                if let Err(error) = policed {
                    log::warn!("{error:#}");
                }
            }
        }
    }

    /// The mechanism of all limits together.
    pub(super) fn mechanism(&self, expected: &Expected) -> Expected {
        self.owners
            .limits()
            .map(|limit| limit.mechanism(expected))
            .reduce(|all, one| {
                let why = all.1.or(one.1);
                (
                    if all.0 == one.0 {
                        one.0
                    } else {
                        Mechanism::Mixed
                    },
                    why,
                )
            })
            .unwrap_or_else(|| expected.clone())
    }

    pub(super) fn place_throttle_pair(&mut self) {
        if let Err(error) = self.try_place_throttle_pair() {
            self.notices.warn(format!("{error:#}"));
        }
    }

    fn try_place_throttle_pair(&mut self) -> anyhow::Result<()> {
        let cgroups = self
            .owners
            .limits()
            .flat_map(|limit| limit.cgroups.iter().cloned())
            .collect();
        self.kernel.throttle_at(&cgroups)
    }

    /// Carries out a command; [`Command::SetInterval`] is the loop's.
    pub(super) fn apply(&mut self, command: Command) -> Result<(), CommandError> {
        match command {
            Command::SetLimits(target, limits) => self.set_limits(target, limits),
            Command::RemoveAll => {
                let limited: Vec<ProcessKey> = self
                    .owners
                    .iter()
                    .filter(|owner| owner.enforcement.is_some())
                    .map(|owner| owner.identity.key)
                    .collect();
                for key in limited {
                    self.set_limits(Target::Process(key), Limits::default())?;
                }
                Ok(())
            }
            Command::SetInterval(_) => Ok(()),
        }
    }

    fn set_limits(&mut self, target: Target, limits: Limits) -> Result<(), CommandError> {
        let pid = self.resolve(target)?;
        let tag = self
            .attribution
            .tag_of(&mut self.kernel, &mut self.owners, pid)
            .map_err(|error| match error.downcast() {
                Ok(exhausted) => CommandError::SlotsExhausted(exhausted),
                Err(error) => CommandError::Kernel(error),
            })?;
        self.look_at(pid);
        self.enforce(pid, tag, limits).map_err(CommandError::Kernel)
    }

    fn resolve(&self, target: Target) -> Result<Pid, CommandError> {
        let (pid, expected) = match target {
            Target::Pid(pid) => (pid, None),
            Target::Process(key) => (key.pid, Some(key)),
        };
        let identity = self
            .attribution
            .identify(pid)
            .filter(|_| attribution::open_pidfd(pid).is_ok())
            .ok_or(CommandError::NoSuchProcess(pid))?;
        if expected.is_some_and(|key| key != identity.key) {
            return Err(CommandError::PidReused(pid));
        }
        if identity.kernel_thread {
            return Err(CommandError::KernelThread(pid));
        }
        Ok(pid)
    }

    /// Puts limits in force in an order in which a failure leaves what was before.
    fn enforce(&mut self, pid: Pid, tag: Tag, limits: Limits) -> anyhow::Result<()> {
        let owner = self
            .owners
            .of_process_mut(pid)
            .context("the process has just ended")?;
        let before = owner
            .enforcement
            .as_ref()
            .map(|limit| limit.limits)
            .unwrap_or_default();
        for direction in Direction::BOTH {
            if let Some(rate) = *limits.get(direction) {
                let anew = before.get(direction).is_none();
                self.kernel.limits.set(tag.slot, direction, rate, anew)?;
            }
        }
        if owner.enforcement.is_none() {
            // What an earlier limit of this slot found out may not hold any more.
            self.kernel.limits.pace(tag.slot, &[])?;
        }
        let limited = |direction| limits.get(direction).is_some();
        self.kernel.slots.set_limits(tag, limited)?;
        let counters = self.kernel.counters.read(tag.slot)?;
        let previous = owner.enforcement.take();
        if !limits.is_unlimited() {
            let cgroup = owner.identity.cgroup.clone();
            let mut limit = Enforcement::new(limits, &cgroup, &counters, Instant::now());
            if let Some(previous) = &previous {
                limit.take_over(previous);
            }
            owner.enforcement = Some(limit);
        }
        let name = owner.identity.name.clone();
        if let Err(error) = self.try_place_throttle_pair() {
            if let Some(owner) = self.owners.of_process_mut(pid) {
                owner.enforcement = previous;
            }
            self.kernel
                .slots
                .set_limits(tag, |direction| before.get(direction).is_some())?;
            return Err(error);
        }
        let shown =
            |rate: Option<Rate>| rate.map_or("unlimited".to_owned(), |rate| rate.to_string());
        log::info!(
            "{name} ({pid}): download {}, upload {}",
            shown(limits.download),
            shown(limits.upload)
        );
        Ok(())
    }
}

/// Sees to a device that a limit's packets leave by without being paced.
fn pace(kernel: &mut Kernel, pacing: &mut Pacing, slot: u32, pid: Pid, limit: &mut Enforcement) {
    let index = match kernel.limits.unpaced_device(slot) {
        Ok(Some(index)) if !limit.knows_road(index) => index,
        _ => return,
    };
    let road = pacing.ensure(pid, index);
    match &road {
        Ok(_) => log::info!("packets of process {pid} are paced on device {index}"),
        Err(why) => log::info!("packets of process {pid} are policed on device {index}: {why}"),
    }
    limit.add_road(index, road);
    let devices = limit.paced_indexes();
    if devices.len() > MAX_PACED {
        log::warn!("process {pid} uses more than {MAX_PACED} devices; on the others it is policed");
    }
    if let Err(error) = kernel.limits.pace(slot, &devices) {
        log::warn!("{error:#}");
    }
}
