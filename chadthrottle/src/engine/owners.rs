//! Who owns which slot, and what each owner moved.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use chadthrottle_common::{tag::Tag, traffic::Counters};

use super::{enforcement::Enforcement, namespaces::Namespace};
use crate::{
    model::{
        direction::{PerClass, PerDirection},
        limit::EffectiveLimits,
        process::{Identity, Pid, ProcessKey},
        snapshot::ProcessRow,
    },
    policy::choose::Choice,
    rate::{Bytes, Rate},
};

/// The process id of those that are no single process.
const CROWD: Pid = Pid(0);

/// Who has a slot: a process, or all of a user and cgroup for which none was left.
pub struct Owner {
    /// Who it is.
    pub identity: Identity,
    /// Its slot.
    pub tag: Tag,
    /// Becomes readable when the process ends; nothing if it had ended before it was opened.
    pub pidfd: Option<OwnedFd>,
    /// What is in force for it, if anything is.
    pub enforcement: Option<Enforcement>,
    /// Its identity changed, so that other rules may count for it.
    pub changed: bool,
    /// What the kernel let it begin with, until it is seen to.
    pub began: Option<Choice>,
    /// The network namespace that it was in when it became known.
    pub namespace: Namespace,
    /// Open inet sockets, when last looked.
    pub connections: u32,
    /// When its descriptors were last looked at.
    pub scanned: Option<Instant>,
    /// When it was found to have ended.
    pub ended: Option<Instant>,
    counters: Counters,
    rate: PerDirection<Rate>,
    /// Bytes on the wire in the last interval.
    moved: PerDirection<u64>,
    /// What the throttle pair admitted in the last interval, by direction and class.
    admitted: [[u64; 2]; 2],
    /// When its counters last moved, or it was first seen.
    active: Instant,
    /// How many snapshots showed it since it ended.
    shown_ended: u32,
}

impl Owner {
    /// A new owner, that has moved nothing yet.
    pub fn new(identity: Identity, tag: Tag, pidfd: Option<OwnedFd>, now: Instant) -> Self {
        Self {
            ended: pidfd.is_none().then_some(now),
            identity,
            tag,
            pidfd,
            enforcement: None,
            changed: false,
            began: None,
            namespace: Namespace::default(),
            connections: 0,
            scanned: None,
            counters: Counters::default(),
            rate: PerDirection::default(),
            moved: PerDirection::default(),
            admitted: Default::default(),
            active: now,
            shown_ended: 0,
        }
    }

    /// The processes of a user and cgroup for which no slot was left. They are gone with the cgroup.
    pub fn of_crowd(identity: Identity, tag: Tag) -> Self {
        let now = Instant::now();
        let mut crowd = Self::new(identity, tag, None, now);
        crowd.identity.key = ProcessKey {
            pid: CROWD,
            // It tells them from each other.
            start_time: tag.slot.into(),
        };
        crowd.ended = None;
        crowd
    }

    /// Whether it is such.
    pub fn is_crowd(&self) -> bool {
        self.pid() == CROWD
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.identity.key.pid
    }

    /// Payload that got through since it was first seen.
    pub fn passed(&self) -> PerDirection<u64> {
        PerDirection::of(|direction| self.counters.passed(direction).payload)
    }

    /// Takes in a new reading; returns whether anything moved since the last.
    pub fn sample(&mut self, counters: Counters, interval: Duration, now: Instant) -> bool {
        let before = self.passed();
        let moved = counters != self.counters;
        for (delta, (now, before)) in self.admitted.as_flattened_mut().iter_mut().zip(
            counters
                .admitted
                .as_flattened()
                .iter()
                .zip(self.counters.admitted.as_flattened()),
        ) {
            *delta = now.saturating_sub(*before);
        }
        self.moved = PerDirection::of(|direction| {
            let wire = |counters: &Counters| counters.seen[direction.index()].wire;
            wire(&counters).saturating_sub(wire(&self.counters))
        });
        self.counters = counters;
        let after = self.passed();
        self.rate = PerDirection::of(|direction| {
            Rate::over(
                after.get(direction).saturating_sub(*before.get(direction)),
                interval,
            )
        });
        if moved {
            self.active = now;
        }
        if self.ended.is_some() {
            self.shown_ended += 1;
        }
        moved
    }

    /// Bytes on the wire that it sent and received in the last interval.
    pub fn moved(&self) -> PerDirection<u64> {
        self.moved
    }

    /// Payload that the throttle pair let through in the last interval.
    pub fn admitted(&self) -> PerDirection<PerClass<u64>> {
        PerDirection::of(|direction| {
            PerClass::of(|class| self.admitted[direction.index()][class.index()])
        })
    }

    /// Whether it has ended, was shown so, and has been quiet for `linger`: its slot can go to
    /// another process.
    pub fn departed(&self, linger: Duration, now: Instant) -> bool {
        let quiet = now.duration_since(self.active.max(self.ended.unwrap_or(now)));
        self.ended.is_some() && self.shown_ended > 1 && quiet >= linger
    }

    /// Its row of the table, without its limits.
    pub fn row(&self) -> ProcessRow {
        let identity = &self.identity;
        ProcessRow {
            key: identity.key,
            name: identity.name.clone(),
            exe: identity.exe.clone(),
            command_line: identity.command_line.clone(),
            user: identity.user.clone(),
            uid: identity.uid,
            cgroup: identity.cgroup.clone(),
            connections: self.connections,
            bytes: self.passed().map(Bytes::new),
            rate: self.rate,
            limits: EffectiveLimits::default(),
            limit: None,
            local_limit: None,
            ended: self.ended.is_some(),
        }
    }
}

/// All owners, by slot and by process.
#[derive(Default)]
pub struct Owners {
    by_slot: HashMap<u32, Owner>,
    by_pid: HashMap<Pid, u32>,
}

impl Owners {
    /// Adds an owner. One that had the process id before stays known by its slot only.
    pub fn insert(&mut self, owner: Owner) {
        if !owner.is_crowd() {
            self.by_pid.insert(owner.pid(), owner.tag.slot);
        }
        self.by_slot.insert(owner.tag.slot, owner);
    }

    /// The owner that runs, or last ran, under this process id.
    pub fn of_process(&self, pid: Pid) -> Option<&Owner> {
        self.by_slot.get(self.by_pid.get(&pid)?)
    }

    /// As [`Self::of_process`], to be changed.
    pub fn of_process_mut(&mut self, pid: Pid) -> Option<&mut Owner> {
        self.by_slot.get_mut(self.by_pid.get(&pid)?)
    }

    /// A slot's owner, to be changed.
    pub fn of_slot_mut(&mut self, slot: u32) -> Option<&mut Owner> {
        self.by_slot.get_mut(&slot)
    }

    /// The owner that a tag names, if it is still the slot's owner.
    pub fn of_tag(&self, tag: Tag) -> Option<&Owner> {
        self.by_slot.get(&tag.slot).filter(|owner| owner.tag == tag)
    }

    /// Removes a slot's owner.
    pub fn remove(&mut self, slot: u32) -> Option<Owner> {
        let owner = self.by_slot.remove(&slot)?;
        if self.by_pid.get(&owner.pid()) == Some(&slot) {
            self.by_pid.remove(&owner.pid());
        }
        Some(owner)
    }

    /// Their slots, for going through them while others may come and go.
    pub fn slots(&self) -> Vec<u32> {
        self.by_slot.keys().copied().collect()
    }

    /// A slot's owner.
    pub fn of_slot(&self, slot: u32) -> Option<&Owner> {
        self.by_slot.get(&slot)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_slot.len()
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Owner> {
        self.by_slot.values()
    }

    /// What is in force for any of them.
    pub fn limits(&self) -> impl Iterator<Item = &Enforcement> {
        self.iter().filter_map(|owner| owner.enforcement.as_ref())
    }

    /// All of them, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Owner> {
        self.by_slot.values_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::identity::Identifier;
    use chadthrottle_common::traffic::Traffic;

    fn owner(pid: u32, slot: u32) -> Owner {
        let identity = Identifier::default().of_departed(Pid(pid), b"test", 0);
        let tag = Tag {
            slot,
            generation: 0,
        };
        Owner::new(identity, tag, None, Instant::now())
    }

    fn downloaded(payload: u64) -> Counters {
        let mut counters = Counters::default();
        counters.seen[0] = Traffic {
            payload,
            wire: payload,
            packets: 1,
        };
        counters
    }

    #[test]
    fn an_owner_departs_when_it_was_shown_and_is_quiet() {
        let mut gone = owner(1, 1);
        let linger = Duration::from_secs(10);
        let second = Duration::from_secs(1);
        let begin = Instant::now();
        assert!(gone.sample(downloaded(500), second, begin));
        assert_eq!(gone.row().rate.download.bytes_per_second(), 500);
        assert!(
            !gone.departed(linger, begin + 2 * linger),
            "shown once only"
        );
        assert!(!gone.sample(downloaded(500), second, begin + second));
        assert_eq!(gone.row().rate.download, Rate::ZERO);
        assert_eq!(gone.row().bytes.download.count(), 500);
        assert!(!gone.departed(linger, begin + linger - second));
        assert!(gone.departed(linger, begin + linger));
    }

    #[test]
    fn a_process_id_used_again_leads_to_the_newer_owner() {
        let mut owners = Owners::default();
        owners.insert(owner(7, 1));
        owners.insert(owner(7, 2));
        assert_eq!(owners.of_process(Pid(7)).unwrap().tag.slot, 2);
        owners.remove(1).unwrap();
        assert_eq!(owners.of_process(Pid(7)).unwrap().tag.slot, 2);
        assert!(
            owners
                .of_tag(Tag {
                    slot: 2,
                    generation: 1
                })
                .is_none()
        );
    }
}
