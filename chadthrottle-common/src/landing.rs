//! The landing: what becomes of the data that was in flight when a limit came, or was lowered.
//!
//! It has crossed the network already, so to drop it makes it cross again, and TCP takes many
//! seconds to recover from the loss of a whole flight. So it is let in. Each connection's flight is
//! bounded by what its receiver had allowed and not yet received: the right edge that was advertised
//! last, less what arrived. It is given once a connection and change of the limit, and only to
//! connections that had received something before.
//!
//! At a low rate a flight is worth minutes, so it can't all be charged at once: it moves the clock
//! ahead by [`PACED`] at the most, evenly over all of it. Acknowledgements of a paced download are
//! held for that long, so the sender's round trip grows in many small steps, and none of its timers
//! expires. What was not charged is owed, and paid back out of later packets, 1/[`PART`] of each,
//! and out of the time in which the limit is not used.

use crate::{
    clock::{self, TICKS_PER_SECOND, Ticks},
    limit::{Enforcing, Limit},
    map_value,
};

/// How long a landing lasts.
pub const LASTS: Ticks = TICKS_PER_SECOND;

/// How long after a change a landing may begin. What was in flight then has arrived long before.
const AWAITED: Ticks = 5 * TICKS_PER_SECOND;

/// How far flights move the clock ahead at the most where acknowledgements are held. Below a second
/// by what the flight and the first round trip under the limit take.
pub const PACED: Ticks = TICKS_PER_SECOND / 2;

/// The same where nothing is held, and senders wait for the clock with their window closed.
pub const POLICED: Ticks = 150 * TICKS_PER_SECOND / 1000;

/// What is owed is paid back by this part of each packet's cost: 0.4 % less than the limit until
/// then.
pub const PART: u64 = 256;

/// The landing of a limit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Landing {
    /// Until when the first packet that meets the limit begins the landing. What is needed for it,
    /// the programs and a qdisc, may take a while to come.
    pub awaited_until: Ticks,
    /// When that was; 0 if nothing may land.
    pub since: Ticks,
    /// What may be in flight to all connections together, in bytes, as far as they are known.
    pub flight: u64,
    /// What was let in and not charged, in [`Ticks`] at the limit's rate, less what was paid back.
    /// Two CPUs may pay the same part: below zero is nothing.
    pub owed: i64,
    /// Where the clock stood after the last packet that landed: until then acknowledgements are
    /// held.
    pub held_until: Ticks,
}
map_value!(Landing, 40);

/// A packet of a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lands {
    /// It was sent before its sender can have heard of the limit.
    InTime,
    /// It may have been sent later; it is charged as far as that leaves the clock within bounds.
    Late,
}

impl Landing {
    /// Whether a packet that meets the limit now begins the landing.
    #[inline(always)]
    pub const fn begins(&self, now: Ticks) -> bool {
        self.since == 0 && clock::debt(self.awaited_until, now).is_some()
    }

    /// Whether flights may still land.
    #[inline(always)]
    pub const fn is_on(&self, now: Ticks) -> bool {
        self.since != 0 && now.wrapping_sub(self.since) < LASTS
    }

    /// Whether acknowledgements of a flight are still held.
    #[inline(always)]
    pub const fn holds(&self, now: Ticks) -> bool {
        self.is_on(now) && clock::debt(self.held_until, now).is_some()
    }

    /// How much of what is owed a packet pays that costs so much.
    #[inline(always)]
    pub const fn instalment(&self, cost: Ticks) -> Ticks {
        self.at_most_owed(cost / PART)
    }

    /// As much of a time as is owed.
    #[inline(always)]
    pub const fn at_most_owed(&self, time: Ticks) -> Ticks {
        if self.owed <= 0 {
            0
        } else if time > self.owed as u64 {
            self.owed as u64
        } else {
            time
        }
    }

    /// The landing of a limit that is new, or so much lower that what is in flight has to land: what is owed
    /// stays owed, as bytes.
    pub fn again(&self, now: Ticks, old: u64, new: u64) -> Self {
        Self {
            awaited_until: now.wrapping_add(AWAITED),
            owed: self.rescaled(old, new),
            ..Self::default()
        }
    }

    /// The same landing at another rate, whose clock stands at `clock`: if it is on, it goes on, and no
    /// acknowledgement is held for longer than that.
    pub fn at(&self, clock: Ticks, old: u64, new: u64) -> Self {
        let sooner = clock::debt(self.held_until, clock).is_some();
        Self {
            owed: self.rescaled(old, new),
            held_until: if sooner { clock } else { self.held_until },
            ..*self
        }
    }

    fn rescaled(&self, old: u64, new: u64) -> i64 {
        clock::rescale(self.at_most_owed(u64::MAX), old, new) as i64
    }
}

/// How far flights move the clock ahead at the most.
#[inline(always)]
pub const fn most(by: Enforcing) -> Ticks {
    match by {
        Enforcing::Pacing => PACED,
        Enforcing::Policing => POLICED,
    }
}

/// What a packet of a flight costs while the clock is ahead by `debt`, if it costs `full` by the
/// rate.
#[inline(always)]
pub const fn cost(
    limit: &Limit,
    debt: Ticks,
    payload: u64,
    full: Ticks,
    by: Enforcing,
    lands: Lands,
) -> Ticks {
    let room = most(by).saturating_sub(debt);
    let cost = match lands {
        // 2^16 bytes by 2^37 ticks: far from an overflow.
        Lands::InTime => match (payload * room).checked_div(limit.landing.flight) {
            Some(cost) => cost,
            None => room,
        },
        Lands::Late => room,
    };
    if cost < full { cost } else { full }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Decision, admit};
    use proptest::prelude::*;

    const SECOND: Ticks = TICKS_PER_SECOND;

    fn limit(rate: u64, flight: u64) -> Limit {
        Limit {
            rate,
            pacing_bound: SECOND / 2,
            policing_bound: 350 * SECOND / 1000,
            signal_after: 150 * SECOND / 1000,
            start: 5 * SECOND,
            landing: Landing {
                since: 5 * SECOND,
                flight,
                ..Landing::default()
            },
            ..Limit::default()
        }
    }

    fn apply(limit: &mut Limit, now: Ticks, payload: u64, lands: Option<Lands>) -> Option<Ticks> {
        match admit(limit, now, payload, Enforcing::Pacing, lands) {
            Decision::Drop => None,
            Decision::Admit {
                start,
                cost,
                delay,
                signal,
                owed,
            } => {
                assert!(
                    !signal || lands.is_none(),
                    "a flight is no reason to signal"
                );
                limit.start = start.unwrap_or(limit.start);
                limit.work += cost;
                limit.landing.owed += owed;
                Some(delay)
            }
        }
    }

    #[test]
    fn a_flight_worth_minutes_is_let_in_and_moves_the_clock_evenly() {
        let flight = 6_000_000;
        let mut l = limit(64_000, flight);
        let now = 5 * SECOND + 1000;
        let mut before = 0;
        for _ in 0..flight / 60_000 {
            let delay = apply(&mut l, now, 60_000, Some(Lands::InTime)).expect("let in");
            assert!(delay - before < SECOND / 100, "in small steps");
            before = delay;
        }
        // 1 - 1/e of the most, as each step is a part of what is left.
        let ahead = l.debt(now).unwrap_or(0);
        assert!(
            (PACED * 60 / 100..PACED * 66 / 100).contains(&ahead),
            "{ahead}"
        );
        let charged = ahead as u128 * 64_000 / u128::from(SECOND);
        let owed = l.landing.owed as u128 * 64_000 / u128::from(SECOND);
        assert!((charged + owed).abs_diff(u128::from(flight)) < 200);
    }

    #[test]
    fn a_small_flight_is_charged_in_full() {
        let mut l = limit(10_000_000, 1_000_000);
        let now = 5 * SECOND + 1000;
        for _ in 0..10 {
            apply(&mut l, now, 100_000, Some(Lands::InTime)).expect("let in");
        }
        assert_eq!(l.debt(now), Some(SECOND / 10));
        assert_eq!(l.landing.owed, 0);
    }

    #[test]
    fn what_comes_late_is_charged_until_the_clock_is_far_ahead() {
        let mut l = limit(64_000, 6_000_000);
        let now = 5 * SECOND + SECOND / 4;
        apply(&mut l, now, 6_400, Some(Lands::Late)).expect("let in");
        assert_eq!(l.debt(now), Some(SECOND / 10));
        for _ in 0..100 {
            apply(&mut l, now, 64_000, Some(Lands::Late)).expect("let in");
        }
        assert_eq!(l.debt(now), Some(PACED));
    }

    #[test]
    fn after_a_second_nothing_lands() {
        let l = limit(64_000, 1_000_000);
        assert!(l.landing.is_on(6 * SECOND - 1));
        assert!(!l.landing.is_on(6 * SECOND));
        assert!(
            !Landing::default().is_on(SECOND / 2),
            "of a limit that never changed"
        );
    }

    #[test]
    fn where_nothing_is_in_flight_bounds_are_as_ever() {
        for (flight, passes) in [(0, false), (1, true)] {
            let mut l = limit(1_000_000, flight);
            let now = 5 * SECOND + SECOND / 2;
            l.start = now + l.pacing_bound + SECOND / 10;
            assert_eq!(apply(&mut l, now, 1000, None).is_some(), passes, "{flight}");
        }
    }

    #[test]
    fn what_is_owed_stays_owed_at_another_rate() {
        let landing = Landing {
            owed: 10 * SECOND as i64,
            flight: 5,
            held_until: 7,
            since: 9,
            awaited_until: 3,
        };
        let again = landing.again(11, 1000, 2000);
        assert_eq!(again.owed, 5 * SECOND as i64);
        assert_eq!((again.since, again.flight, again.held_until), (0, 0, 0));
        assert!(again.begins(11) && !again.begins(12 + AWAITED));
        assert!(!landing.begins(2), "it is on");
        assert!(!Landing::default().begins(SECOND));
        assert_eq!(
            Landing {
                owed: -5,
                ..landing
            }
            .again(1, 1, 1)
            .owed,
            0
        );
    }

    #[test]
    fn a_landing_goes_on_at_another_rate_and_holds_nothing_longer() {
        let landing = Landing {
            owed: 10 * SECOND as i64,
            flight: 5,
            held_until: 7 * SECOND,
            since: 5 * SECOND,
            awaited_until: 3,
        };
        let at = landing.at(6 * SECOND, 1000, 2000);
        assert_eq!((at.since, at.flight), (5 * SECOND, 5));
        assert_eq!((at.owed, at.held_until), (5 * SECOND as i64, 6 * SECOND));
        assert_eq!(landing.at(8 * SECOND, 2, 1).held_until, 7 * SECOND);
    }

    #[test]
    fn idle_time_pays_what_is_owed_and_earns_nothing() {
        let mut l = limit(1000, 0);
        l.landing.owed = 2 * SECOND as i64;
        apply(&mut l, 8 * SECOND, 1000, None).expect("the clock is behind");
        assert_eq!(l.landing.owed, 0, "three seconds were idle");
        assert_eq!(l.debt(8 * SECOND), Some(SECOND));
    }

    proptest! {
        /// What was let in beyond the limit is paid back, and meanwhile a second has at least
        /// 98 % of the limit.
        #[test]
        fn it_is_paid_back_slowly(rate in 8_000u64..1_000_000_000, owed_ms in 1u64..300) {
            let mut l = limit(rate, 0);
            l.landing.since = 0;
            l.landing.owed = (owed_ms * SECOND / 1000) as i64;
            let (mut now, mut passed) = (5 * SECOND, 0u64);
            let payload = (rate / 1000).max(1);
            let end = now + (owed_ms * PART * SECOND / 1000) + SECOND;
            let mut next_second = now + SECOND;
            let mut in_second = 0;
            while now < end {
                while l.debt(now).is_none_or(|debt| debt < SECOND / 100) {
                    apply(&mut l, now, payload, None).expect("within the bound");
                    passed += payload;
                    in_second += payload;
                }
                now += SECOND / 200;
                if now >= next_second {
                    prop_assert!(in_second as f64 >= rate as f64 * 0.97, "{in_second} of {rate}");
                    next_second += SECOND;
                    in_second = 0;
                }
            }
            prop_assert!(l.landing.owed <= 0);
            let all = rate as f64 * (now - 5 * SECOND) as f64 / SECOND as f64;
            let paid = owed_ms as f64 / 1000.0 * rate as f64;
            prop_assert!((passed as f64 - (all - paid)).abs() < 0.05 * rate as f64 + 5.0 * payload as f64);
        }
    }
}
