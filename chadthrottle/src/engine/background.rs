//! Background traffic: it has what others leave of the link, and how much that is, is found out here some fifty times a
//! second while there is any.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chadthrottle_common::{round_trip::RoundTrip, traffic::Direction};

use super::{
    Engine,
    cells::LimitCell,
    importance::Claim,
    link::{HEARD, Link, Rest, is_elsewhere, left},
    uplinks::Uplinks,
};
use crate::{
    kernel::UNHELD_RATE,
    model::{
        self,
        direction::{Limits, PerDirection},
        link::LinkSpeed,
    },
    priority::{
        capacity::Capacity,
        sharing::{Part, Tier, share},
    },
    rate::Rate,
};

/// The time between two looks at background traffic while there is any: how soon it yields to others.
pub(super) const TEND: Duration = Duration::from_millis(20);

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
    pub(super) link: Option<Link>,
    pub(super) looked_for_devices: Option<Instant>,
    /// Since when there is more than is let, and no round trip was ever heard of.
    blind_since: Option<Duration>,
    /// Said once: nothing is known of the link.
    said_blind: bool,
    /// What background traffic had moved by each device when that was looked at last.
    pub(super) moved: HashMap<u32, u64>,
    /// What somebody said of the link.
    pub(super) said: LinkSpeed,
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
            Some(link) => left(link.directions.get(direction)),
            None => {
                let mut way = Capacity::new(now);
                way.believe(now, *self.said.0.get(direction));
                left(&way)
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

/// How long this thread has run on a processor.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl Engine {
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
        let claims = self.look_at_importance(now)?;
        let mut held = PerDirection::default();
        let mut enforced = PerDirection::<u64>::default();
        let worked = thread_time();
        let tended = self.background.tended.replace((now, worked));
        let (last, had_worked) = tended.unwrap_or((now, worked));
        let elapsed = now.saturating_sub(last);
        if elapsed.saturating_sub(worked.saturating_sub(had_worked)) > TEND + LATE {
            self.background.stood_still = now + ON_ITS_WAY;
        }
        for cell in self.cells.adaptive_mut() {
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
        let rest = PerDirection::of(|direction| {
            let (way, rest) = (
                link.directions.get_mut(direction),
                link.rest.get_mut(direction),
            );
            *rest = match *rest {
                _ if *claims.get(direction) == Claim::Nothing => Rest::Unheld,
                Rest::Held if way.hears() => Rest::Held,
                _ if way.hears() && way.has_history(now) => {
                    way.begin_to_hold(now);
                    Rest::Held
                }
                _ => Rest::Heard,
            };
            *rest
        });
        link.look(now, read, held, own_losses, claims, &by_it);
        let ways = &link.directions;
        let left = PerDirection::of(|direction| left(ways.get(direction)));
        for direction in Direction::BOTH {
            self.share_link(direction, *left.get(direction), *rest.get(direction))?;
        }
        let cells = &self.cells;
        let present = |id| {
            let cell = |direction| cells.shared(id, direction).map(LimitCell::rate);
            Limits::of(|direction| cell(direction).filter(|rate| *rate < HEARD))
        };
        self.rules.set_background(|active| present(active.id));
        if let Some(rest) = self.rules.everybody_else() {
            let present = present(rest.id);
            self.rules.hold_everybody_else(present);
        }
        self.tell_if_blind(now, held);
        self.trace_background(now, held);
        Ok(())
    }

    /// Lets all that shares the link have this, together.
    fn share_link(&mut self, direction: Direction, left: Rate, rest: Rest) -> anyhow::Result<()> {
        let in_common = self.rules.without_ceiling(direction);
        let unheld = match rest {
            Rest::Held => None,
            Rest::Heard => Some(HEARD),
            Rest::Unheld => Some(UNHELD_RATE),
        };
        let rules = &self.rules;
        let mut sharing = Vec::new();
        let mut parts: Vec<Part> = Vec::new();
        let of_it = |cell: &&mut LimitCell| cell.direction == direction;
        for cell in self.cells.adaptive_mut().filter(of_it) {
            parts.push(match (rules.is_rest(cell.limit), unheld, cell.ceiling) {
                (true, Some(rate), _) => {
                    cell.set_rate(&mut self.kernel.limits, rate)?;
                    continue;
                }
                (true, None, _) => cell.part(Tier::Normal, 1),
                (false, _, Some(_)) => cell.part(Tier::Background, 1),
                (false, _, None) => cell.part(Tier::Background, in_common),
            });
            sharing.push(cell);
        }
        let shares = share(left.bytes_per_second() as f64, &parts);
        for (cell, new) in sharing.into_iter().zip(shares) {
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
        let unheld = |direction: &Direction| {
            *link.rest.get(*direction) == Rest::Heard
                && link.directions.get(*direction).carries(now)
        };
        let rest = Direction::BOTH.into_iter().find(unheld);
        let Some(direction) = rest.or_else(|| Direction::BOTH.into_iter().find(blind)) else {
            self.background.blind_since = None;
            return;
        };
        let since = *self.background.blind_since.get_or_insert(now);
        if now < since + BLIND || std::mem::replace(&mut self.background.said_blind, true) {
            return;
        }
        const IF_KNOWN: &str = "if you know, say so by --link or in the rules file";
        let known = match self.background.said.0.get(direction) {
            _ if rest.is_some() => format!(
                "it is not held for what is important: it is not known how fast the link is; {IF_KNOWN}"
            ),
            Some(said) => format!(
                "what others behind the link do is not seen: it has what this machine leaves of {said}, as was said"
            ),
            None => format!(
                "it is not known how fast the link is: it keeps to {} each way; {IF_KNOWN}",
                Capacity::FIRST
            ),
        };
        let whose = match rest {
            Some(_) => "everybody else's",
            None => "background",
        };
        self.notices.warn(format!(
            "{whose} traffic measures no round trips (UDP, or TCP without timestamps), so {known}"
        ));
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
}
