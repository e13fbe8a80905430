//! A limit's cell in the kernel, and the decision about a packet.

use crate::{clock, map_value};

/// How many limit cells there are: one for each direction of each slot, cell 0 unused.
pub const MAX_LIMITS: u32 = 2 * crate::tag::MAX_SLOTS;

/// One direction of a limit: a rate and its virtual clock.
///
/// The clock stands at `start + work`: the time at which everything admitted so far will have
/// left at the limit's rate. `work` only grows, by an atomic add of each packet's cost; `start`
/// is stored whole when the clock had fallen behind the present. So no CPU can lose another's
/// cost, and no two CPUs can lift the clock twice, without a compare-and-swap, which Linux 5.10
/// does not have for eBPF.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Payload bytes a second; 0 lets no payload through.
    pub rate: u64,
    /// Policing: how far the clock may run ahead of the present, in [`clock::Ticks`].
    pub debt_bound: u64,
    /// See above, in [`clock::Ticks`].
    pub start: u64,
    /// See above, in [`clock::Ticks`].
    pub work: u64,
}
map_value!(Limit, 32);

/// What a limit did since it was set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enforced {
    /// Payload bytes let through.
    pub admitted_bytes: u64,
    /// Packets let through that carried payload.
    pub admitted_packets: u64,
    /// Payload bytes dropped.
    pub dropped_bytes: u64,
    /// Packets dropped.
    pub dropped_packets: u64,
}
map_value!(Enforced, 32);

/// What is to be done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Let it through: first store `start` if there is one, then add `cost` to `work`.
    Admit {
        /// The clock had fallen behind: where it starts again.
        start: Option<u64>,
        /// What the packet costs, in [`clock::Ticks`].
        cost: u64,
    },
    /// Drop it; nothing is charged.
    Drop,
}

/// Decides about a packet of `payload` bytes at `now` by policing: no queue, but a clock that may
/// run ahead by `debt_bound`.
///
/// The bound is checked before the packet is charged, so a packet of any size passes once the
/// clock is within the bound: none can starve.
#[inline(always)]
pub const fn police(limit: &Limit, now: clock::Ticks, payload: u64) -> Decision {
    if limit.rate == 0 {
        return Decision::Drop;
    }
    let clock = limit.start.wrapping_add(limit.work);
    let start = match clock::debt(clock, now) {
        // The store makes the clock stand at the present, whatever `work` is.
        None => Some(now.wrapping_sub(limit.work)),
        Some(debt) if debt > limit.debt_bound => return Decision::Drop,
        Some(_) => None,
    };
    Decision::Admit {
        start,
        cost: clock::cost(payload, limit.rate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{TICKS_PER_SECOND, Ticks};
    use proptest::prelude::*;

    fn apply(limit: &mut Limit, now: Ticks, payload: u64) -> bool {
        match police(limit, now, payload) {
            Decision::Drop => false,
            Decision::Admit { start, cost } => {
                if let Some(start) = start {
                    limit.start = start;
                }
                limit.work = limit.work.wrapping_add(cost);
                true
            }
        }
    }

    fn limit(rate: u64) -> Limit {
        Limit {
            rate,
            debt_bound: 350 * TICKS_PER_SECOND / 1000,
            ..Limit::default()
        }
    }

    #[test]
    fn a_rate_of_zero_lets_nothing_through() {
        assert_eq!(police(&limit(0), 5, 1), Decision::Drop);
    }

    #[test]
    fn a_packet_larger_than_the_bound_passes_when_the_clock_is_within_it() {
        let mut l = limit(1000);
        assert!(apply(&mut l, TICKS_PER_SECOND, 65_536));
        assert!(!apply(&mut l, TICKS_PER_SECOND, 1));
        // 65.5 s later the debt is repaid to within the bound.
        assert!(apply(&mut l, 67 * TICKS_PER_SECOND, 1));
    }

    #[test]
    fn idle_time_earns_no_credit() {
        let mut l = limit(1_000_000);
        apply(&mut l, TICKS_PER_SECOND, 1000);
        // An hour later only the bound's worth, 350 kB and the packet in debt, passes at once.
        let now = 3600 * TICKS_PER_SECOND;
        let passed = (0..10_000).filter(|_| apply(&mut l, now, 1000)).count();
        assert_eq!(passed, 351);
    }

    #[test]
    fn two_cpus_that_find_the_clock_behind_lift_it_once() {
        let mut l = limit(1_000_000);
        l.start = 0;
        let now = 1000 * TICKS_PER_SECOND;
        // Both decide on the same old state, then both write.
        let decisions = [police(&l, now, 1000), police(&l, now + 10, 1000)];
        for decision in decisions {
            let Decision::Admit { start, cost } = decision else {
                panic!("within the bound")
            };
            l.start = start.unwrap();
            l.work += cost;
        }
        let ahead = l.start.wrapping_add(l.work) - now;
        let costs = 2 * clock::cost(1000, l.rate);
        assert!((costs..costs + 20).contains(&ahead), "{ahead} {costs}");
    }

    proptest! {
        /// Over any time and any packet sizes no more passes than rate x time, the bound, and
        /// one packet.
        #[test]
        fn never_more_than_rate_bound_and_one_packet(
            rate in 1_000u64..10_000_000_000,
            packets in prop::collection::vec((0u64..2_000_000, 1u64..65_536), 1..300),
        ) {
            let mut l = limit(rate);
            let begin = 7 * TICKS_PER_SECOND;
            let (mut now, mut passed, mut largest) = (begin, 0u64, 0u64);
            for (gap_ns, payload) in packets {
                now += gap_ns * 256;
                largest = largest.max(payload);
                if apply(&mut l, now, payload) {
                    passed += payload;
                }
            }
            let seconds = (now - begin) as f64 / TICKS_PER_SECOND as f64;
            let most = rate as f64 * (seconds + 0.350) * 1.0001 + largest as f64 + 1.0;
            prop_assert!(passed as f64 <= most, "{passed} of {most}");
        }

        /// A sender that always has a packet ready gets the rate, to a thousandth.
        #[test]
        fn a_greedy_sender_gets_the_rate(rate in 8_000u64..10_000_000_000, payload in 100u64..65_536) {
            let mut l = limit(rate);
            let step = clock::cost(payload, rate).max(1) / 2 + 1;
            let begin = 3 * TICKS_PER_SECOND;
            // Fill the bound first, so that only the steady state is measured.
            while apply(&mut l, begin, payload) {}
            let debt = l.start.wrapping_add(l.work) - begin;
            let (mut now, mut passed) = (begin, 0u64);
            for _ in 0..4000 {
                now += step;
                if apply(&mut l, now, payload) { passed += payload; }
            }
            let expected = rate as f64 * (now - begin) as f64 / TICKS_PER_SECOND as f64;
            let slack = 2.0 * payload as f64 + expected * 0.001;
            prop_assert!((passed as f64 - expected).abs() <= slack, "{passed} {expected} {debt}");
        }
    }
}
