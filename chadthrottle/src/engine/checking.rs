//! Checks that limits meet all their packets, and are paced where they can be.

use std::collections::{HashMap, HashSet};

use anyhow::Context as _;
use chadthrottle_common::traffic::Direction;

use super::{
    Engine,
    enforcement::{Check, Enforcement},
};
use crate::{
    kernel::Kernel,
    model::{limit::LimitId, process::Pid},
    pacing::{Pacing, Windows},
    process::identity,
};

impl Engine {
    /// Limits of busy processes follow them into other cgroups.
    pub(super) fn follow_moves(&mut self, busy: &[Pid]) {
        let mut moved = false;
        for pid in busy {
            self.attend();
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

    /// Packets of a slot's process leave by a device that nothing was done about yet. Sooner than
    /// the next check, because until then they are policed, and a flow that begins loses much of
    /// what it sends.
    pub(super) fn see_to_road(&mut self, slot: u32) {
        if self.pace(slot) {
            self.see_to_devices();
        }
    }

    /// Sees to a device that a limit's packets leave by without being paced, and returns whether there is one
    /// that was not known. A limit that is not in force yet is being seen to: what it holds must not be let go of.
    fn pace(&mut self, slot: u32) -> bool {
        let Some(owner) = (self.owners.of_slot_mut(slot)).filter(|owner| owner.ended.is_none())
        else {
            return false;
        };
        let pid = owner.pid();
        let Some(limit) = owner.enforcement.as_mut().filter(|limit| limit.in_force) else {
            return false;
        };
        let index = match self.kernel.limits.unpaced_device(slot) {
            Ok(Some(index)) if !limit.knows_road(index) => index,
            _ => return false,
        };
        if limit.limits(Direction::Upload)
            && let Err(error) = self.kernel.limits.hold(slot, &limit.paced_indexes())
        {
            log::warn!("{error:#}");
        }
        learn_road(&mut self.pacing, index, pid, limit);
        put_windows(&mut self.windows, &mut self.kernel, pid, limit);
        let devices = limit.paced_indexes();
        if let Err(error) = (self.kernel.limits).pace(slot, &devices).context("pacing") {
            log::warn!("{error:#}");
        }
        true
    }

    /// Checks that limits meet all their packets: those for which `due` says so.
    pub(super) fn check_limits(&mut self, due: impl Fn(&Enforcement) -> bool) {
        let mut moved = false;
        for slot in self.owners.slots() {
            self.attend();
            let limit = self.owners.of_slot(slot).map(|owner| &owner.enforcement);
            if !matches!(limit, Some(Some(limit)) if due(limit)) {
                continue;
            }
            self.pace(slot);
            let Some(owner) = self.owners.of_slot_mut(slot) else {
                continue;
            };
            let Some(limit) = &mut owner.enforcement else {
                continue;
            };
            let (name, pid) = (&owner.identity.name, owner.identity.key.pid);
            // In this order: what the pair met must be at least what the observers had seen.
            let readings = self.kernel.counters.read(slot).and_then(|seen| {
                let met = self.kernel.counters.read(slot)?;
                Ok((seen, met))
            });
            match readings {
                Ok((seen, met)) => {
                    if limit.check(&seen, &met) == Check::Climb {
                        limit.climb();
                        moved = true;
                        self.notices.info(format!(
                            "{name} ({pid}) has sockets in another cgroup; its limit moves to the root"
                        ));
                    }
                }
                Err(error) => log::warn!("limit of {name} ({pid}): {error:#}"),
            }
            for cell in &mut limit.own {
                if let Err(error) = cell.read(&self.kernel.limits) {
                    log::warn!("{error:#}");
                }
            }
        }
        for cell in self.cells.iter_mut() {
            if let Err(error) = cell.read(&self.kernel.limits) {
                log::warn!("{error:#}");
            }
        }
        if moved {
            self.place_throttle_pair();
        }
    }

    /// Sees to it that windows hold connections where they are limited, and takes fq away where no limit
    /// needs it any more.
    pub(super) fn see_to_devices(&mut self) {
        let mut needed = HashMap::new();
        for owner in self.owners.iter().filter(|owner| owner.ended.is_none()) {
            let Some(limit) = &owner.enforcement else {
                continue;
            };
            for direction in Direction::BOTH {
                if limit.limits(direction) {
                    let devices = limit.devices();
                    needed.extend(devices.map(|device| ((device, direction), owner.pid())));
                }
            }
        }
        self.windows.set(&mut self.kernel, &needed);
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
        let mut hit: HashSet<LimitId> = HashSet::new();
        for owner in self.owners.iter_mut() {
            let Some(limit) = &mut owner.enforcement else {
                continue;
            };
            if limit.lose_roads(&lost) {
                if let Err(error) = self
                    .kernel
                    .limits
                    .pace(owner.tag.slot, &limit.paced_indexes())
                {
                    log::warn!("{error:#}");
                }
                hit.extend(limit.choice.ids());
            }
        }
        // Packets that were to wait have left at once: waiting for their time would be a stall.
        let own = self.owners.limits().flat_map(|limit| &limit.own);
        for cell in self.cells.iter().chain(own) {
            if hit.contains(&cell.limit)
                && let Err(error) = cell.restart(&mut self.kernel.limits)
            {
                log::warn!("{error:#}");
            }
        }
    }
}

/// Finds out whether a limit's packets can be paced on a device, and has fq installed there if so.
pub(super) fn learn_road(pacing: &mut Pacing, index: u32, pid: Pid, limit: &mut Enforcement) {
    if limit.knows_road(index) {
        return;
    }
    let (device, road) = match pacing.ensure(pid, index) {
        Ok(found) => found,
        Err(error) => {
            log::debug!("the network of process {pid}: {error}");
            return;
        }
    };
    match &road {
        Ok(()) => log::info!("packets of process {pid} are paced on device {index}"),
        Err(why) => log::info!("packets of process {pid} are policed on device {index}: {why}"),
    }
    limit.add_road(device, road);
}

/// Makes windows hold connections on a limit's devices, while what would be sent there is held: on Linux 6.1 and
/// older a device's first filter empties its fq (`qdisc_graft` deactivates the device). Returns whether downloads
/// have theirs everywhere.
pub(super) fn put_windows(
    windows: &mut Windows,
    kernel: &mut Kernel,
    pid: Pid,
    limit: &Enforcement,
) -> bool {
    let mut told = true;
    for direction in Direction::BOTH {
        if limit.limits(direction) {
            for device in limit.devices() {
                let is_there = windows.add(kernel, device, direction, pid);
                told &= is_there || direction == Direction::Upload;
            }
        }
    }
    told
}
