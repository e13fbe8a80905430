//! A queue has built up: less, until it is gone. Where it stays, it is somebody else's; where the link has carried less than
//! it did, somebody may have a queue of his own.

use std::time::Duration;

use super::{
    Capacity, FAR, FILLED, FORGETTING, HISTORY, LEAST_CUT, PACKET, TRICKLE,
    phase::{Drain, Phase, Seen},
};

/// A queue is to have gone after so long.
const DRAIN: Duration = Duration::from_millis(300);

/// What it costs of the capacity at the most.
const MOST_CUT: f64 = 0.5;

/// The same of normal traffic: what is important waits in that queue.
const MOST_FIRM_CUT: f64 = 0.6;

/// What is believed still of the speed of a link that carried less, of normal traffic: what it carried is hard to tell, as it
/// was in full flight when it was held, and loses packets for a while.
const FIRMLY_KEPT: f64 = 0.9;

/// What packets that were lost or marked cost.
const CONGESTED_CUT: f64 = 0.15;

/// So many times what they lack is given up for those who are guaranteed a part.
const ASKED_FOR: f64 = 1.25;

/// How many periods a queue may outlast what was done about it before the background yields.
const PATIENCE: u32 = 2;

/// And what each of them costs.
const AGAIN_CUT: f64 = 0.3;

/// A queue that grew by such a part though there is less is not the background's.
const GROWN: f64 = 0.5;

/// What was on its way makes it no longer than by this, or by an eighth of the round trip more.
const MOST_EXCESS: Duration = Duration::from_millis(25);

/// A queue that lasts longer is not that of a link which serves flows in turn.
const SOON: Duration = Duration::from_millis(1500);

/// One more flow leaves the background's this part less of a link that serves each flow in turn; where it carries less
/// than in the middle between that and what it did, it has become slower, or is shared, and nothing waits for the
/// others...
const SHARED: f64 = 0.5;

/// ... which can't be told any more of so many flows...
const SHARED_BY: usize = 8;

/// ... as were heard of so lately.
const FLOWS_LATELY: Duration = Duration::from_secs(2);

/// ... and if it was let no more than it carried, only if it was so before as well, not longer ago than this: for a moment
/// packets wait on any link...
const DOUBTED: Duration = Duration::from_secs(8);

/// ... so for some time the background keeps to this part of it, in the mean less than a fifth, or to that part of
/// what is left...
const POLITE_PART: f64 = 0.12;
const POLITE_PART_OF_REST: f64 = 0.3;

/// What the link carried once is believed to be what it can carry, for so long.
const BEST_HOLDS: Duration = Duration::from_secs(60);

impl Drain {
    /// For how long packets have waited, as far as it is known what passed.
    fn lasted(self, seen: Seen) -> Duration {
        (seen.now.saturating_sub(self.began) + seen.period).min(HISTORY)
    }
}

impl Capacity {
    pub(super) fn drain(&mut self, seen: Seen, drain: Drain) {
        let passed = seen.now.saturating_sub(drain.since + self.round_trip);
        let drain = match seen.queue >= FILLED && seen.heard {
            // As long as many packets wait, the link carries what it can.
            true => {
                let lasted = match self.firm {
                    true => HISTORY,
                    false => drain.lasted(seen),
                };
                Drain {
                    carried: self.passed.all(seen.now, lasted),
                    error: PACKET / lasted.as_secs_f64(),
                    ..drain
                }
            }
            false => drain,
        };
        if passed < seen.period || !seen.heard {
            // What was done is felt only after a round trip.
            self.phase = Phase::Drain(drain);
        } else if !seen.waits {
            self.drained(seen, drain);
        } else if drain.times >= PATIENCE || self.has_grown(seen.queue, drain) {
            self.yield_to_others(seen.now);
        } else {
            self.drain_more(seen, drain, passed);
        }
    }

    /// Whether a queue is longer than the background alone can have made it.
    fn has_grown(&self, queue: Duration, drain: Drain) -> bool {
        let first = drain.first;
        let may_grow = |excess: Duration| excess.max(first.mul_f64(GROWN)) + self.target();
        (drain.excess).is_some_and(|excess| queue > first + may_grow(excess))
    }

    /// The link may have become slower: if it did not carry what it did for the second time, less of it is believed.
    pub(super) fn doubt(&mut self, carried: f64) {
        if !std::mem::replace(&mut self.proven, false) {
            let kept = if self.firm { FIRMLY_KEPT } else { FORGETTING };
            self.knee = (self.knee * kept).max(carried);
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
    fn drained(&mut self, seen: Seen, drain: Drain) {
        let Drain { waited, times, .. } = drain;
        let carried = self.carried_meanwhile(seen, drain);
        let (best, since) = self.best;
        let is_soon = seen.now < drain.began + SOON;
        if (times > 1 || !is_soon) && carried < self.knee {
            // Somebody else was in the queue, and has gone: what was carried was not all.
            self.doubt(carried);
            self.resume(seen.now);
            return;
        }
        // Once may be chance.
        let was_proven = std::mem::replace(&mut self.proven, false);
        let kept = if was_proven && !self.firm {
            1.0
        } else {
            self.part_kept(drain)
        };
        self.knee = carried.max(self.knee * kept);
        let is_old = seen.now > since + BEST_HOLDS;
        let is_less = carried + drain.error <= best * self.shared(seen.now);
        if !is_less {
            self.doubted = None;
        }
        if carried > best || is_old {
            let half_way = (best + carried) / 2.0;
            let is_first = is_old || best == 0.0;
            self.best = (if is_first { carried } else { half_way }, seen.now);
        } else if waited
            && !self.firm
            && !self.plain.is_known(seen.now)
            && drain.excess.is_some()
            && is_less
            && self.is_certain(seen.now, drain)
        {
            let part = (best * POLITE_PART).min(carried * POLITE_PART_OF_REST);
            self.capacity = part.max(self.least());
            self.phase = Phase::Polite { since: seen.now };
            return;
        }
        self.resume(seen.now);
    }

    /// Where all answers come late for a moment, less seems to be carried in it, and more in the next.
    fn carried_meanwhile(&self, seen: Seen, drain: Drain) -> f64 {
        if self.firm {
            return drain.carried;
        }
        (drain.carried).max(self.passed.all(seen.now, drain.lasted(seen)))
    }

    /// The part of what the link was believed to carry that is believed still, however little it carried this time: senders
    /// who had to hold back do not fill it yet, and for a moment packets wait on any link.
    fn part_kept(&self, drain: Drain) -> f64 {
        match drain.excess {
            _ if self.firm => FIRMLY_KEPT,
            Some(_) => MOST_CUT,
            None => FORGETTING,
        }
    }

    /// Whether the link carried less than it was let, or has carried less before as well.
    fn is_certain(&mut self, now: Duration, drain: Drain) -> bool {
        let before = self.doubted.replace(now);
        drain.lacked || before.is_some_and(|before| now < before + DOUBTED)
    }

    /// The link carries no more than this part of what it did if somebody else has a queue of his own.
    fn shared(&self, now: Duration) -> f64 {
        let flows = self.delays.flows_since(now.saturating_sub(FLOWS_LATELY));
        1.0 - SHARED / (flows.min(SHARED_BY) as f64 + 1.0)
    }

    /// Packets wait: less, until they do no more.
    pub(super) fn cut(&mut self, seen: Seen, carried: f64) {
        // As long as nothing waits, the link may carry more than it had; and what is acknowledged pauses with a loss.
        let carried = match seen.waits || self.lacked > 0.0 {
            true => carried,
            false => carried.max(self.capacity),
        };
        let is_settled = seen.now >= self.settles && self.capacity <= FAR * self.knee;
        let too_much = (self.capacity / carried.max(TRICKLE) - 1.0).clamp(0.0, 1.0);
        let excess = (self.round_trip + seen.period).mul_f64(too_much);
        let excess = excess.min(MOST_EXCESS + self.round_trip / 8);
        let error = PACKET / seen.period.as_secs_f64();
        if carried > self.knee {
            self.knee = carried;
        }
        let lacked = carried + error < self.capacity;
        // Of normal traffic nobody knows whether it wanted more.
        let had = match self.firm {
            true => self.capacity,
            false => carried.min(self.capacity),
        };
        let cut = had * (1.0 - self.cut_for(seen.queue));
        self.capacity = cut.min(had - self.lacked * ASKED_FOR).max(self.least());
        self.phase = Phase::Drain(Drain {
            since: seen.now,
            from: seen.queue,
            first: seen.queue,
            times: 1,
            began: seen.now,
            carried,
            error,
            lacked,
            waited: seen.waits,
            excess: is_settled.then_some(excess),
        });
    }

    fn cut_for(&self, queue: Duration) -> f64 {
        let for_queue = queue.as_secs_f64() / DRAIN.as_secs_f64();
        let for_losses = if self.congested > 0 {
            CONGESTED_CUT
        } else {
            0.0
        };
        let most = if self.firm { MOST_FIRM_CUT } else { MOST_CUT };
        for_queue.max(for_losses).clamp(LEAST_CUT, most)
    }
}
