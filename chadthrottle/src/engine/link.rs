//! The link by which background and important traffic goes: which device that is, and what passes it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use chadthrottle_common::{
    round_trip::RoundTrip,
    traffic::{Direction, LOOPBACK, MAX_DEVICES, device_entry},
};

use super::{Engine, importance::Claim};
use crate::{
    kernel::{DeviceTraffic, UNHELD_RATE},
    model::{direction::PerDirection, limit::LimitId, link::LinkSpeed},
    priority::{
        capacity::{Capacity, Traffic},
        guarantee::Kept,
        history::Bytes,
    },
    rate::Rate,
};

/// How often it is found out by which devices background traffic goes.
const DEVICES_AGAIN: Duration = Duration::from_millis(500);

/// A direction with less than this part of the other's bytes has acknowledgements only, which say nothing of how fast
/// it is.
const ACKNOWLEDGEMENTS: u64 = 12;

/// This part of the bytes on the wire is payload: a segment of 1448 bytes in 1500.
const PAYLOAD: f64 = 1448.0 / 1500.0;

/// The link by which background traffic goes.
pub(super) struct Link {
    /// As [`device_entry`] tells.
    pub device: u32,
    /// What it had carried when that was read last.
    pub read: DeviceTraffic,
    /// What leaves another network namespace leaves the machine by these devices, most likely.
    pub uplinks: Vec<u32>,
    /// What is known of each.
    pub directions: PerDirection<Capacity>,
    /// Where some traffic is more important: what becomes of everybody else's.
    pub rest: PerDirection<Rest>,
}

/// Where some traffic is more important: what becomes of everybody else's.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Rest {
    /// What is important does not use the link.
    #[default]
    Unheld,
    /// Nothing is known of the link; it is listened whether its round trips say anything.
    Heard,
    /// It shares the link.
    Held,
}

/// More than any link carries, and not [`UNHELD_RATE`]: round trips are measured, and nothing is held.
pub(super) const HEARD: Rate = Rate::from_bytes_per_second(UNHELD_RATE.bytes_per_second() - 1);

/// Whether these are the devices of another network namespace than this program's.
pub(super) fn is_elsewhere(device: u32) -> bool {
    device >= MAX_DEVICES
}

/// What background traffic may have now, in bytes of payload.
pub(super) fn left(way: &Capacity) -> Rate {
    let left = way.left().bytes_per_second() as f64;
    Rate::from_bytes_per_second((left * PAYLOAD) as u64)
}

impl Link {
    /// Nothing is known of it yet.
    pub fn new(device: u32, read: DeviceTraffic, now: Duration) -> Self {
        let way = || Capacity::new(now);
        Self {
            device,
            read,
            uplinks: Vec::new(),
            rest: PerDirection::default(),
            directions: PerDirection {
                download: way(),
                upload: way(),
            },
        }
    }

    /// Takes somebody's word for how fast it is.
    pub fn believe(&mut self, now: Duration, said: LinkSpeed) {
        for direction in Direction::BOTH {
            let way = self.directions.get_mut(direction);
            way.believe(now, *said.0.get(direction));
        }
    }

    /// Takes note of what passed since the last time.
    pub fn look(
        &mut self,
        now: Duration,
        read: DeviceTraffic,
        held: PerDirection<bool>,
        own_losses: PerDirection<bool>,
        claims: PerDirection<Claim>,
        round_trips: &[RoundTrip],
    ) {
        let passed = read.since(&self.read);
        self.read = read;
        for direction in Direction::BOTH {
            let way = self.directions.get_mut(direction);
            let background = *passed.background.get(direction);
            let others = passed.seen.get(direction).saturating_sub(background);
            let back = *passed.background.get(direction.other());
            if background < back / ACKNOWLEDGEMENTS && !held.get(direction) {
                continue;
            }
            for trip in round_trips {
                let trip_took = Duration::from_nanos(trip.nanoseconds);
                let shortest = (trip.shortest != u32::MAX)
                    .then(|| Duration::from_micros(trip.shortest.into()));
                way.round_trip(now, trip.flow, trip_took, shortest);
            }
            // On the wire, as all else here.
            let wire = |payload: f64| payload / PAYLOAD;
            let (guaranteed, kept) = match *claims.get(direction) {
                Claim::Part { had, kept } => (wire(had as f64) as u64, kept),
                Claim::Nothing | Claim::All => Default::default(),
            };
            // What is sent may wait in a queue still.
            let carried = match direction {
                Direction::Download => background,
                Direction::Upload => (passed.acknowledged as f64 / PAYLOAD) as u64,
            };
            way.look(
                now,
                Traffic {
                    bytes: Bytes {
                        background: carried,
                        guaranteed,
                        others: others.saturating_sub(guaranteed),
                    },
                    kept: Kept {
                        rate: wire(kept.rate),
                        ..kept
                    },
                    congested: match own_losses.get(direction) {
                        true => 0,
                        false => *passed.congested.get(direction) as u32,
                    },
                    held: *held.get(direction),
                    firm: *self.rest.get(direction) == Rest::Held,
                },
            );
        }
    }
}

impl Engine {
    /// By which devices background and important traffic ever went, by its processes' own counters.
    fn devices_of_background(&self) -> anyhow::Result<BTreeSet<u32>> {
        let is_background = |id: LimitId| {
            let active = self.rules.get(id);
            active.is_some_and(|active| active.rule.is_about_link())
        };
        let mut devices = BTreeSet::new();
        for owner in self.owners.iter() {
            let limited = owner.enforcement.as_ref();
            if limited.is_some_and(|limit| limit.choice.ids().into_iter().any(is_background)) {
                let its = self.kernel.counters.devices(owner.tag.slot)?;
                let entry = |device| device_entry(owner.namespace.number(), device);
                devices.extend(its.into_iter().map(entry));
            }
        }
        Ok(devices)
    }

    /// The link is the device by which most background traffic went lately.
    pub(super) fn find_link(
        &mut self,
        now: Duration,
        round_trips: &[RoundTrip],
    ) -> anyhow::Result<()> {
        let looked = self.background.looked_for_devices;
        let is_due = looked.is_none_or(|looked| looked.elapsed() >= DEVICES_AGAIN);
        if !is_due {
            return Ok(());
        }
        self.background.looked_for_devices = Some(Instant::now());
        let mut devices = self.devices_of_background()?;
        if self.rules.everybody_else().is_none() {
            devices.extend(round_trips.iter().map(|trip| trip.device));
        }
        devices.remove(&LOOPBACK);
        let current = self.background.link.as_ref().map(|link| link.device);
        devices.extend(current);
        let mut busiest: Option<((u64, bool, u64), u32, DeviceTraffic)> = None;
        for device in devices {
            let Ok(read) = self.kernel.devices.traffic(device) else {
                continue;
            };
            let moved = read
                .background
                .download
                .wrapping_add(read.background.upload);
            let before = self.background.moved.insert(device, moved).unwrap_or(0);
            let moved = moved.wrapping_sub(before);
            // Of two that moved the same, the one that it was; at first, the one that others use most.
            let seen = (read.seen.download).wrapping_add(read.seen.upload);
            let rank = (moved, Some(device) == current, seen);
            if busiest.is_none_or(|(most, ..)| rank > most) {
                busiest = Some((rank, device, read));
            }
        }
        if let Some((_, device, read)) = busiest
            && Some(device) != current
        {
            log::debug!("background traffic goes by device {device}");
            let mut link = Link::new(device, read, now);
            link.believe(now, self.background.said);
            self.background.link = Some(link);
        }
        Ok(())
    }
}
