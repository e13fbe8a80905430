//! Background traffic: it has what others leave of the link, and how much that is, is found out here some fifty times a
//! second while there is any.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use chadthrottle_common::{round_trip::RoundTrip, traffic::Direction};

use super::Engine;
use crate::{
    kernel::DeviceTraffic,
    model::{
        direction::{Limits, PerDirection},
        limit::LimitId,
    },
    priority::capacity::{Capacity, Traffic},
    process::links::LOOPBACK,
    rate::Rate,
};

/// What others use is what they used in the longer or in the shorter of these times, whichever is more: it yields at
/// once, and comes back when they have paused for as long as a page's next object may take.
const OTHERS_LATELY: [Duration; 2] = [Duration::from_millis(60), Duration::from_millis(250)];

/// How often it is found out by which devices background traffic goes.
const DEVICES_AGAIN: Duration = Duration::from_millis(500);

/// A direction with less than this part of the other's bytes has acknowledgements only, which say nothing of how fast
/// it is.
const ACKNOWLEDGEMENTS: u64 = 12;

/// This part of the bytes on the wire is payload: a segment of 1448 bytes in 1500.
const PAYLOAD: f64 = 1448.0 / 1500.0;

/// After so long without a round trip it is told that there are none.
const BLIND: Duration = Duration::from_secs(3);

/// A rate is only changed if it differs by so much.
const SAME: f64 = 0.02;

/// What is known of background traffic.
pub struct Background {
    /// The clock of the controllers begins here.
    began: Instant,
    link: Option<Link>,
    looked_for_devices: Option<Instant>,
    /// Since when there is more than is let, and no round trip was ever heard of.
    blind_since: Option<Duration>,
    /// Said once: nothing is known of the link.
    said_blind: bool,
    /// What background traffic had moved by each device when that was looked at last.
    moved: HashMap<u32, u64>,
}

impl Default for Background {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            link: None,
            looked_for_devices: None,
            blind_since: None,
            said_blind: false,
            moved: HashMap::new(),
        }
    }
}

/// The link by which background traffic goes.
struct Link {
    device: u32,
    read: DeviceTraffic,
    directions: PerDirection<Way>,
}

/// One direction of it.
#[derive(Clone)]
struct Way {
    capacity: Capacity,
    /// Bytes of others, and until when, the latest last.
    others: VecDeque<(Duration, u64)>,
}

impl Way {
    fn new(now: Duration) -> Self {
        Self {
            capacity: Capacity::new(now),
            others: VecDeque::new(),
        }
    }

    /// What others use lately, in bytes a second on the wire.
    fn others(&self, now: Duration) -> f64 {
        let rate = |lately: Duration| {
            let since = now.saturating_sub(lately);
            let latest = self.others.iter().rev().take_while(|(at, _)| *at > since);
            latest.map(|(_, bytes)| *bytes).sum::<u64>() as f64 / lately.as_secs_f64()
        };
        OTHERS_LATELY.map(rate).into_iter().fold(0.0, f64::max)
    }

    fn add_others(&mut self, now: Duration, bytes: u64) {
        self.others.push_back((now, bytes));
        let old = |(at, _): &(Duration, u64)| *at + OTHERS_LATELY[1] < now;
        while self.others.front().is_some_and(old) {
            self.others.pop_front();
        }
    }

    /// What background traffic may have now, in bytes of payload.
    fn left(&self, now: Duration) -> Rate {
        let capacity = self.capacity.capacity().bytes_per_second() as f64;
        let trickle = self.capacity.trickle().bytes_per_second() as f64;
        let left = (capacity - self.others(now)).max(trickle);
        Rate::from_bytes_per_second((left * PAYLOAD) as u64)
    }
}

impl Link {
    fn new(device: u32, read: DeviceTraffic, now: Duration) -> Self {
        let way = || Way::new(now);
        Self {
            device,
            read,
            directions: PerDirection {
                download: way(),
                upload: way(),
            },
        }
    }

    /// Takes note of what passed since the last time.
    fn look(
        &mut self,
        now: Duration,
        read: DeviceTraffic,
        held: PerDirection<bool>,
        round_trips: &[RoundTrip],
    ) {
        let passed = read.since(&self.read);
        self.read = read;
        for direction in Direction::BOTH {
            let way = self.directions.get_mut(direction);
            let background = *passed.background.get(direction);
            let others = passed.seen.get(direction).saturating_sub(background);
            way.add_others(now, others);
            let back = *passed.background.get(direction.other());
            if background < back / ACKNOWLEDGEMENTS && !held.get(direction) {
                continue;
            }
            for trip in round_trips {
                let trip_took = Duration::from_nanos(trip.nanoseconds);
                way.capacity.round_trip(now, trip.flow, trip_took);
            }
            way.capacity.look(
                now,
                Traffic {
                    background,
                    others,
                    marked: match direction {
                        Direction::Download => passed.marked as u32,
                        Direction::Upload => 0,
                    },
                    held: *held.get(direction),
                },
            );
        }
    }
}

impl Engine {
    /// Whether background traffic is to be tended.
    pub(super) fn has_background(&self) -> bool {
        self.rules.have_background()
    }

    /// Lets background traffic have what others leave. To be called some fifty times a second.
    pub(super) fn tend_background(&mut self) {
        if let Err(error) = self.try_tend_background() {
            log::warn!("background traffic keeps what it has: {error:#}");
        }
    }

    fn try_tend_background(&mut self) -> anyhow::Result<()> {
        let now = self.background.began.elapsed();
        let round_trips: Vec<RoundTrip> = self.kernel.round_trips.by_ref().collect();
        self.find_link(now, &round_trips)?;
        let mut held = PerDirection::default();
        for cell in self.cells.background_mut() {
            let present = self.kernel.limits.present(&cell.cell)?;
            *held.get_mut(cell.direction) = !present.delay.is_zero();
        }
        let Some(link) = &mut self.background.link else {
            return Ok(());
        };
        let read = self.kernel.devices.traffic(link.device)?;
        let by_it: Vec<RoundTrip> = (round_trips.into_iter())
            .filter(|trip| trip.device == link.device)
            .collect();
        link.look(now, read, held, &by_it);
        let mut present = Limits::default();
        for cell in self.cells.background_mut() {
            let left = link.directions.get(cell.direction).left(now);
            let (old, new) = (
                cell.rate().bytes_per_second() as f64,
                left.bytes_per_second() as f64,
            );
            if (new - old).abs() > old * SAME {
                cell.set_rate(&mut self.kernel.limits, left)?;
            }
            *present.get_mut(cell.direction) = Some(cell.rate());
        }
        self.rules.set_background(present);
        self.tell_if_blind(now, held);
        self.trace_background(now, held);
        Ok(())
    }

    /// Where nothing answers with a timestamp it is not known how fast the link is.
    fn tell_if_blind(&mut self, now: Duration, held: PerDirection<bool>) {
        let Some(link) = &self.background.link else {
            return;
        };
        let blind = |direction| {
            let way = link.directions.get(direction);
            *held.get(direction) && way.capacity.base().is_none()
        };
        if !Direction::BOTH.into_iter().any(blind) {
            self.background.blind_since = None;
            return;
        }
        let since = *self.background.blind_since.get_or_insert(now);
        if now >= since + BLIND && !std::mem::replace(&mut self.background.said_blind, true) {
            self.notices.warn(format!(
                "background traffic measures no round trips (UDP, or TCP without timestamps), so it is not known how fast \
                 the link is: it keeps to {} each way",
                Capacity::FIRST
            ));
        }
    }

    fn trace_background(&self, now: Duration, held: PerDirection<bool>) {
        let Some(link) = &self.background.link else {
            return;
        };
        for direction in Direction::BOTH {
            let way = link.directions.get(direction);
            log::trace!(
                "background {direction} at {:.3} s: {:?}, capacity {}, others {:.0}, queue {:?}, base {:?}, held {}",
                now.as_secs_f64(),
                way.capacity.why(),
                way.capacity.capacity(),
                way.others(now),
                way.capacity.queue(),
                way.capacity.base(),
                held.get(direction)
            );
        }
    }

    /// The link is the device by which most background traffic went lately.
    fn find_link(&mut self, now: Duration, round_trips: &[RoundTrip]) -> anyhow::Result<()> {
        let looked = self.background.looked_for_devices;
        let is_due = looked.is_none_or(|looked| looked.elapsed() >= DEVICES_AGAIN);
        if !is_due {
            return Ok(());
        }
        self.background.looked_for_devices = Some(Instant::now());
        let mut devices: BTreeSet<u32> = round_trips.iter().map(|trip| trip.device).collect();
        let about = |id: LimitId| {
            let active = self.rules.get(id);
            active.is_some_and(|active| active.rule.is_background())
        };
        for owner in self.owners.iter() {
            let limited = owner.enforcement.as_ref();
            if limited.is_some_and(|limit| limit.choice.ids().into_iter().any(about)) {
                devices.extend(self.kernel.counters.devices(owner.tag.slot)?);
            }
        }
        devices.remove(&LOOPBACK);
        let current = self.background.link.as_ref().map(|link| link.device);
        devices.extend(current);
        let mut busiest: Option<(u64, u32, DeviceTraffic)> = None;
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
            // Of two that moved the same, the one that it was.
            let rank = (moved, Some(device) == current);
            if busiest.is_none_or(|(most, other, _)| rank > (most, Some(other) == current)) {
                busiest = Some((moved, device, read));
            }
        }
        if let Some((_, device, read)) = busiest
            && Some(device) != current
        {
            log::debug!("background traffic goes by device {device}");
            self.background.link = Some(Link::new(device, read, now));
        }
        Ok(())
    }
}
