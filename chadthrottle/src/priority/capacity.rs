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

use std::{collections::VecDeque, time::Duration};

use super::delay::{Delays, FlowId};
use crate::rate::Rate;

/// What a link is taken for at first: that of a poor telephone line.
const FIRST: f64 = 32_000.0;

/// Even while it yields, the background has so much: bytes a second, some packets each round trip. Without them it
/// would not know when it need not yield any more.
const TRICKLE: f64 = 8_000.0;

/// And this part of what the link carries.
const TRICKLE_PART: f64 = 0.01;

/// A queue is aimed at that is no longer than this...
const TARGET: Duration = Duration::from_millis(4);

/// ... or so many bytes: of a packet that is being sent the next one waits for the end.
const TARGET_BYTES: f64 = 1514.0;

/// A queue is to have gone after so long.
const DRAIN: Duration = Duration::from_millis(300);

/// The least and the most that a queue costs of the capacity.
const LEAST_CUT: f64 = 0.04;
const MOST_CUT: f64 = 0.5;

/// What packets that were lost or marked cost.
const MARKED_CUT: f64 = 0.15;

/// Where so much of what passes is this machine's other traffic, a queue is that traffic's own.
const OWN_PART: f64 = 0.25;

/// The capacity is looked at so often, or each round trip if that is longer.
const PERIOD: Duration = Duration::from_millis(100);
const LONGEST_PERIOD: Duration = Duration::from_millis(600);

/// How many periods a queue may outlast what was done about it before the background yields.
const PATIENCE: u32 = 3;

/// And what each of them costs.
const AGAIN_CUT: f64 = 0.3;

/// The curve: beyond the speed found last, the capacity has doubled after the cube root of 1/CURVE seconds.
const CURVE: f64 = 0.03;

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

/// What passed until some time, since the one before.
#[derive(Clone, Copy, Debug)]
struct Passed {
    at: Duration,
    all: f64,
    others: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Twice as much each period until packets wait.
    Begin,
    /// Along the curve, from that time on.
    Curve { since: Duration },
    /// Less, since then, when the queue was `from`; so often in a row.
    Drain {
        since: Duration,
        from: Duration,
        times: u32,
        /// What the link carried then.
        carried: f64,
        /// Whether it was the queue that told, not a loss alone.
        waited: bool,
    },
    /// A trickle, since then. The queue is short since `clear`, if it is.
    Yield {
        since: Duration,
        clear: Option<Duration>,
    },
    /// A small part, since then: somebody may have the rest, in a queue of his own.
    Polite { since: Duration },
    /// Somewhat more than a trickle, since then; the queue was `before`.
    Try { since: Duration, before: Duration },
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
    /// What passed: when, and how much since the one before.
    passed: VecDeque<Passed>,
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
    /// Nothing is known yet.
    pub fn new(now: Duration) -> Self {
        Self {
            delays: Delays::new(2 * TRIAL_AFTER),
            phase: Phase::Begin,
            capacity: FIRST,
            knee: 0.0,
            best: (0.0, now),
            round_trip: PERIOD,
            passed: VecDeque::new(),
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
        self.passed.push_back(Passed {
            at: now,
            all: (traffic.background + traffic.others) as f64,
            others: traffic.others as f64,
        });
        self.marked += traffic.marked;
        self.held |= traffic.held;
        let period = self.period();
        if now < self.decided + period {
            return;
        }
        while (self.passed.front()).is_some_and(|passed| passed.at + 2 * LONGEST_PERIOD < now) {
            self.passed.pop_front();
        }
        // While nothing is heard, nothing is known: as it was.
        let heard = self.delays.queueing(now.saturating_sub(period));
        let queue = heard.unwrap_or(self.queue);
        self.decide(now, period, queue);
        self.decided = now;
        self.queue = queue;
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
            Phase::Drain { .. } => Why::Drains,
            Phase::Yield { .. } | Phase::Try { .. } | Phase::Polite { .. } => Why::Yields,
        }
    }

    fn period(&self) -> Duration {
        self.round_trip.clamp(PERIOD, LONGEST_PERIOD)
    }

    fn least(&self) -> f64 {
        (self.knee * TRICKLE_PART).max(TRICKLE)
    }

    /// A longer queue is too long.
    fn target(&self) -> Duration {
        TARGET.max(Duration::from_secs_f64(
            TARGET_BYTES / self.capacity.max(self.knee).max(TRICKLE),
        ))
    }

    /// What passed of something, in the last period or a little longer, in bytes a second.
    fn rate(&self, now: Duration, period: Duration, of: impl Fn(&Passed) -> f64) -> f64 {
        let mut bytes = 0.0;
        for passed in self.passed.iter().rev() {
            // It lasted from the look before on.
            if passed.at + period <= now {
                return bytes / (now - passed.at).as_secs_f64();
            }
            bytes += of(passed);
        }
        bytes / period.as_secs_f64()
    }

    /// All of it.
    fn carried(&self, now: Duration, period: Duration) -> f64 {
        self.rate(now, period, |passed| passed.all).max(TRICKLE)
    }

    /// This machine's other traffic, in bytes a second.
    fn others(&self, now: Duration, period: Duration) -> f64 {
        self.rate(now, period, |passed| passed.others)
    }

    fn decide(&mut self, now: Duration, period: Duration, queue: Duration) {
        let waits = queue > self.target();
        let signal = waits || self.marked > 0;
        if waits && self.knee > 0.0 && self.others(now, period) > OWN_PART * self.knee {
            // They have what they take, and the background the rest, until they end.
            self.capacity = (self.knee * (1.0 - self.cut_for(queue))).max(self.least());
            self.resume(now);
            return;
        }
        match self.phase {
            Phase::Begin if signal => {
                self.knee = self.carried(now, period);
                self.cut(now, queue, self.knee);
            }
            Phase::Begin => {
                if self.held {
                    self.capacity *= 2.0;
                }
            }
            Phase::Curve { .. } if signal => {
                let carried = match self.held {
                    true => self.carried(now, period),
                    false => self.knee,
                };
                self.cut(now, queue, carried);
            }
            Phase::Curve { since } => {
                if self.held {
                    // Far beyond what it was, the curve would be too slow.
                    let faster = match self.capacity > FAR * self.knee {
                        true => self.capacity * FASTER,
                        false => self.on_curve(now - since),
                    };
                    self.capacity = faster.max(self.least());
                } else {
                    // Nobody knows what would have waited.
                    self.phase = Phase::Curve {
                        since: since + period,
                    };
                }
            }
            // What was done is felt only after a round trip.
            Phase::Drain { since, .. } if now < since + period + self.round_trip => {}
            Phase::Drain { times, .. } if waits && times >= PATIENCE => {
                self.trial_after = TRIAL_AFTER;
                self.trial_part = TRIAL_PART;
                self.yield_to_others(now);
            }
            Phase::Drain {
                since,
                from,
                times,
                carried,
                ..
            } if waits => {
                let spare = (1.0 - self.capacity / carried).max(LEAST_CUT / 2.0);
                let gone = (now - since - self.round_trip).mul_f64(spare / 3.0);
                let should = carried * (1.0 - self.cut_for(queue));
                if should < self.capacity && queue > from {
                    // More was on its way than had come.
                    self.capacity = should.max(self.least());
                    self.phase = Phase::Drain {
                        since: now,
                        from: queue,
                        times,
                        carried,
                        waited: true,
                    };
                } else if queue + gone > from {
                    self.capacity = (self.capacity * (1.0 - AGAIN_CUT)).max(self.least());
                    self.phase = Phase::Drain {
                        since: now,
                        from: queue,
                        times: times + 1,
                        carried,
                        waited: true,
                    };
                }
            }
            Phase::Drain {
                carried, waited, ..
            } => {
                self.knee = carried;
                if !waited || carried > self.best.0 * SHARED || now > self.best.1 + BEST_HOLDS {
                    if carried > self.best.0 || now > self.best.1 + BEST_HOLDS {
                        self.best = (carried, now);
                    }
                    self.resume(now);
                } else {
                    let part = (self.best.0 * POLITE_PART).min(carried * POLITE_PART_OF_REST);
                    self.capacity = part.max(self.least());
                    self.phase = Phase::Polite { since: now };
                }
            }
            // Even of this something waits: then it is somebody else's.
            Phase::Polite { .. } if waits => self.cut(now, queue, self.knee),
            Phase::Polite { since } if now < since + POLITE => {}
            Phase::Polite { .. } => {
                self.capacity = self.knee * LOOK_FURTHER;
                let beyond = ((LOOK_FURTHER - 1.0) / CURVE).cbrt();
                self.phase = Phase::Curve {
                    since: now.saturating_sub(Duration::from_secs_f64(self.bend() + beyond)),
                };
            }
            Phase::Yield { since, clear } => {
                let clear = (!signal).then(|| clear.unwrap_or(now));
                self.phase = Phase::Yield { since, clear };
                if clear.is_some_and(|clear| now >= clear + CLEAR) {
                    self.resume(now);
                } else if clear.is_none() && now >= since + self.trial_after {
                    self.capacity = (self.knee * self.trial_part).max(2.0 * self.least());
                    self.phase = Phase::Try {
                        since: now,
                        before: queue,
                    };
                }
            }
            Phase::Try { since, .. } if now < since + TRIAL.max(2 * self.round_trip) => {}
            Phase::Try { since, before } => {
                // Of a queue, more makes more; and whoever else fills it moves by himself.
                let moved = queue.abs_diff(before);
                let still = (now - since).mul_f64(self.trial_part / 4.0);
                if moved > still || self.marked > 0 {
                    self.trial_after = (self.trial_after * 3 / 2).min(TRIAL_AFTER_AT_MOST);
                    // Of a link that has become much slower, it may have been too much.
                    self.trial_part = (self.trial_part / 2.0).max(TRIAL_PART_AT_LEAST);
                    self.yield_to_others(now);
                } else {
                    // More made nothing wait longer: it is the way that is longer.
                    self.delays.rebase(now, since);
                    self.resume(now);
                }
            }
        }
    }

    /// Packets wait: less, until they do no more.
    fn cut(&mut self, now: Duration, queue: Duration, carried: f64) {
        self.capacity = (carried * (1.0 - self.cut_for(queue))).max(self.least());
        self.phase = Phase::Drain {
            since: now,
            from: queue,
            times: 1,
            carried,
            waited: queue > self.target(),
        };
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
        };
    }

    /// Along the curve, from what it is now.
    fn resume(&mut self, now: Duration) {
        let at = ((1.0 - self.capacity / self.knee.max(1.0)).max(0.0) / CURVE).cbrt();
        // The curve's bend is that long after its beginning.
        let begun = Duration::from_secs_f64(self.bend() - at.min(self.bend()));
        self.phase = Phase::Curve {
            since: now.saturating_sub(begun),
        };
    }

    /// How long the curve takes from nothing to the knee, in seconds.
    fn bend(&self) -> f64 {
        (1.0 / CURVE).cbrt()
    }

    fn on_curve(&self, time: Duration) -> f64 {
        let from_bend = time.as_secs_f64() - self.bend();
        self.knee * (1.0 + CURVE * from_bend.powi(3))
    }
}
