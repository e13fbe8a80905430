//! Nothing waits: more, until packets do.

use std::time::Duration;

use super::{
    Capacity, FAR, HISTORY, LEAST_CUT, SETTLING,
    phase::{Phase, Seen},
};
use crate::priority::curve;

/// With so much of the speed found last it is had again.
const PROVEN: f64 = 0.85;

/// Of what normal traffic is let, so much passes as long as the link carries it.
const PASSES: f64 = 0.85;

/// Beyond the speed found last, so much of the capacity passes if it is to become more: a trickle beside others tells
/// nothing, where flows are served in turn.
const EVIDENT: f64 = 0.75;

/// Far beyond the speed found last, it becomes so much more each period.
const FASTER: f64 = 1.2;

/// Of what normal traffic was let less for a short queue that was chance, it has this part back at once.
const CHANCE: f64 = 0.5;

impl Capacity {
    pub(super) fn begin(&mut self, seen: Seen) {
        // With its first packets a sender may lose one because it is too fast for anything.
        let was_congested = std::mem::replace(&mut self.begun_congested, seen.congested);
        if seen.waits_certainly() || seen.congested && was_congested {
            self.knee = self.carried(seen);
            self.settles = seen.now + SETTLING;
            self.cut(seen, self.knee);
        } else if self.held && seen.heard && !seen.waits {
            self.capacity *= 2.0;
        }
    }

    pub(super) fn follow_curve(&mut self, seen: Seen, since: Duration) {
        let doubtful = self.doubtful.take();
        if seen.waits_certainly() || seen.congested {
            // Others who have just gone have left a gap.
            let carried = match self.held && !self.is_own(seen) {
                true => self.carried(seen),
                false => self.knee,
            };
            self.cut(seen, carried);
        } else if seen.waits {
            self.doubtful = Some(self.capacity);
            self.capacity = (self.capacity * (1.0 - LEAST_CUT)).max(self.least());
            self.pause(seen, since);
        } else if let Some(before) = doubtful {
            if self.firm {
                // What is important may have waited.
                self.capacity += (before - self.capacity).max(0.0) * CHANCE;
                self.resume(seen.now);
            } else {
                // It goes on where it was.
                self.capacity = before.max(self.capacity);
                self.pause(seen, since);
            }
        } else if self.held && seen.heard && !seen.waits && self.carries_what_is_let(seen) {
            self.proven |= self.capacity > PROVEN * self.knee;
            // Far beyond what it was, the curve would be too slow.
            let faster = match self.capacity > FAR * self.knee {
                true => self.capacity * FASTER,
                false => self.knee * curve::part_after(seen.now.saturating_sub(since)),
            };
            self.capacity = faster.max(self.least());
        } else {
            // Nobody knows what would have waited.
            self.pause(seen, since);
        }
    }

    /// This period does not count on the curve.
    fn pause(&mut self, seen: Seen, since: Duration) {
        self.phase = Phase::Curve {
            since: since + seen.period,
        };
    }

    /// Whether what is let passes, of normal traffic: what is lost on its way is no sign to that, and says all the same that
    /// there is no more to be had.
    fn carries_what_is_let(&self, seen: Seen) -> bool {
        let now = seen.now;
        let lately = (seen.period + self.round_trip).min(HISTORY);
        if self.firm {
            let let_through = self.capacity - self.passed.others(now, HISTORY) - self.kept;
            return self.passed.background(now, HISTORY) > PASSES * let_through;
        }
        let is_evident =
            self.rest() > self.least() && self.passed.all(now, lately) >= EVIDENT * self.capacity;
        self.capacity < self.knee || is_evident
    }

    /// Along the curve, from what it is now.
    pub(super) fn resume(&mut self, now: Duration) {
        let begun = curve::time_of(self.capacity / self.knee.max(1.0));
        self.phase = Phase::Curve {
            since: now.saturating_sub(begun),
        };
    }
}
