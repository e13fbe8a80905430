//! The engine: the one owner of the kernel side. It turns readings into [`Snapshot`]s
//! and [`Command`](crate::model::command::Command)s into limits.

mod admission;
mod assignment;
mod attribution;
mod background;
mod cells;
mod checking;
mod enforcement;
mod escapes;
mod importance;
mod limiting;
mod link;
mod namespaces;
mod networks;
mod notices;
mod owners;
mod picture;
mod roads;
mod run;
mod uplinks;
mod watching;

use std::{
    collections::{BTreeSet, HashSet},
    time::{Duration, Instant},
};

use chadthrottle_common::{
    tag::{Tag, UNATTRIBUTED},
    traffic::Counters,
};

pub use run::{EngineThread, start};

use crate::{
    kernel::Kernel,
    model::{
        direction::PerDirection,
        process::{Pid, ProcessKey},
        snapshot::Snapshot,
    },
    pacing::{Pacing, Windows},
    policy::{active::ActiveRules, prewarm::Prewarmed, usage::Usage},
    process::descriptors,
    rate::Rate,
};
use attribution::Attribution;
use background::Background;
use cells::RuleCells;
use enforcement::Enforcement;
use escapes::Escapes;
use importance::Importance;
use namespaces::Namespaces;
use networks::Networks;
use notices::Notices;
use owners::{Owner, Owners};
use roads::KnownAddresses;
use uplinks::Uplinks;
use watching::Watching;

/// How long a process that has ended stays in the table after its last byte.
const LINGER: Duration = Duration::from_secs(10);

/// The same when fewer than a quarter of the slots are free.
const LINGER_WHEN_SHORT: Duration = Duration::from_secs(1);

/// A process with a slot is looked at again after this time even if it moves nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// So many processes that moved something, and others, are looked at in a second: with their
/// children and identity that takes 0.1 ms each, and a thousand would take a tenth of a core.
const LOOKS_A_SECOND: [f64; 2] = [48.0, 12.0];

/// Looks at all processes are at least this far apart, and further the longer they find nothing.
const LOOK_AT_ALL: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// How long after it was set a limit is checked at every turn, to find sockets in other cgroups.
const FRESH_LIMIT: Duration = Duration::from_secs(3);

/// The sums of a sample.
#[derive(Clone, Copy, Default)]
struct Totals {
    sequence: u64,
    interval: Duration,
    bytes: PerDirection<u64>,
    rate: PerDirection<Rate>,
}

/// The engine's state.
struct Engine {
    // Before the pacing, so that no packet is given a departure time when fq goes.
    kernel: Kernel,
    pacing: Pacing,
    windows: Windows,
    owners: Owners,
    rules: ActiveRules,
    /// What was moved under each of them.
    usage: Usage,
    /// The cells that their processes share.
    cells: RuleCells,
    background: Background,
    importance: Importance,
    prewarmed: Prewarmed,
    attribution: Attribution,
    notices: Notices,
    watching: Watching,
    networks: Networks,
    namespaces: Namespaces,
    uplinks: Uplinks,
    escapes: Escapes,
    known_addresses: KnownAddresses,
    is_attending: bool,
    unattributed: Counters,
    /// Payload of owners whose slots went to others.
    departed: PerDirection<u64>,
    totals: Totals,
    sampled: Instant,
    looked_at_all: Instant,
    looked_at_crowds: Instant,
    told_of_crowds: Option<Instant>,
    look_at_all_after: Duration,
}

impl Engine {
    /// Looks at everything for the first time.
    fn new(kernel: Kernel) -> Self {
        let now = Instant::now();
        let mut engine = Self {
            kernel,
            pacing: Pacing::default(),
            windows: Windows::default(),
            owners: Owners::default(),
            rules: ActiveRules::default(),
            usage: Usage::default(),
            cells: RuleCells::default(),
            background: Background::default(),
            importance: Importance::default(),
            prewarmed: Prewarmed::default(),
            attribution: Attribution::default(),
            notices: Notices::default(),
            watching: Watching::default(),
            networks: Networks::default(),
            namespaces: Namespaces::default(),
            uplinks: Uplinks::default(),
            escapes: Escapes::default(),
            known_addresses: KnownAddresses::default(),
            is_attending: false,
            unattributed: Counters::default(),
            departed: PerDirection::default(),
            totals: Totals::default(),
            sampled: now,
            looked_at_all: now,
            looked_at_crowds: now,
            told_of_crowds: None,
            look_at_all_after: LOOK_AT_ALL[0],
        };
        let tagged = engine.look_at_all();
        // What passed while nobody could be known yet says nothing about how much is known.
        if let Err(error) = engine.kernel.counters.clear(UNATTRIBUTED) {
            log::warn!("{error:#}");
        }
        log::debug!(
            "first look: {tagged} sockets of {} processes tagged in {:?}",
            engine.owners.len(),
            now.elapsed()
        );
        engine
    }

    /// What is done between samples: notice processes of which nothing was heard, or that ended, and bytes that
    /// limits miss.
    fn turn(&mut self) {
        self.notice_lost_announcements();
        self.notice_ended();
        if self.rules.has_trees() {
            self.look_for_descendants();
        }
        let fresh = |limit: &Enforcement| limit.since.elapsed() < FRESH_LIMIT;
        self.check_limits(fresh);
        self.look_for_escapes(fresh);
        self.see_to_devices();
    }

    fn notice_ended(&mut self) {
        let now = Instant::now();
        let ended = ended_processes(&self.owners);
        for (slot, pid) in &ended {
            self.attend();
            // By its slot: another process may have its id by now.
            let Some(owner) = self.owners.of_slot_mut(*slot) else {
                continue;
            };
            owner.ended = Some(now);
            owner.pidfd = None;
            owner.connections = 0;
            self.kernel.slots.forget_process(*pid, owner.tag);
            if self.rules.process_ended(owner.identity.key) {
                let text = format!(
                    "{} ({pid}) ended; its limit is gone with it",
                    owner.identity.name
                );
                self.notices.info(text);
            }
        }
        for (_, pid) in &ended {
            // Somebody else may hold its sockets now, or have its id.
            self.look_at(*pid);
        }
    }

    /// Takes all readings and makes a snapshot of them.
    fn sample(&mut self) -> Snapshot {
        let now = Instant::now();
        let interval = now.duration_since(self.sampled);
        self.sampled = now;
        let (busy, crowds_moved) = self.read_counters(interval, now);
        let limited = self.owners.iter().filter_map(|owner| {
            let enforcement = owner.enforcement.as_ref()?;
            Some((&enforcement.choice, owner.admitted()))
        });
        self.usage.add(&self.rules, limited, interval);
        let strangers = self.read_unattributed();
        self.read_uplinks(&busy, interval);
        self.follow_moves(&busy);
        self.notice_lost_devices();
        self.look_at_networks(false);
        self.check_limits(|_| true);
        self.look_for_escapes(|_| true);
        let owners = self.owners.iter();
        let with_sockets: Vec<ProcessKey> = owners
            .filter(|owner| owner.ended.is_none() && owner.connections > 0)
            .map(|owner| owner.identity.key)
            .collect();
        self.watch(|watching, attend| {
            watching.sample(interval, with_sockets.into_iter(), attend);
        });
        let before = self.totals.bytes;
        let bytes = PerDirection::of(|direction| {
            *self.departed.get(direction)
                + self.unattributed.passed(direction).payload
                + self
                    .owners
                    .iter()
                    .map(|owner| *owner.passed().get(direction))
                    .sum::<u64>()
        });
        self.totals = Totals {
            sequence: self.totals.sequence + 1,
            interval,
            bytes,
            rate: PerDirection::of(|direction| {
                let moved = bytes.get(direction).saturating_sub(*before.get(direction));
                Rate::over(moved, interval)
            }),
        };
        let snapshot = self.picture();
        self.end_crowds(now);
        self.retire_departed(now);
        // Who came when no slot was left, and is to be limited, is one of a crowd until it is found.
        let hidden = crowds_moved && self.rules.iter().next().is_some();
        self.look_around(&busy, strangers || hidden, now);
        let changed = self.owners.iter().filter(|owner| owner.changed);
        let changed: Vec<u32> = changed.map(|owner| owner.tag.slot).collect();
        for slot in changed {
            self.meet_rules(slot);
            self.attend();
        }
        snapshot
    }

    /// Reads connections, and attends to new processes meanwhile.
    fn watch(&mut self, read: impl FnOnce(&mut Watching, &mut dyn FnMut())) {
        let mut watching = std::mem::take(&mut self.watching);
        read(&mut watching, &mut || self.attend());
        self.watching = watching;
    }

    /// Returns the processes that moved something, and whether a crowd did.
    fn read_counters(&mut self, interval: Duration, now: Instant) -> (Vec<Pid>, bool) {
        let mut busy = Vec::new();
        let mut crowds = false;
        for slot in self.owners.slots() {
            self.attend();
            let Some(owner) = self.owners.of_slot_mut(slot) else {
                continue;
            };
            match self.kernel.counters.read(owner.tag.slot) {
                Ok(counters) => match owner.sample(counters, interval, now) {
                    true if owner.is_crowd() => crowds = true,
                    true => busy.push(owner.pid()),
                    false => {}
                },
                Err(error) => log::warn!("{error:#}"),
            }
        }
        (busy, crowds)
    }

    /// Returns whether more bytes are unattributed than before.
    fn read_unattributed(&mut self) -> bool {
        let before = payload(&self.unattributed);
        match self.kernel.counters.read(UNATTRIBUTED) {
            Ok(counters) => self.unattributed = counters,
            Err(error) => log::warn!("{error:#}"),
        }
        payload(&self.unattributed) > before
    }

    /// Looks at the processes that moved something, and their children, which may have been
    /// handed connections; at the others now and then; at all when there are
    /// strangers: bytes that were unattributed, or a crowd's that may hide who is to be limited.
    fn look_around(&mut self, busy: &[Pid], strangers: bool, now: Instant) {
        let since = now.duration_since(self.looked_at_all);
        if (strangers && since >= self.look_at_all_after) || since >= LOOK_AT_ALL[1] {
            self.look_at_all();
            return;
        }
        let busy: HashSet<Pid> = busy.iter().copied().collect();
        let running =
            (self.owners.iter()).filter(|owner| owner.ended.is_none() && !owner.is_crowd());
        let (busy, quiet): (Vec<&Owner>, Vec<&Owner>) =
            running.partition(|owner| busy.contains(&owner.pid()));
        let quiet = quiet.into_iter().filter(|owner| {
            let scanned = owner.scanned;
            scanned.is_none_or(|scanned| now.duration_since(scanned) >= LOOK_AGAIN)
        });
        let [most_busy, most_quiet] = LOOKS_A_SECOND.map(|looks| {
            let looks = looks * self.totals.interval.as_secs_f64();
            looks.ceil() as usize
        });
        let busy = in_turn(busy.into_iter(), most_busy);
        let mut pids: BTreeSet<Pid> = busy.iter().copied().collect();
        pids.extend(in_turn(quiet, most_quiet));
        for pid in busy {
            self.attend();
            pids.extend(descriptors::children(pid));
        }
        for pid in pids {
            self.look_at(pid);
        }
    }

    fn retire_departed(&mut self, now: Instant) {
        let short = self.owners.len() > self.kernel.slots.count() as usize * 3 / 4;
        let linger = if short { LINGER_WHEN_SHORT } else { LINGER };
        let departed: Vec<Tag> = self
            .owners
            .iter()
            .filter(|owner| owner.departed(linger, now))
            .map(|owner| owner.tag)
            .collect();
        let any = !departed.is_empty();
        for tag in departed {
            self.attend();
            if let Err(error) = self.retire(tag) {
                // The slot stays out of use; nothing else is wrong.
                log::warn!("slot {} could not be freed: {error:#}", tag.slot);
            }
        }
        if any {
            self.place_throttle_pair();
        }
    }

    fn retire(&mut self, tag: Tag) -> anyhow::Result<()> {
        let next = self.kernel.slots.retire(tag)?;
        let last = self.kernel.counters.read(tag.slot)?;
        self.departed = PerDirection::of(|direction| {
            *self.departed.get(direction) + last.passed(direction).payload
        });
        if let Some(owner) = self.owners.remove(tag.slot) {
            // Of one that had ended before it was looked at, the end was never noticed.
            self.kernel.slots.forget_process(owner.pid(), tag);
            if let Some(enforcement) = owner.enforcement {
                for cell in enforcement.own {
                    self.kernel.limits.release(cell.cell);
                }
                self.forget_limits_of(owner.identity.key);
            }
        }
        self.kernel.counters.clear(tag.slot)?;
        // The next owner may be in another network namespace.
        self.kernel.limits.pace_anew(tag.slot, &[], true)?;
        self.kernel.slots.release(next)
    }
}

/// Those of processes that were not looked at for longest, so that of very many each has its turn.
fn in_turn<'a>(owners: impl Iterator<Item = &'a Owner>, most: usize) -> Vec<Pid> {
    let mut owners: Vec<&Owner> = owners.collect();
    owners.sort_by_key(|owner| owner.scanned);
    owners.into_iter().take(most).map(Owner::pid).collect()
}

fn payload(counters: &Counters) -> u64 {
    counters.seen.iter().map(|seen| seen.payload).sum()
}

/// The processes whose descriptors say that they have ended.
/// The processes that have ended since they were asked for last, each with its slot.
fn ended_processes(owners: &Owners) -> Vec<(u32, Pid)> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let (mut descriptors, processes): (Vec<_>, Vec<_>) = owners
        .iter()
        .filter_map(|owner| {
            let pidfd = owner.pidfd.as_ref()?;
            let who = (owner.tag.slot, owner.pid());
            Some((PollFd::new(pidfd, PollFlags::IN), who))
        })
        .unzip();
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    if let Err(error) = poll(&mut descriptors, Some(&at_once)) {
        log::warn!("processes that ended are not noticed: {error}");
        return Vec::new();
    }
    descriptors
        .iter()
        .zip(processes)
        .filter(|(descriptor, _)| !descriptor.revents().is_empty())
        .map(|(_, process)| process)
        .collect()
}
