//! What is left to others on this machine, whose traffic is seen at once: what they use, room to grow, and all of the link
//! while they begin.

use std::time::Duration;

use super::{Capacity, History, PACKET};
use crate::rate::Rate;

/// What they use is what they used in the longer or in the shorter of these times, whichever is more: the background
/// yields at once, and comes back when they have paused for as long as a page's next object may take.
const SHORTLY: Duration = Duration::from_millis(60);
const LATELY: Duration = Duration::from_millis(250);

/// They are left so many times what they use: where flows are served in turn nothing tells that somebody wants more than
/// his turn, and where they are not he need not wait for it...
const GROW: f64 = 1.5;

/// ... and what they do not use any more is the background's, little by little: it is e times less after so long, or after
/// so much longer as long as this part of it is used. CUBIC's sender who has lost a packet takes seconds to come back...
const PAUSE: Duration = Duration::from_millis(700);
const RECOVER: Duration = Duration::from_secs(5);
const RECOVERING: f64 = 0.4;

/// ... and who begins, and so has more by this part of the link than was left to him, is left all of it for as many round
/// trips as slow start takes, and not less than this time.
const BEGINNERS_PART: f64 = 0.02;
const BEGINNERS_PACKETS: f64 = 3.0;
const SLOW_START: u32 = 6;
const SLOW_START_AT_LEAST: Duration = Duration::from_millis(300);

/// What is left to them besides what they use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// In bytes a second, with what they use.
    reserved: f64,
    /// Until then somebody of them begins.
    begin_until: Duration,
    /// When it was looked at last.
    looked: Duration,
}

impl Room {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            reserved: 0.0,
            begin_until: Duration::ZERO,
            looked: now,
        }
    }

    fn look(&mut self, now: Duration, passed: &History, grow: f64, knee: f64, trip: Duration) {
        let since = now.saturating_sub(self.looked).as_secs_f64();
        self.looked = now;
        let some = BEGINNERS_PACKETS * PACKET / SHORTLY.as_secs_f64();
        let some = some.max(BEGINNERS_PART * knee);
        if passed.others(now, SHORTLY) > self.reserved + some {
            self.begin_until = now + SLOW_START_AT_LEAST.max(trip * SLOW_START);
        }
        let used = passed.others(now, LATELY);
        let holds = match used > RECOVERING * self.reserved {
            true => RECOVER,
            false => PAUSE,
        };
        let before = self.reserved * (-since / holds.as_secs_f64()).exp();
        self.reserved = before.max(used * grow);
    }
}

impl Capacity {
    /// What others on this machine use, or what is kept for them, as far as the background has to know.
    pub(super) fn others(&self, now: Duration) -> Rate {
        let others = self.used_by_others(now) + self.kept;
        Rate::from_bytes_per_second(others as u64)
    }

    fn used_by_others(&self, now: Duration) -> f64 {
        let lately = [SHORTLY, LATELY].map(|lately| self.passed.others(now, lately));
        lately.into_iter().fold(0.0, f64::max)
    }

    /// To be called each time that something passed.
    pub(super) fn make_room(&mut self, now: Duration) {
        // Where somebody's word is all that is known, they have what they use.
        let grow = if self.is_blind() { 1.0 } else { GROW };
        self.room
            .look(now, &self.passed, grow, self.knee, self.round_trip);
    }

    /// What nobody else has a claim to. What is important has what it uses: normal traffic is held by the queue that it meets.
    pub(super) fn rest(&self) -> f64 {
        let room = self.room;
        let used = self.used_by_others(room.looked);
        let claimed = if self.firm {
            used
        } else if room.looked < room.begin_until {
            self.capacity
        } else {
            room.reserved.max(used)
        };
        self.capacity - claimed - self.kept
    }
}
