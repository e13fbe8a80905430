//! How fast a link is, in one direction: found by letting background traffic use a little more of it until packets
//! wait, and a little less as soon as they do.
//!
//! There is one of these for each device and direction, whatever the number of flows. It says how much all traffic
//! of this machine may be together for the background to have the rest; what others on this machine do is taken off
//! before, packet by packet, so they need no sign. Of what other machines do, the queue tells: where it grows though
//! this machine sends less, somebody else is there, and the background yields to a trickle.
//!
//! While no packets wait the capacity grows along CUBIC's curve (RFC 9438, section 4.2): quickly where it is far
//! below the speed found last, hardly near it, quickly again beyond it, where the link may have become faster.

use std::time::Duration;

use super::{
    curve,
    delay::{Delays, FlowId},
    history::History,
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

/// ... or so many bytes: of a packet that is being sent the next one waits for the end.
const TARGET_BYTES: f64 = 1514.0;

/// A queue is to have gone after so long.
const DRAIN: Duration = Duration::from_millis(300);

/// The least and the most that a queue costs of the capacity.
const LEAST_CUT: f64 = 0.08;
const MOST_CUT: f64 = 0.5;

/// What packets that were lost or marked cost.
const MARKED_CUT: f64 = 0.15;

/// Where so much of what passes is this machine's other traffic, a queue is that traffic's own.
const OWN_PART: f64 = 0.25;

/// The capacity is looked at so often, or each round trip if that is longer.
const PERIOD: Duration = Duration::from_millis(100);
const LONGEST_PERIOD: Duration = Duration::from_millis(600);

/// Fewer round trips are too few to decide by, as long as a decision can wait.
const ENOUGH: usize = 3;

/// How many periods a queue may outlast what was done about it before the background yields.
const PATIENCE: u32 = 3;

/// And what each of them costs.
const AGAIN_CUT: f64 = 0.3;

/// Beyond so many times the speed found last, it becomes so much more each period.
const FAR: f64 = 1.3;
const FASTER: f64 = 1.2;

/// While it yields, the queue must have been short for so long before it is believed that the others have gone.
const CLEAR: Duration = Duration::from_millis(500);

/// While it yields, it is tried each so long whether the queue is one...
const TRIAL_AFTER: Duration = Duration::from_millis(1200);
const TRIAL_AFTER_AT_MOST: Duration = Duration::from_secs(5);

/// ... with this part of the capacity, for so long or two round trips.
const TRIAL_PART: f64 = 0.1;
const TRIAL_PART_AT_LEAST: f64 = TRIAL_PART / 8.0;

/// A way that has become longer is longer by the same, to within this or that part of it.
const STEADY: Duration = Duration::from_millis(4);
const STEADY_PART: f64 = 0.1;

/// After each trial that finds somebody else there, so much is left of the speed found last.
const FORGETTING: f64 = 0.8;
const TRIAL: Duration = Duration::from_millis(250);

/// The link carries less than this part of what it did: it has become slower, or it is shared by a queue that serves
/// each flow in turn, where nothing waits for the others...
const SHARED: f64 = 0.75;

/// ... so for some time the background keeps to this part of it, in the mean less than a fifth, or to that part of
/// what is left...
const POLITE_PART: f64 = 0.12;
const POLITE_PART_OF_REST: f64 = 0.3;
const POLITE: Duration = Duration::from_millis(4500);

/// ... and looks what there is by this much more than it was.
const LOOK_FURTHER: f64 = 1.15;

/// What the link carried once is believed to be what it can carry, for so long.
const BEST_HOLDS: Duration = Duration::from_secs(60);

/// What passed since the last look: what arrived, or was acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Bytes of background traffic.
    pub background: u64,
    /// Bytes of all else on this machine.
    pub others: u64,
    /// Packets that were lost, or marked by a queue (ECN).
    pub marked: u32,
    /// Whether the background had more than it was let.
    pub held: bool,
}

/// Why the background has what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is being found out how fast the link is.
    Seeking,
    /// It has what others of this machine leave.
    Shares,
    /// A queue has built up, and is being waited out.
    Drains,
    /// The queue stays: somebody else is there.
    Yields,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Twice as much each period until packets wait.
    Begin,
    /// Along the curve, from that time on.
    Curve { since: Duration },
    /// Less, until nothing waits any more.
    Drain(Drain),
    /// A trickle, since then. The queue is short since `clear`, if it is.
    Yield {
        since: Duration,
        clear: Option<Duration>,
        range: Range,
    },
    /// A small part, since then: somebody may have the rest, in a queue of his own.
    Polite { since: Duration },
    /// Somewhat more than a trickle, since then; the queue was `before`.
    Try {
        since: Duration,
        before: Duration,
        range: Range,
    },
}

/// Between which lengths a queue was.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range {
    shortest: Duration,
    longest: Duration,
}

impl Range {
    const NONE: Self = Self {
        shortest: Duration::MAX,
        longest: Duration::ZERO,
    };

    fn with(self, queue: Duration) -> Self {
        Self {
            shortest: self.shortest.min(queue),
            longest: self.longest.max(queue),
        }
    }

    /// A longer way is always the same, and a queue is not, even if it is full.
    fn is_steady(self) -> bool {
        self.longest.saturating_sub(self.shortest) <= STEADY.max(self.longest.mul_f64(STEADY_PART))
    }
}

/// A queue that is waited out.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Drain {
    /// Since when, and how long it was then.
    since: Duration,
    from: Duration,
    /// How often something was done about it.
    times: u32,
    /// What the link carried when it began.
    carried: f64,
    /// Whether it was the queue that told, not a loss alone.
    waited: bool,
}

/// What a decision is made of.
#[derive(Clone, Copy, Debug)]
struct Seen {
    now: Duration,
    period: Duration,
    /// As it was heard of last.
    queue: Duration,
    /// Whether that was in this period. While nothing is heard nothing is known, and nothing becomes more.
    heard: bool,
    /// Whether the queue is longer than it is to be.
    waits: bool,
    /// Whether packets were lost or marked.
    marked: bool,
}

impl Seen {
    fn is_signal(self) -> bool {
        self.waits || self.marked
    }
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
    /// The most that it carried, and when.
    best: (f64, Duration),
    /// The round trip, with what waits.
    round_trip: Duration,
    /// What passed lately.
    passed: History,
    /// When it was decided last.
    decided: Duration,
    /// Packets lost or marked since then.
    marked: u32,
    /// Whether the background was held since then.
    held: bool,
    /// The queue then.
    queue: Duration,
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
            best: (0.0, now),
            round_trip: PERIOD,
            passed: History::new(2 * LONGEST_PERIOD),
            decided: now,
            marked: 0,
            held: false,
            queue: Duration::ZERO,
            trial_after: TRIAL_AFTER,
            trial_part: TRIAL_PART,
        }
    }

    /// A flow's round trip, from when a packet left this machine until its answer came.
    pub fn round_trip(&mut self, now: Duration, flow: FlowId, round_trip: Duration) {
        self.delays.add(now, flow, round_trip);
        self.round_trip = (self.round_trip * 7 + round_trip) / 8;
    }

    /// What passed until now. To be called some ten times a second or more.
    pub fn look(&mut self, now: Duration, traffic: Traffic) {
        self.passed.add(now, traffic.background, traffic.others);
        self.marked += traffic.marked;
        self.held |= traffic.held;
        let period = self.period();
        if now < self.decided + period {
            return;
        }
        // Of a trickle little is heard, and one round trip may be long because its sender waited for a timer.
        let few = self.delays.count(now.saturating_sub(period)) < ENOUGH;
        if few && now < self.decided + LONGEST_PERIOD {
            return;
        }
        let period = now.saturating_sub(self.decided);
        let heard = self.delays.queueing(now.saturating_sub(period));
        self.queue = heard.unwrap_or(self.queue);
        self.decide(now, period, heard);
        self.decided = now;
        self.marked = 0;
        self.held = false;
        self.delays.forget(now);
    }

    /// What all traffic of this machine may be for the background to have the rest.
    pub fn capacity(&self) -> Rate {
        Rate::from_bytes_per_second(self.capacity as u64)
    }

    /// What the background has in any case.
    pub fn trickle(&self) -> Rate {
        Rate::from_bytes_per_second(self.least() as u64)
    }

    /// How long packets wait.
    pub fn queue(&self) -> Duration {
        self.queue
    }

    /// The round trip without what waits.
    pub fn base(&self) -> Option<Duration> {
        self.delays.base()
    }

    /// Why it is what it is.
    pub fn why(&self) -> Why {
        match self.phase {
            Phase::Begin => Why::Seeking,
            Phase::Curve { .. } => Why::Shares,
            Phase::Drain(_) => Why::Drains,
            Phase::Yield { .. } | Phase::Try { .. } | Phase::Polite { .. } => Why::Yields,
        }
    }

    fn period(&self) -> Duration {
        self.round_trip.clamp(PERIOD, LONGEST_PERIOD)
    }

    fn least(&self) -> f64 {
        let [part, most] = TRICKLE_PART.map(|part| part * self.knee);
        let for_flows = self.delays.flows() as f64 * TRICKLE_BYTES / TRICKLE_TIME;
        for_flows.min(most).max(part).max(TRICKLE)
    }

    /// A longer queue is too long.
    fn target(&self) -> Duration {
        TARGET.max(Duration::from_secs_f64(
            TARGET_BYTES / self.capacity.max(self.knee).max(TRICKLE),
        ))
    }

    fn decide(&mut self, now: Duration, period: Duration, heard: Option<Duration>) {
        let seen = Seen {
            now,
            period,
            queue: self.queue,
            heard: heard.is_some(),
            waits: heard.is_some_and(|queue| queue > self.target()),
            marked: self.marked > 0,
        };
        log::trace!("{:?} {seen:?} knee {:.0}", self.phase, self.knee);
        // What they left in the queue outlasts them by as long as it is.
        let lately = (period + seen.queue).min(2 * LONGEST_PERIOD);
        if seen.waits && self.knee > 0.0 && self.passed.others(now, lately) > OWN_PART * self.knee {
            // They have what they take, and the background the rest, until they end.
            self.capacity = (self.knee * (1.0 - self.cut_for(seen.queue))).max(self.least());
            self.resume(now);
            return;
        }
        match self.phase {
            Phase::Begin => self.begin(seen),
            Phase::Curve { since } => self.follow_curve(seen, since),
            Phase::Drain(drain) => self.drain(seen, drain),
            Phase::Polite { since } => self.be_polite(seen, since),
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

    fn begin(&mut self, seen: Seen) {
        if seen.is_signal() {
            self.knee = self.carried(seen);
            self.cut(seen, self.knee);
        } else if self.held && seen.heard {
            self.capacity *= 2.0;
        }
    }

    fn follow_curve(&mut self, seen: Seen, since: Duration) {
        if seen.is_signal() {
            let carried = match self.held {
                true => self.carried(seen),
                false => self.knee,
            };
            self.cut(seen, carried);
        } else if self.held && seen.heard {
            // Far beyond what it was, the curve would be too slow.
            let faster = match self.capacity > FAR * self.knee {
                true => self.capacity * FASTER,
                false => self.knee * curve::part_after(seen.now.saturating_sub(since)),
            };
            self.capacity = faster.max(self.least());
        } else {
            // Nobody knows what would have waited.
            self.phase = Phase::Curve {
                since: since + seen.period,
            };
        }
    }

    fn drain(&mut self, seen: Seen, drain: Drain) {
        let passed = seen.now.saturating_sub(drain.since + self.round_trip);
        if passed < seen.period || !seen.heard {
            // What was done is felt only after a round trip.
        } else if !seen.waits {
            self.drained(seen, drain);
        } else if drain.times >= PATIENCE {
            self.trial_after = TRIAL_AFTER;
            self.trial_part = TRIAL_PART;
            self.yield_to_others(seen.now);
        } else {
            self.drain_more(seen, drain, passed);
        }
    }

    /// Something waits still. It takes its time to drain; if it does not, there must be less.
    fn drain_more(&mut self, seen: Seen, drain: Drain, passed: Duration) {
        let spare = (1.0 - self.capacity / drain.carried).max(LEAST_CUT / 2.0);
        let gone = passed.mul_f64(spare / 3.0);
        let for_queue = drain.carried * (1.0 - self.cut_for(seen.queue));
        let times = if for_queue < self.capacity && seen.queue > drain.from {
            // More was on its way than had come.
            self.capacity = for_queue.max(self.least());
            drain.times
        } else if seen.queue + gone > drain.from {
            self.capacity = (self.capacity * (1.0 - AGAIN_CUT)).max(self.least());
            drain.times + 1
        } else {
            return;
        };
        self.phase = Phase::Drain(Drain {
            since: seen.now,
            from: seen.queue,
            times,
            waited: true,
            ..drain
        });
    }

    /// Nothing waits any more: the link carries what it did when packets began to wait.
    fn drained(
        &mut self,
        seen: Seen,
        Drain {
            carried, waited, ..
        }: Drain,
    ) {
        self.knee = carried;
        let (best, since) = self.best;
        let is_old = seen.now > since + BEST_HOLDS;
        if carried > best || is_old {
            self.best = (carried, seen.now);
        } else if waited && carried <= best * SHARED {
            let part = (best * POLITE_PART).min(carried * POLITE_PART_OF_REST);
            self.capacity = part.max(self.least());
            self.phase = Phase::Polite { since: seen.now };
            return;
        }
        self.resume(seen.now);
    }

    fn be_polite(&mut self, seen: Seen, since: Duration) {
        if seen.waits {
            // Even of this something waits: then it is somebody else's.
            self.cut(seen, self.knee);
        } else if seen.now >= since + POLITE {
            self.capacity = self.knee * LOOK_FURTHER;
            self.resume(seen.now);
        }
    }

    fn wait_for_others(
        &mut self,
        seen: Seen,
        since: Duration,
        clear: Option<Duration>,
        range: Range,
    ) {
        // What was there before the trickle is on its way for a round trip.
        let is_its_own = seen.now < since + seen.period + self.round_trip;
        let range = match seen.heard && !is_its_own {
            true => range.with(seen.queue),
            false => range,
        };
        let clear = match seen.is_signal() {
            true => None,
            false => clear.or(seen.heard.then_some(seen.now)),
        };
        self.phase = Phase::Yield {
            since,
            clear,
            range,
        };
        if clear.is_some_and(|clear| seen.now >= clear + CLEAR) {
            self.resume(seen.now);
        } else if clear.is_none() && seen.now >= since + self.trial_after {
            self.capacity = (self.knee * self.trial_part).max(2.0 * self.least());
            self.phase = Phase::Try {
                since: seen.now,
                before: seen.queue,
                range,
            };
        }
    }

    fn try_out(&mut self, seen: Seen, since: Duration, before: Duration, range: Range) {
        let passed = seen.now.saturating_sub(since);
        if passed < TRIAL.max(2 * self.round_trip) || !seen.heard {
            return;
        }
        // Of a queue, more makes more; and whoever else fills it moves by himself.
        let moved = seen.queue.abs_diff(before);
        let is_moved = moved > passed.mul_f64(self.trial_part / 4.0);
        if is_moved || !range.is_steady() || seen.marked {
            self.trial_after = (self.trial_after * 3 / 2).min(TRIAL_AFTER_AT_MOST);
            // Of a link that has become much slower, it may have been too much; a trickle, too.
            self.trial_part = (self.trial_part / 2.0).max(TRIAL_PART_AT_LEAST);
            self.knee = (self.knee * FORGETTING).max(TRICKLE);
            self.yield_to_others(seen.now);
        } else {
            // More made nothing wait longer: it is the way that is longer.
            self.delays.rebase(seen.now, since);
            self.resume(seen.now);
        }
    }

    /// Packets wait: less, until they do no more.
    fn cut(&mut self, seen: Seen, carried: f64) {
        let had = carried.min(self.capacity);
        self.capacity = (had * (1.0 - self.cut_for(seen.queue))).max(self.least());
        self.phase = Phase::Drain(Drain {
            since: seen.now,
            from: seen.queue,
            times: 1,
            carried,
            waited: seen.waits,
        });
    }

    fn cut_for(&self, queue: Duration) -> f64 {
        let for_queue = queue.as_secs_f64() / DRAIN.as_secs_f64();
        let for_marks = if self.marked > 0 { MARKED_CUT } else { 0.0 };
        for_queue.max(for_marks).clamp(LEAST_CUT, MOST_CUT)
    }

    fn yield_to_others(&mut self, now: Duration) {
        self.capacity = self.least();
        self.phase = Phase::Yield {
            since: now,
            clear: None,
            range: Range::NONE,
        };
    }

    /// What the link carries now.
    fn carried(&self, seen: Seen) -> f64 {
        self.passed.all(seen.now, seen.period).max(TRICKLE)
    }

    /// Along the curve, from what it is now.
    fn resume(&mut self, now: Duration) {
        let begun = curve::time_of(self.capacity / self.knee.max(1.0));
        self.phase = Phase::Curve {
            since: now.saturating_sub(begun),
        };
    }
}
