//! Somebody else is there: a trickle, until he has gone.

use std::time::Duration;

use super::{
    Capacity, FORGETTING, HISTORY, LEAST_CUT, LISTENING, OWN_PART, SETTLING, TRICKLE,
    phase::{Phase, Range, STEADY, STEADY_PART, Seen},
};

/// Where so much of it is, others of this machine fill the link.
const FILLING_PART: f64 = 0.7;

/// Such a queue may be a way that has become longer: it is tried if it was always the same for so long.
const OWN_PATIENCE: Duration = Duration::from_secs(4);

/// While it yields, the queue must have been short for so long before it is believed that the others have gone.
const CLEAR: Duration = Duration::from_millis(300);

/// While it yields, it is tried each so long whether the queue is one...
pub(super) const TRIAL_AFTER: Duration = Duration::from_millis(1200);
const TRIAL_AFTER_AT_MOST: Duration = Duration::from_secs(5);

/// ... with this part of the capacity, for so long or two round trips.
pub(super) const TRIAL_PART: f64 = 0.1;
const TRIAL: Duration = Duration::from_millis(250);
const TRIAL_PART_AT_LEAST: f64 = TRIAL_PART / 8.0;

/// It is polite for so long, where somebody may have a queue of his own; each time that he is found to be there twice as
/// long...
pub(super) const POLITE: Duration = Duration::from_millis(1200);
const POLITE_AT_MOST: Duration = Duration::from_millis(4800);

/// ... and looks what there is by this much more than it was.
const LOOK_FURTHER: f64 = 1.15;

/// Who has so much of the part that is kept for him has enough.
const SATISFIED: f64 = 0.95;

/// On a way that has become longer it begins with this part of what it had.
const LONGER_PART: f64 = 0.6;

/// Normal traffic shares a queue with somebody else's for so long before it tries to empty it again.
const INSIST: Duration = Duration::from_secs(5);

impl Capacity {
    /// Round trips are shorter than the way is believed to be: it was a queue, and what was found since is wrong.
    pub(super) fn admit_error(&mut self, now: Duration) {
        let (Some(rebased), Some(base)) = (self.rebased, self.delays.base()) else {
            return;
        };
        if base + STEADY.max(rebased.mul_f64(STEADY_PART)) < rebased {
            self.rebased = None;
            self.knee = self.knee.max(self.remembered);
            self.resume(now);
        }
    }

    /// Whether others of this machine have so large a part of what passes that a queue is theirs. What they left in the
    /// queue outlasts them by as long as it is.
    pub(super) fn is_own(&self, seen: Seen) -> bool {
        self.was_own(seen, seen.queue)
    }

    /// The same if so much waited before.
    fn was_own(&self, seen: Seen, queue: Duration) -> bool {
        let lately = (seen.period + queue).min(HISTORY);
        self.knee > 0.0 && self.passed.others(seen.now, lately) > OWN_PART * self.knee
    }

    /// Others of this machine have what they take until nothing of theirs waits. Then the link is what it was.
    pub(super) fn give_way(&mut self, seen: Seen, since: Duration, range: Range) {
        if !seen.heard {
            return;
        }
        let range = range.with(seen.queue);
        let is_over = seen.now >= since + OWN_PATIENCE;
        if !seen.waits {
            self.come_back(seen.now);
        } else if is_over && range.is_steady() && !self.fills(seen)
            || !self.was_own(seen, range.longest)
        {
            self.yield_to_others(seen.now);
        } else {
            let (since, range) = match is_over {
                true => (seen.now, Range::NONE),
                false => (since, range),
            };
            self.phase = Phase::GiveWay { since, range };
        }
    }

    /// Whether others of this machine have nearly all of it: then there is no need to ask whose a queue is.
    fn fills(&self, seen: Seen) -> bool {
        self.passed.others(seen.now, HISTORY) > FILLING_PART * self.knee
    }

    /// At once with nearly all that the link carried.
    fn come_back(&mut self, now: Duration) {
        self.capacity = (self.knee * (1.0 - LEAST_CUT)).max(self.least());
        self.settles = now + SETTLING;
        self.resume(now);
    }

    pub(super) fn yield_to_others(&mut self, now: Duration) {
        if self.firm {
            self.capacity = self.knee.max(self.least());
            self.phase = Phase::Insist { since: now };
            return;
        }
        if !matches!(self.phase, Phase::Try { .. }) {
            self.doubt(TRICKLE);
            self.remembered = self.knee;
            self.yielded_to_own = matches!(self.phase, Phase::GiveWay { .. });
            self.trial_after = TRIAL_AFTER;
            self.trial_part = TRIAL_PART;
        }
        self.capacity = self.least();
        self.phase = Phase::Yield {
            since: now,
            clear: None,
            range: Range::NONE,
        };
    }

    /// Somebody else fills the queue; each so often it is tried whether he does still. It may be this machine's own as
    /// well, full and always as long: that says nothing of the way.
    pub(super) fn insist(&mut self, seen: Seen, since: Duration) {
        if !self.firm || seen.heard && !seen.waits {
            self.resume(seen.now);
        } else if seen.now >= since + INSIST {
            let carried = self.carried(seen);
            self.cut(seen, carried);
        }
    }

    /// Whether those have it who are guaranteed a part, and more than that: a queue is theirs then.
    pub(super) fn satisfies(&self, seen: Seen) -> bool {
        let lately = (seen.period + seen.queue).min(HISTORY);
        self.kept > 0.0
            && seen.waits
            && self.passed.guaranteed(seen.now, lately) > SATISFIED * self.kept
    }

    /// They take what they get, in their own queue. As long as that is there, the link carries what it can.
    pub(super) fn keep_for_guaranteed(&mut self, seen: Seen) {
        self.knee = self.passed.all(seen.now, HISTORY).max(TRICKLE);
        self.capacity = self.knee;
        self.phase = Phase::Keep;
    }

    /// They have no queue any more, or less than their part.
    pub(super) fn end_keeping(&mut self, seen: Seen) {
        match seen.waits {
            true => self.cut(seen, self.knee),
            false => self.come_back(seen.now),
        }
    }

    /// It begins to be held. How long packets waited is known as soon as the first answer comes.
    pub(super) fn listen(&mut self, seen: Seen, since: Duration) {
        let is_over = seen.now >= since + LISTENING;
        if seen.heard && seen.waits {
            self.capacity = self.knee;
            self.cut(seen, self.knee);
        } else if seen.heard || is_over {
            self.is_deaf = !seen.heard;
            self.come_back(seen.now);
        }
    }

    pub(super) fn wait_for_others(
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
            self.knee = self.remembered;
            match self.yielded_to_own {
                true => self.come_back(seen.now),
                false => self.resume(seen.now),
            }
        } else if clear.is_none()
            && !is_its_own
            && seen.now >= since + self.round_trip + self.trial_after
        {
            self.capacity = (self.knee * self.trial_part).max(2.0 * self.least());
            self.phase = Phase::Try {
                since: seen.now,
                before: seen.queue,
                range,
            };
        }
    }

    pub(super) fn try_out(&mut self, seen: Seen, since: Duration, before: Duration, range: Range) {
        let passed = seen.now.saturating_sub(since);
        if passed < TRIAL.max(2 * self.round_trip) || !seen.heard {
            return;
        }
        // Of a queue, more makes more; and whoever else fills it moves by himself.
        let moved = seen.queue.abs_diff(before);
        let is_moved = moved > passed.mul_f64(self.trial_part / 4.0);
        if is_moved || !range.is_steady() || seen.congested {
            self.trial_after = (self.trial_after * 3 / 2).min(TRIAL_AFTER_AT_MOST);
            // Of a link that has become much slower, it may have been too much; a trickle, too.
            self.trial_part = (self.trial_part / 2.0).max(TRIAL_PART_AT_LEAST);
            self.knee = (self.knee * FORGETTING).max(TRICKLE);
            self.yield_to_others(seen.now);
        } else {
            // More made nothing wait longer: it is the way that is longer.
            self.delays.rebase(seen.now, since);
            self.rebased = self.delays.base();
            self.capacity = (self.knee * LONGER_PART).max(self.least());
            self.settles = seen.now + SETTLING;
            self.resume(seen.now);
        }
    }

    pub(super) fn be_polite(&mut self, seen: Seen, since: Duration) {
        if seen.waits_certainly() {
            // Even of this something waits: then it is somebody else's.
            self.cut(seen, self.knee);
        } else if seen.now >= since + self.polite_for {
            self.capacity = self.knee * LOOK_FURTHER;
            self.phase = Phase::Look { since: seen.now };
        }
    }

    /// Whoever has a queue of his own lets no more of this through than before.
    pub(super) fn look_further(&mut self, seen: Seen, since: Duration) {
        if seen.now < since + self.round_trip + 2 * seen.period || !seen.heard {
            return;
        }
        if !seen.waits {
            self.polite_for = POLITE;
            self.resume(seen.now);
            return;
        }
        self.polite_for = (2 * self.polite_for).min(POLITE_AT_MOST);
        let carried = self.carried(seen);
        self.cut(seen, carried);
    }
}
