//! Background traffic: it has what others leave of the link, and how much that is, is found out here some fifty times a
//! second while there is any.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use chadthrottle_common::{
    round_trip::RoundTrip,
    traffic::{Direction, LOOPBACK, MAX_DEVICES, device_entry},
};

use super::{Engine, cells::LimitCell, uplinks::Uplinks};
use crate::{
    kernel::DeviceTraffic,
    model::{
        self,
        direction::{Limits, PerDirection},
        limit::LimitId,
        link::LinkSpeed,
    },
    priority::{
        capacity::{Capacity, Traffic},
        sharing::{Part, share},
    },
    rate::Rate,
};

/// The time between two looks at background traffic while there is any: how soon it yields to others.
pub(super) const TEND: Duration = Duration::from_millis(20);

/// How often it is found out by which devices background traffic goes.
const DEVICES_AGAIN: Duration = Duration::from_millis(500);

/// A direction with less than this part of the other's bytes has acknowledgements only, which say nothing of how fast
/// it is.
const ACKNOWLEDGEMENTS: u64 = 12;

/// This part of the bytes on the wire is payload: a segment of 1448 bytes in 1500.
const PAYLOAD: f64 = 1448.0 / 1500.0;

/// For so long after the limit dropped or marked something itself it is not known whose losses are whose.
const OWN_LOSSES: Duration = Duration::from_secs(1);

/// After so long without a round trip it is told that there are none.
const BLIND: Duration = Duration::from_secs(3);

/// If it is tended so much later than it was due, and not because the engine had to do something, the machine was too
/// busy for it or stood still: round trips of that time, and of what was on its way then, are longer without a queue.
const LATE: Duration = Duration::from_millis(20);
const ON_ITS_WAY: Duration = Duration::from_millis(100);

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
    /// What somebody said of the link.
    said: LinkSpeed,
    own_losses: OwnLosses,
    /// When it was tended last, and how long this thread had worked until then.
    tended: Option<(Duration, Duration)>,
    /// Until when round trips tell of this machine.
    stood_still: Duration,
}

/// How many packets the limit itself had dropped or marked, and when it did last.
#[derive(Default)]
struct OwnLosses(PerDirection<(u64, Option<Duration>)>);

impl OwnLosses {
    /// Whether there were some lately: what is lost then tells nothing of the link.
    fn are_recent(&mut self, now: Duration, enforced: PerDirection<u64>) -> PerDirection<bool> {
        PerDirection::of(|direction| {
            let (before, last) = self.0.get_mut(direction);
            let enforced = *enforced.get(direction);
            if std::mem::replace(before, enforced) != enforced {
                *last = Some(now);
            }
            last.is_some_and(|last| now < last + OWN_LOSSES)
        })
    }
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
            said: LinkSpeed::default(),
            own_losses: OwnLosses::default(),
            tended: None,
            stood_still: Duration::ZERO,
        }
    }
}

impl Background {
    /// The link by which it goes, if there is any, and what is known of it.
    pub fn link(&self, uplinks: &Uplinks) -> Option<model::link::Link> {
        let (link, now) = (self.link.as_ref()?, self.began.elapsed());
        let name = match is_elsewhere(link.device) {
            true => Some("another network namespace".into()),
            false => uplinks.name(link.device),
        };
        Some(model::link::Link {
            device: name.unwrap_or_else(|| format!("device {}", link.device).into()),
            directions: PerDirection::of(|direction| link.directions.get(direction).state(now)),
        })
    }

    /// What background traffic may have now of the link, in bytes of payload; if it uses none yet, with what it begins.
    pub fn left(&self) -> PerDirection<Rate> {
        let now = self.began.elapsed();
        PerDirection::of(|direction| match &self.link {
            Some(link) => left(link.directions.get(direction), now),
            None => {
                let mut way = Capacity::new(now);
                way.believe(now, *self.said.0.get(direction));
                left(&way, now)
            }
        })
    }

    /// Takes somebody's word for how fast the link is, whichever it is.
    pub fn believe(&mut self, said: LinkSpeed) {
        if self.said == said {
            return;
        }
        self.said = said;
        let now = self.began.elapsed();
        if let Some(link) = &mut self.link {
            link.believe(now, said);
        }
    }
}

/// The link by which background traffic goes.
struct Link {
    /// As [`device_entry`] tells.
    device: u32,
    read: DeviceTraffic,
    /// What leaves another network namespace leaves the machine by these devices, most likely.
    uplinks: Vec<u32>,
    directions: PerDirection<Capacity>,
}

/// Whether these are the devices of another network namespace than this program's.
fn is_elsewhere(device: u32) -> bool {
    device >= MAX_DEVICES
}

/// How long this thread has run on a processor.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What background traffic may have now, in bytes of payload.
fn left(way: &Capacity, now: Duration) -> Rate {
    let left = way.left(now).bytes_per_second() as f64;
    Rate::from_bytes_per_second((left * PAYLOAD) as u64)
}

impl Link {
    fn new(device: u32, read: DeviceTraffic, now: Duration) -> Self {
        let way = || Capacity::new(now);
        Self {
            device,
            read,
            uplinks: Vec::new(),
            directions: PerDirection {
                download: way(),
                upload: way(),
            },
        }
    }

    fn believe(&mut self, now: Duration, said: LinkSpeed) {
        for direction in Direction::BOTH {
            let way = self.directions.get_mut(direction);
            way.believe(now, *said.0.get(direction));
        }
    }

    /// Takes note of what passed since the last time.
    fn look(
        &mut self,
        now: Duration,
        read: DeviceTraffic,
        held: PerDirection<bool>,
        own_losses: PerDirection<bool>,
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
                way.round_trip(now, trip.flow, trip_took);
            }
            // What is sent may wait in a queue still.
            let carried = match direction {
                Direction::Download => background,
                Direction::Upload => (passed.acknowledged as f64 / PAYLOAD) as u64,
            };
            way.look(
                now,
                Traffic {
                    background: carried,
                    others,
                    congested: match own_losses.get(direction) {
                        true => 0,
                        false => *passed.congested.get(direction) as u32,
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
        let mut enforced = PerDirection::<u64>::default();
        let worked = thread_time();
        let tended = self.background.tended.replace((now, worked));
        let (last, had_worked) = tended.unwrap_or((now, worked));
        let elapsed = now.saturating_sub(last);
        if elapsed.saturating_sub(worked.saturating_sub(had_worked)) > TEND + LATE {
            self.background.stood_still = now + ON_ITS_WAY;
        }
        for cell in self.cells.background_mut() {
            cell.read_use(&self.kernel.limits, elapsed)?;
            // Who has the rate that was asked for would not have more of a faster link.
            let is_content = cell.ceiling.is_some_and(|ceiling| cell.rate() >= ceiling);
            *held.get_mut(cell.direction) |= cell.is_held() && !is_content;
            let did = cell.enforced;
            *enforced.get_mut(cell.direction) += did.dropped_packets + did.marked_packets;
        }
        let is_measured = now > self.background.stood_still;
        let Background {
            link: Some(link),
            own_losses,
            ..
        } = &mut self.background
        else {
            return Ok(());
        };
        let mut read = self.kernel.devices.traffic(link.device)?;
        if is_elsewhere(link.device) {
            let uplinks = self.uplinks.indexes();
            for uplink in &uplinks {
                if let Ok(seen) = self.kernel.devices.read(*uplink) {
                    read.see(seen);
                }
            }
            if link.uplinks != uplinks {
                (link.uplinks, link.read) = (uplinks, read);
            }
        }
        let by_it: Vec<RoundTrip> = (round_trips.into_iter())
            .filter(|trip| is_measured && trip.device == link.device)
            .collect();
        let own_losses = own_losses.are_recent(now, enforced);
        link.look(now, read, held, own_losses, &by_it);
        let left = PerDirection::of(|direction| left(link.directions.get(direction), now));
        for direction in Direction::BOTH {
            self.give_to_background(direction, *left.get(direction))?;
        }
        let cells = &self.cells;
        self.rules.set_background(|active| {
            let cell = |direction| cells.shared(active.id, direction);
            Limits::of(|direction| cell(direction).map(LimitCell::rate))
        });
        self.tell_if_blind(now, held);
        self.trace_background(now, held);
        Ok(())
    }

    /// Lets the rules about background traffic have this, together.
    fn give_to_background(&mut self, direction: Direction, left: Rate) -> anyhow::Result<()> {
        let in_common = self.rules.without_ceiling(direction);
        let of_it = |cell: &&mut LimitCell| cell.direction == direction;
        let cells = self.cells.background_mut().filter(of_it);
        let parts: Vec<Part> = cells
            .map(|cell| cell.part(if cell.ceiling.is_some() { 1 } else { in_common }))
            .collect();
        let shares = share(left.bytes_per_second() as f64, &parts);
        let cells = self.cells.background_mut().filter(of_it);
        for (cell, new) in cells.zip(shares) {
            let old = cell.rate().bytes_per_second() as f64;
            if (new - old).abs() > old * SAME {
                let new = Rate::from_bytes_per_second(new as u64);
                cell.set_rate(&mut self.kernel.limits, new)?;
            }
        }
        Ok(())
    }

    /// Where nothing answers with a timestamp it is not known how fast the link is.
    fn tell_if_blind(&mut self, now: Duration, held: PerDirection<bool>) {
        let Some(link) = &self.background.link else {
            return;
        };
        let blind = |direction: &Direction| {
            let way = link.directions.get(*direction);
            *held.get(*direction) && way.base().is_none()
        };
        let Some(direction) = Direction::BOTH.into_iter().find(blind) else {
            self.background.blind_since = None;
            return;
        };
        let since = *self.background.blind_since.get_or_insert(now);
        if now >= since + BLIND && !std::mem::replace(&mut self.background.said_blind, true) {
            let known = match self.background.said.0.get(direction) {
                Some(said) => format!(
                    "what others behind the link do is not seen: it has what this machine leaves of {said}, as was said"
                ),
                None => format!(
                    "it is not known how fast the link is: it keeps to {} each way; if you know, say so by --link or in \
                     the rules file",
                    Capacity::FIRST
                ),
            };
            self.notices.warn(format!(
                "background traffic measures no round trips (UDP, or TCP without timestamps), so {known}"
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
                "background {direction} at {:.3} s: {:?}, held {}",
                now.as_secs_f64(),
                way.state(now),
                held.get(direction)
            );
        }
    }

    /// By which devices background traffic ever went, by its processes' own counters.
    fn devices_of_background(&self) -> anyhow::Result<BTreeSet<u32>> {
        let is_background = |id: LimitId| {
            let active = self.rules.get(id);
            active.is_some_and(|active| active.rule.is_background())
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
    fn find_link(&mut self, now: Duration, round_trips: &[RoundTrip]) -> anyhow::Result<()> {
        let looked = self.background.looked_for_devices;
        let is_due = looked.is_none_or(|looked| looked.elapsed() >= DEVICES_AGAIN);
        if !is_due {
            return Ok(());
        }
        self.background.looked_for_devices = Some(Instant::now());
        let mut devices = self.devices_of_background()?;
        devices.extend(round_trips.iter().map(|trip| trip.device));
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
            let mut link = Link::new(device, read, now);
            link.believe(now, self.background.said);
            self.background.link = Some(link);
        }
        Ok(())
    }
}
