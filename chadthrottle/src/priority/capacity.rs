//! How fast a link is, in one direction: found by letting background traffic use a little more of it until packets
//! wait, and a little less as soon as they do.
//!
//! There is one of these for each device and direction, whatever the number of flows. It knows how much all traffic
//! of this machine may be together for the background to have the rest; what others on this machine do is taken off,
//! so they need no sign. Where they fill the queue themselves they want more than they have, and the background has a
//! trickle until it is empty. Of what other machines do, the queue tells: where it stays though this machine sends
//! less, somebody else is there, and the background yields to a trickle, too.
//!
//! While no packets wait the capacity grows along CUBIC's curve (RFC 9438, section 4.2): quickly where it is far
//! below the speed found last, hardly near it, quickly again beyond it, where the link may have become faster.

mod draining;
mod growing;
mod others;
mod phase;
mod plain;
mod telling;
mod yielding;

use std::time::Duration;

use others::Room;
use phase::{Phase, Range, Seen};
use plain::Plain;
use yielding::{POLITE, TRIAL_AFTER, TRIAL_PART};

use super::{
    delay::{Delays, FlowId},
    guarantee::Kept,
    history::{Bytes, History},
};
use crate::rate::Rate;

/// Even while it yields, the background has so much: bytes a second, some packets each round trip. Without them it
/// would not know when it need not yield any more.
const TRICKLE: f64 = 8_000.0;

/// And this part of what the link carries, or up to that part if there are many flows...
const TRICKLE_PART: [f64; 2] = [0.01, 0.03];

/// ... each of which has two segments on its way that are to arrive in this time: what is held for longer comes too
/// late when the others have gone.
const TRICKLE_BYTES: f64 = 2.0 * 1448.0;
const TRICKLE_TIME: f64 = 0.6;

/// A queue is aimed at that is no longer than this...
const TARGET: Duration = Duration::from_millis(4);

/// ... or a packet: of one that is being sent the next one waits for the end.
const PACKET: f64 = 1514.0;

/// A shorter one may be one moment's, in which answers are late: it counts if there is one again within this time, and until
/// then there is somewhat less.
const CERTAIN: Duration = Duration::from_millis(20);
const AGAIN: Duration = Duration::from_millis(500);
const AGAIN_PERIODS: u32 = 4;

/// What a queue costs of the capacity at the least.
const LEAST_CUT: f64 = 0.08;

/// After each trial that finds somebody else there, and each time that the link does not carry what it did, so much is
/// left of the speed found last.
const FORGETTING: f64 = 0.8;

/// Where so much of what passes is this machine's other traffic, a queue is that traffic's own.
const OWN_PART: f64 = 0.25;

/// The capacity is looked at so often, or each round trip if that is longer.
const PERIOD: Duration = Duration::from_millis(100);
const LONGEST_PERIOD: Duration = Duration::from_millis(600);

/// So long after much more is let than before, senders send more than they should.
const SETTLING: Duration = Duration::from_secs(1);

/// This part of the packets, and so many, are to be lost for a sign.
const LOSSES_PART: f64 = 0.02;
const FEW_LOSSES: u32 = 2;

/// So much of what a link is said to carry is used, so that nothing waits.
const BELIEVED: f64 = 0.97;

/// While a queue is as long as this, the link has something to carry all the time.
const FILLED: Duration = Duration::from_millis(20);

/// What passed is known for so long.
const HISTORY: Duration = Duration::from_millis(1200);

/// Fewer round trips of a trickle are too few to decide by, as long as a decision can wait.
const ENOUGH: usize = 3;

/// Normal traffic is held for what is important on this machine, and for nobody else: it keeps so much of the link.
const FIRM_PART: f64 = 0.05;

/// When it begins to be held it has so much until it is heard how long packets wait: as long as the queue is, and not
/// longer than this. What answers with no timestamps is not held.
const LISTENING_PART: f64 = 0.3;
const LISTENING: Duration = Duration::from_millis(1500);

/// So many times the speed found last is far beyond it.
const FAR: f64 = 1.3;

/// What passed since the last look: what arrived, or was acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Of the background, and of all else on this machine.
    pub bytes: Bytes,
    /// What is kept for those who are guaranteed a part, if normal traffic is held for that.
    pub kept: Kept,
    /// Packets that were lost, or marked by a queue (ECN).
    pub congested: u32,
    /// Whether the background had more than it was let.
    pub held: bool,
    /// Whether normal traffic is held besides, as some of the others is more important.
    pub firm: bool,
}

/// One direction of a link.
#[derive(Clone, Debug)]
pub struct Capacity {
    delays: Delays,
    phase: Phase,
    /// In bytes a second.
    capacity: f64,
    /// What the link carried when packets began to wait, the last time.
    knee: f64,
    /// Whether that was had again since.
    proven: bool,
    /// Until then a queue may be due to senders who had to hold back and now have not.
    settles: Duration,
    /// The same before it yielded, and whether to others of this machine.
    remembered: f64,
    yielded_to_own: bool,
    /// About the most that it carried, and when: half way there each time that it was more, as one figure may be too high.
    best: (f64, Duration),
    /// When it seemed last that somebody with a queue of his own shares it.
    doubted: Option<Duration>,
    /// For how long it is polite the next time.
    polite_for: Duration,
    /// What somebody said that it carries.
    said: Option<f64>,
    /// The round trip, with what waits.
    round_trip: Duration,
    /// What passed lately, and what is left to others by that.
    passed: History,
    room: Room,
    /// The base that was believed to be a longer way's.
    rebased: Option<Duration>,
    /// When it was decided last.
    decided: Duration,
    /// Packets lost or marked since then.
    congested: u32,
    /// Whether some were while the link was sought.
    begun_congested: bool,
    /// Whether the background was held since then.
    held: bool,
    /// See [`Traffic::firm`].
    firm: bool,
    /// See [`Traffic::kept`].
    kept: f64,
    /// How much of it they lacked since it was decided, at the most.
    lacked: f64,
    /// Whether nothing was to be heard.
    is_deaf: bool,
    /// The queue then.
    queue: Duration,
    /// Whether that is one queue for all.
    plain: Plain,
    /// When it was too long, and what the capacity was before if that may be chance.
    waited: Option<Duration>,
    doubtful: Option<f64>,
    /// After how long it is tried again, and with which part of the capacity.
    trial_after: Duration,
    trial_part: f64,
}

impl Capacity {
    /// What a link is taken for at first: that of a poor telephone line.
    pub const FIRST: Rate = Rate::from_bytes_per_second(32_000);

    /// Nothing is known yet.
    pub fn new(now: Duration) -> Self {
        Self {
            delays: Delays::new(2 * TRIAL_AFTER),
            phase: Phase::Begin,
            capacity: Self::FIRST.bytes_per_second() as f64,
            knee: 0.0,
            proven: false,
            settles: now + SETTLING,
            remembered: 0.0,
            yielded_to_own: false,
            best: (0.0, now),
            doubted: None,
            polite_for: POLITE,
            said: None,
            round_trip: PERIOD,
            passed: History::new(HISTORY),
            room: Room::new(now),
            rebased: None,
            decided: now,
            congested: 0,
            begun_congested: false,
            held: false,
            firm: false,
            kept: 0.0,
            lacked: 0.0,
            is_deaf: false,
            queue: Duration::ZERO,
            plain: Plain::default(),
            waited: None,
            doubtful: None,
            trial_after: TRIAL_AFTER,
            trial_part: TRIAL_PART,
        }
    }

    /// Takes somebody's word for how fast it is: that is where it begins, and it never lets more pass. Where the word is
    /// wrong, what is measured counts; where nothing is, the word does.
    pub fn believe(&mut self, now: Duration, said: Option<Rate>) {
        self.said = said.map(|said| said.bytes_per_second() as f64 * BELIEVED);
        let Some(said) = self.said else { return };
        self.knee = said;
        self.capacity = said;
        self.proven = true;
        self.best = (said, now);
        self.resume(now);
    }

    /// Normal traffic is held from now on, which had what it wanted: with a part of what the link carries, or of what passes
    /// if that was never found out, until it is heard how long packets wait.
    pub fn begin_to_hold(&mut self, now: Duration) {
        let passes = self.passed.all(now, HISTORY);
        self.knee = self
            .knee
            .max(passes)
            .max(Self::FIRST.bytes_per_second() as f64);
        self.capacity = self.knee * LISTENING_PART;
        self.phase = Phase::Listen { since: now };
    }

    /// Whether it can be told how long packets wait, as far as that was tried.
    pub fn hears(&self) -> bool {
        self.is_known() || !self.is_deaf
    }

    /// Whether others of this machine use it, lately.
    pub fn carries(&self, now: Duration) -> bool {
        self.passed.all(now, HISTORY) > TRICKLE
    }

    /// Whether enough passed to say what does.
    pub fn has_history(&self, now: Duration) -> bool {
        self.passed.is_since(now.saturating_sub(HISTORY))
    }

    /// A flow's round trip, from when a packet left this machine until its answer came, and the shortest one that TCP
    /// knows of.
    pub fn round_trip(
        &mut self,
        now: Duration,
        flow: FlowId,
        round_trip: Duration,
        shortest: Option<Duration>,
    ) {
        self.is_deaf = false;
        self.delays.add(now, flow, round_trip, shortest);
        self.round_trip = (self.round_trip * 7 + round_trip) / 8;
    }

    /// What passed until now. To be called some ten times a second or more.
    pub fn look(&mut self, now: Duration, traffic: Traffic) {
        self.passed.add(now, traffic.bytes);
        self.make_room(now);
        self.held |= traffic.held;
        self.firm = traffic.firm;
        self.kept = traffic.kept.rate;
        self.lacked = self.lacked.max(traffic.kept.lacks);
        // What is important waits for packets, not for their loss.
        if !self.firm {
            self.congested += traffic.congested;
        }
        let period = self.period();
        if now < self.decided + period {
            return;
        }
        let heard = self.delays.count(now.saturating_sub(period));
        if heard < self.enough() && now < self.decided + LONGEST_PERIOD {
            return;
        }
        let period = now.saturating_sub(self.decided);
        self.delays.correct(now);
        let heard = self.delays.queueing(now.saturating_sub(period));
        self.queue = heard.unwrap_or(self.queue);
        self.decide(now, period, heard);
        self.decided = now;
        self.congested = 0;
        self.lacked = 0.0;
        self.held = false;
        self.delays.forget(now);
    }

    /// What all traffic of this machine may be for the background to have the rest.
    #[cfg(test)]
    pub fn capacity(&self) -> Rate {
        Rate::from_bytes_per_second(self.capacity as u64)
    }

    /// What the background may have now: what others leave, and a trickle in any case.
    pub fn left(&self) -> Rate {
        if let Phase::GiveWay { .. } = self.phase {
            return Rate::from_bytes_per_second(self.least() as u64);
        }
        Rate::from_bytes_per_second(self.rest().max(self.least()) as u64)
    }

    /// The round trip without what waits; nothing before one was told of.
    pub fn base(&self) -> Option<Duration> {
        self.delays.base()
    }

    /// Whether anything is known of it, measured or said.
    pub fn is_known(&self) -> bool {
        self.said.is_some() || self.base().is_some()
    }

    /// Whether nothing is known but what somebody said.
    fn is_blind(&self) -> bool {
        self.said.is_some() && self.base().is_none()
    }

    /// So many packets that were lost or marked are a sign. Of several flows that have a small queue together one loses a
    /// packet now and then, though there is room in the mean.
    fn losses(&self, now: Duration, period: Duration) -> u32 {
        let packets = self.passed.all(now, period) * period.as_secs_f64() / PACKET;
        let least = match self.is_trickle() {
            true => 1,
            false => FEW_LOSSES,
        };
        least.max((packets * LOSSES_PART) as u32)
    }

    /// So many round trips are enough to decide by. Of a trickle, one may be long because its sender waited for a timer.
    fn enough(&self) -> usize {
        match self.phase {
            _ if self.is_trickle() => ENOUGH,
            Phase::Begin => 2,
            _ => 1,
        }
    }

    /// Whether the background has little, whatever there is.
    fn is_trickle(&self) -> bool {
        matches!(
            self.phase,
            Phase::GiveWay { .. } | Phase::Polite { .. } | Phase::Yield { .. } | Phase::Try { .. }
        )
    }

    fn period(&self) -> Duration {
        self.round_trip.clamp(PERIOD, LONGEST_PERIOD)
    }

    fn least(&self) -> f64 {
        let [part, most] = TRICKLE_PART.map(|part| part * self.knee);
        let for_flows = self.delays.flows() as f64 * TRICKLE_BYTES / TRICKLE_TIME;
        let firm = match self.firm {
            true => FIRM_PART * self.knee,
            false => 0.0,
        };
        for_flows.min(most).max(part).max(TRICKLE).max(firm)
    }

    /// A longer queue is too long.
    fn target(&self) -> Duration {
        TARGET.max(Duration::from_secs_f64(
            PACKET / self.capacity.max(self.knee).max(TRICKLE),
        ))
    }

    fn decide(&mut self, now: Duration, period: Duration, heard: Option<Duration>) {
        let waits = heard.is_some_and(|queue| queue > self.target());
        let waited = match waits {
            true => self.waited.replace(now),
            false => self.waited,
        };
        let is_again =
            waited.is_some_and(|waited| now <= waited + AGAIN.max(AGAIN_PERIODS * period));
        let seen = Seen {
            now,
            period,
            queue: self.queue,
            heard: heard.is_some(),
            waits,
            may_be_chance: !is_again && self.queue < CERTAIN,
            // Where nothing is measured the word counts.
            congested: self.lacked > 0.0
                || !self.is_blind() && self.congested >= self.losses(now, period),
        };
        log::trace!("{:?} {seen:?} knee {:.0}", self.phase, self.knee);
        if seen.heard {
            let is_lossless = self.congested == 0 && !self.firm;
            self.plain.look(seen, is_lossless, self.round_trip);
        }
        self.admit_error(now);
        if self.satisfies(seen) {
            self.keep_for_guaranteed(seen);
        } else {
            self.decide_by_phase(seen);
        }
        if let Some(said) = self.said {
            self.capacity = self.capacity.min(said);
            self.knee = self.knee.min(said);
        }
    }

    fn decide_by_phase(&mut self, seen: Seen) {
        let may_give_way = matches!(
            self.phase,
            Phase::Curve { .. } | Phase::Drain(_) | Phase::Polite { .. } | Phase::Look { .. }
        );
        if may_give_way && seen.waits && self.is_own(seen) {
            self.phase = Phase::GiveWay {
                since: seen.now,
                range: Range::NONE,
            };
        }
        match self.phase {
            Phase::Begin => self.begin(seen),
            Phase::GiveWay { since, range } => self.give_way(seen, since, range),
            Phase::Curve { since } => self.follow_curve(seen, since),
            Phase::Drain(drain) => self.drain(seen, drain),
            Phase::Insist { since } => self.insist(seen, since),
            Phase::Keep => self.end_keeping(seen),
            Phase::Listen { since } => self.listen(seen, since),
            Phase::Polite { since } => self.be_polite(seen, since),
            Phase::Look { since } => self.look_further(seen, since),
            Phase::Yield {
                since,
                clear,
                range,
            } => self.wait_for_others(seen, since, clear, range),
            Phase::Try {
                since,
                before,
                range,
            } => self.try_out(seen, since, before, range),
        }
    }

    /// What the link carries now. What comes at once after a pause is not more than was let.
    fn carried(&self, seen: Seen) -> f64 {
        let period = match self.firm {
            true => HISTORY,
            false => seen.period,
        };
        let passed = self.passed.all(seen.now, period);
        passed.min(self.capacity).max(TRICKLE)
    }
}
