//! Seeing that limits are enforced, how, and what they do.

use std::{collections::HashMap, time::Duration};

use anyhow::Context as _;
use chadthrottle_common::{address::TrafficClass, limit::MAX_PACED, traffic::Direction};

use super::{
    Engine,
    enforcement::{Check, Enforcement, Expected},
    in_force::{Done, InForce},
    owners::{Owner, rate_of},
};
use crate::{
    kernel::Kernel,
    model::{
        direction::{Limits, PerDirection},
        limit::{Effect, LimitId, LimitRow, LimitState, Mechanism},
        process::Pid,
        rule::{Scope, Sharing},
        snapshot::ProcessRow,
    },
    pacing::Pacing,
    process::identity,
    rate::Bytes,
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
        let Some(owner) = self.owners.of_slot_mut(slot) else {
            return;
        };
        let pid = owner.pid();
        if let Some(limit) = &mut owner.enforcement {
            pace(&mut self.kernel, &mut self.pacing, slot, pid, limit);
            self.see_to_devices();
        }
    }

    /// Checks that limits meet all their packets: those for which `due` says so.
    pub(super) fn check_limits(&mut self, due: impl Fn(&Enforcement) -> bool) {
        let mut moved = false;
        for slot in self.owners.slots() {
            self.attend();
            let Some(owner) = self.owners.of_slot_mut(slot) else {
                continue;
            };
            let Some(limit) = owner.enforcement.as_mut().filter(|limit| due(limit)) else {
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
                    pace(&mut self.kernel, &mut self.pacing, slot, pid, limit);
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
        for cell in self.rules.iter_mut().flat_map(InForce::common_cells_mut) {
            if let Err(error) = cell.read(&self.kernel.limits) {
                log::warn!("{error:#}");
            }
        }
        if moved {
            self.place_throttle_pair();
        }
    }

    /// Adds what processes moved in the last interval to the rules that limit or count it.
    pub(super) fn count_for_rules(&mut self, interval: Duration) {
        let mut moved: HashMap<LimitId, PerDirection<u64>> = HashMap::new();
        for owner in self.owners.iter() {
            let Some(Enforcement { choice, .. }) = &owner.enforcement else {
                continue;
            };
            for direction in Direction::BOTH {
                for class in TrafficClass::BOTH {
                    let bytes = owner.admitted(direction, class);
                    let limit = choice.limits[direction.index()][class.index()];
                    let counts = |id: &LimitId| {
                        self.rules
                            .get(*id)
                            .is_some_and(|rule| rule.rule.scope.covers(class))
                    };
                    let meters = choice.meters.iter().copied().filter(counts);
                    let limit = limit.filter(|id| !choice.meters.contains(id));
                    for id in meters.chain(limit) {
                        *moved.entry(id).or_default().get_mut(direction) += bytes;
                    }
                }
            }
        }
        for rule in self.rules.iter_mut() {
            let moved = moved.get(&rule.id).copied().unwrap_or_default();
            rule.achieved = moved.map(|bytes| rate_of(bytes, interval));
            rule.bytes =
                PerDirection::of(|direction| rule.bytes.get(direction) + moved.get(direction));
        }
    }

    /// A process's row of the table, with its limits.
    pub(super) fn row(&self, owner: &Owner, expected: &Expected, interval: Duration) -> ProcessRow {
        let mut row = owner.row();
        let Some(enforcement) = &owner.enforcement else {
            return row;
        };
        let of = |class| self.limit_state(owner, enforcement, class, expected, interval);
        let (internet, local) = (of(TrafficClass::Internet), of(TrafficClass::Local));
        let ids = |class: TrafficClass| enforcement.choice.limits.map(|by| by[class.index()]);
        if ids(TrafficClass::Internet) == ids(TrafficClass::Local) {
            row.limit = internet.map(|limit| LimitState {
                scope: Scope::All,
                effect: Effect {
                    achieved: row.rate,
                    ..limit.effect
                },
                ..limit
            });
        } else {
            row.limit = internet;
            row.local_limit = local;
        }
        row
    }

    /// What limits a process's traffic of a class.
    fn limit_state(
        &self,
        owner: &Owner,
        enforcement: &Enforcement,
        class: TrafficClass,
        expected: &Expected,
        interval: Duration,
    ) -> Option<LimitState> {
        let by = enforcement.choice.limits.map(|by| by[class.index()]);
        let id = by.into_iter().flatten().next()?;
        let mut done = Done::default();
        let mut limits = Limits::default();
        let mut sharing = Sharing::Each;
        for direction in Direction::BOTH {
            let Some(id) = by[direction.index()] else {
                continue;
            };
            let rule = self.rules.get(id)?;
            *limits.get_mut(direction) = *rule.rule.limits.get(direction);
            if rule.rule.sharing == Sharing::Shared {
                sharing = Sharing::Shared;
            }
            let own = enforcement.own_cell(id, direction);
            if let Some(cell) = own.or_else(|| rule.shared_cell(direction)) {
                done.add(cell);
            }
        }
        let (mechanism, why_policing) = enforcement.mechanism(expected);
        Some(LimitState {
            id,
            limits,
            scope: match class {
                TrafficClass::Internet => Scope::Internet,
                TrafficClass::Local => Scope::Local,
            },
            sharing,
            effect: Effect {
                achieved: PerDirection::of(|direction| {
                    rate_of(owner.admitted(direction, class), interval)
                }),
                dropped: done.dropped,
                marked: done.marked,
                delay: done.delay,
                mechanism,
                why_policing,
                not_enforced: enforcement.not_enforced(),
            },
        })
    }

    /// The rules in force, and what each does.
    pub(super) fn limit_rows(&self, expected: &Expected) -> Vec<LimitRow> {
        let mut members: HashMap<LimitId, Vec<&Owner>> = HashMap::new();
        for owner in self.owners.iter() {
            if let Some(Enforcement { choice, .. }) = &owner.enforcement {
                for id in choice.ids() {
                    members.entry(id).or_default().push(owner);
                }
            }
        }
        let rows = self.rules.iter().filter(|rule| !rule.ended).map(|rule| {
            let owners = members.remove(&rule.id).unwrap_or_default();
            let enforcements = || owners.iter().filter_map(|owner| owner.enforcement.as_ref());
            let mut done = rule.before;
            let own = enforcements().flat_map(|enforcement| &enforcement.own);
            for cell in rule
                .common_cells()
                .chain(own.filter(|cell| cell.limit == rule.id))
            {
                done.add(cell);
            }
            let (mechanism, why_policing) = together(enforcements(), expected);
            LimitRow {
                id: rule.id,
                rule: rule.rule.clone(),
                since: rule.since,
                members: owners.iter().filter(|owner| owner.ended.is_none()).count() as u32,
                bytes: rule.bytes.map(Bytes::new),
                effect: Effect {
                    achieved: rule.achieved,
                    dropped: done.dropped,
                    marked: done.marked,
                    delay: done.delay,
                    mechanism,
                    why_policing,
                    not_enforced: enforcements().find_map(Enforcement::not_enforced),
                },
            }
        });
        rows.collect()
    }

    /// Sees to it that windows are advertised where downloads are paced, and takes fq away where no
    /// limit needs it any more.
    pub(super) fn see_to_devices(&mut self) {
        let downloads = self.owners.iter().filter_map(|owner| {
            let limit = owner.enforcement.as_ref()?;
            (owner.ended.is_none() && limit.limits(Direction::Download))
                .then(|| limit.paced_on().map(|device| (device, owner.pid())))
        });
        let needed = downloads.flatten().collect();
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
        let mut hit: Vec<LimitId> = Vec::new();
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
        let rules: HashMap<LimitId, Limits> = self
            .rules
            .iter()
            .filter(|rule| hit.contains(&rule.id))
            .map(|rule| (rule.id, rule.rule.limits))
            .collect();
        let own = self.owners.limits().flat_map(|limit| &limit.own);
        for cell in self.rules.iter().flat_map(InForce::common_cells).chain(own) {
            if let Some(limits) = rules.get(&cell.limit)
                && let Some(rate) = *limits.get(cell.direction)
                && let Err(error) = self.kernel.limits.change(&cell.cell, cell.direction, rate)
            {
                log::warn!("{error:#}");
            }
        }
    }

    /// The mechanism of all limits together.
    pub(super) fn mechanism(&self, expected: &Expected) -> Expected {
        together(self.owners.limits(), expected)
    }
}

fn together<'a>(limits: impl Iterator<Item = &'a Enforcement>, expected: &Expected) -> Expected {
    limits
        .map(|limit| limit.mechanism(expected))
        .reduce(|all, one| {
            let why = all.1.or(one.1);
            let mechanism = if all.0 == one.0 {
                one.0
            } else {
                Mechanism::Mixed
            };
            (mechanism, why)
        })
        .unwrap_or_else(|| expected.clone())
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
    if let Err(error) = kernel.limits.pace(slot, &devices).context("pacing") {
        log::warn!("{error:#}");
    }
}
