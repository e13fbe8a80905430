//! A limit's cell in the kernel, and the decision about a packet.

use crate::{
    clock,
    landing::{self, Landing, Lands},
    map_value,
    window::Control,
};

/// How many limit cells there are, cell 0 unused: one for each direction of each slot, or of each
/// limit that several slots share. When all are taken, a further limit is refused.
pub const MAX_LIMITS: u32 = 2 * crate::tag::MAX_SLOTS;

/// The first cells after the unused one are those of background traffic: of each direction one that all of it has
/// together, by [`Direction::index`](crate::traffic::Direction::index)...
pub const FIRST_BACKGROUND: u32 = 1;

/// ... and from here on those of rules that have a rate besides, and of everybody else where some traffic is more
/// important...
pub const FIRST_CEILING: u32 = FIRST_BACKGROUND + 2;

/// ... of which there are so many, each for one direction of a rule. When all are taken, a further rule is refused.
pub const MAX_CEILINGS: u32 = 128;

/// The cells from here on are everybody's.
pub const FIRST_FREE: u32 = FIRST_CEILING + MAX_CEILINGS;

/// The rate, in payload bytes a second, of one of these cells that holds nothing at present: 80 Gbit/s.
pub const UNHELD: u64 = 10_000_000_000;

/// Whether a cell's rate is what the link has for its traffic: of the background, and of what shares the link with more
/// important traffic.
#[inline(always)]
pub const fn is_adaptive(index: u32) -> bool {
    index.wrapping_sub(FIRST_BACKGROUND) < FIRST_FREE - FIRST_BACKGROUND
}

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
    /// How far the clock may run ahead of the present where packets are dropped (policing), in
    /// [`clock::Ticks`].
    pub policing_bound: u64,
    /// The same where packets are delayed (pacing).
    pub pacing_bound: u64,
    /// Where packets are delayed, senders are told now and then to slow down when it is further ahead
    /// than this, in [`clock::Ticks`]; see [`Self::told_after`].
    pub signal_after: u64,
    /// See above, in [`clock::Ticks`].
    pub start: u64,
    /// See above, in [`clock::Ticks`].
    pub work: u64,
    /// Not before this time is the next sender told, in [`clock::Ticks`].
    pub next_signal: u64,
    /// How many were told since the clock was last within that.
    pub signals: u64,
    /// Of a download: the windows that its senders are given.
    pub control: Control,
    /// What was in flight when the limit came.
    pub landing: Landing,
}
map_value!(Limit, 152);

/// How long the first told sender is given before the next is told, besides twice the debt that
/// its packets wait for.
const GRACE: clock::Ticks = 200 * clock::TICKS_PER_SECOND / 1000;

/// What a limit did since it was set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enforced {
    /// Payload bytes dropped.
    pub dropped_bytes: u64,
    /// Packets dropped.
    pub dropped_packets: u64,
    /// Packets marked as having met congestion, in place of being dropped.
    pub marked_packets: u64,
}
map_value!(Enforced, 24);

/// How many devices of a slot are looked at without a search. The others are in a map.
pub const MAX_PACED: usize = 4;

/// How many devices beyond those the map can hold, of all slots together.
pub const MAX_MORE_PACED: u32 = 16_384;

/// The key of a slot's device in that map.
#[inline(always)]
pub const fn more_paced(slot: u32, device: u32) -> u64 {
    (slot as u64) << 32 | device as u64
}

/// Where the packets of a slot can be paced: devices on which fq holds them until their departure
/// time.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paced {
    /// Interface indexes in the network namespace of the process; 0 is none. Written by user
    /// space.
    pub devices: [u32; MAX_PACED],
    /// The last other device that a packet left by. Written by the kernel, for user space to see
    /// to it.
    pub other: u32,
    /// 1 if further devices are in the map.
    pub more: u32,
    /// Until when TCP keeps what it would send, in nanoseconds of `CLOCK_MONOTONIC`: while fq is put on a
    /// device, which drops for a moment what is sent, as every change of a root qdisc does.
    pub held_until: u64,
    /// Until when senders to the process may not have been told of its limit, in nanoseconds of
    /// `CLOCK_MONOTONIC`: until the window program is on a device that was not known of. 0 where it is on all from
    /// the start.
    pub untold_until: u64,
}
map_value!(Paced, 40);

impl Paced {
    /// Whether packets that leave by `device` are held until their departure time.
    #[inline(always)]
    pub const fn on(&self, device: u32) -> bool {
        let [a, b, c, d] = self.devices;
        device != 0 && (a == device || b == device || c == device || d == device)
    }
}

/// Above so many segments a sent TCP packet is a large one.
const FEW_SEGMENTS: u64 = 2;

/// The furthest ahead of a paced upload's clock at which TCP may send a large packet. Beyond it, TCP
/// keeps the packet and makes smaller ones. Below its least retransmission timeout (`TCP_RTO_MIN`, 200
/// ms), which would otherwise expire for packets that fq still holds.
const LARGE_BOUND: clock::Ticks = 150 * clock::TICKS_PER_SECOND / 1000;

/// A large packet that takes longer than this at the limit's rate, in milliseconds, is kept by TCP, where its send window
/// makes smaller ones. The first ten segments of a connection (RFC 6928) take as long at 48 kB/s.
const LARGE_TIME: u64 = 300;

/// How a limit is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcing {
    /// By dropping what is too early.
    Policing,
    /// By delaying it.
    Pacing,
}

impl Enforcing {
    /// From a number, as functions of eBPF programs hand it on: 0 is policing.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Policing,
            _ => Self::Pacing,
        }
    }
}

/// What is to be done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Let it through: first store `start` if there is one, then add `cost` to `work`.
    Admit {
        /// The clock had fallen behind: where it starts again.
        start: Option<u64>,
        /// What the packet costs, in [`clock::Ticks`].
        cost: u64,
        /// How far ahead the clock was: the delay with which a paced packet departs.
        delay: u64,
        /// It is time to tell a sender to slow down, by marking this packet (ECN, RFC 3168) or,
        /// where packets are paced, by dropping just this one. A single loss costs a flow one
        /// retransmission; the bounds would cost it as many as fit into a round trip. Whatever is
        /// done, the time of [`Limit::signal_again`] is to be stored.
        signal: bool,
        /// What is to be added to [`Landing::owed`], if it is not 0.
        owed: i64,
    },
    /// Drop it; nothing is charged.
    Drop,
}

/// Decides about a packet of `payload` bytes at `now`, which may be one of a flight that lands.
///
/// The bound is checked before the packet is charged, so a packet of any size passes once the
/// clock is within the bound: none can starve.
#[inline(always)]
pub const fn admit(
    limit: &Limit,
    now: clock::Ticks,
    payload: u64,
    by: Enforcing,
    lands: Option<Lands>,
) -> Decision {
    if limit.rate == 0 {
        return Decision::Drop;
    }
    let lands_now = limit.landing.is_on(now) && limit.landing.flight > 0;
    let mut bound = match by {
        Enforcing::Policing => limit.policing_bound,
        Enforcing::Pacing => limit.pacing_bound,
    };
    if lands_now {
        // What landed is no reason to drop what comes behind it.
        bound += landing::most(by);
    }
    let full = clock::cost(payload, limit.rate);
    let (start, delay, paid) = match limit.debt(now) {
        // The store makes the clock stand at the present, whatever `work` is. Time that was not
        // used earns nothing, but pays what is owed.
        None => {
            let idle = now.wrapping_sub(limit.start.wrapping_add(limit.work));
            let start = Some(now.wrapping_sub(limit.work));
            (start, 0, limit.landing.at_most_owed(idle))
        }
        Some(debt) if debt > bound && lands.is_none() => return Decision::Drop,
        Some(debt) => (None, debt, 0),
    };
    let (cost, owed) = match lands {
        Some(lands) => {
            let cost = landing::cost(limit, delay, payload, full, by, lands);
            (cost, (full - cost) as i64)
        }
        None if paid > 0 => (full, 0),
        None => {
            let instalment = limit.landing.instalment(full);
            (full + instalment, -(instalment as i64))
        }
    };
    Decision::Admit {
        start,
        cost,
        delay,
        signal: !lands_now
            && delay > limit.told_after(by)
            && (limit.signals == 0 || clock::debt(limit.next_signal, now).is_none()),
        owed: owed - paid as i64,
    }
}

impl Limit {
    /// How far ahead of a paced upload's clock TCP may send a packet of so many segments. What may not
    /// be sent yet, TCP keeps.
    #[inline(always)]
    pub const fn tcp_upload_bound(&self, segments: u64) -> clock::Ticks {
        if segments > FEW_SEGMENTS {
            LARGE_BOUND
        } else if self.signal_after > self.policing_bound {
            self.signal_after
        } else {
            self.policing_bound
        }
    }

    /// Whether TCP, which sends `payload` bytes in so many segments, is to send them in smaller packets.
    #[inline(always)]
    pub const fn is_too_large(&self, payload: u64, segments: u64) -> bool {
        // payload / rate > LARGE_TIME, without a division. At a rate that would overflow, no packet takes long.
        segments > FEW_SEGMENTS
            && self.rate > 0
            && self.rate < 1 << 50
            && payload * 1000 > self.rate * LARGE_TIME
    }

    /// Further ahead than this, senders are told to slow down: see [`Decision::Admit::signal`]. Where packets are
    /// dropped, shortly before that: windows hold most senders, and let the clock run ahead as far as it takes.
    #[inline(always)]
    pub const fn told_after(&self, by: Enforcing) -> clock::Ticks {
        match by {
            Enforcing::Pacing => self.signal_after,
            Enforcing::Policing => self.policing_bound - self.policing_bound / 8,
        }
    }

    /// When the next sender is to be told, after one was told at `now` with the clock ahead by
    /// `delay`: sooner the more of them did not help, as there may be many flows.
    #[inline(always)]
    pub const fn signal_again(&self, now: clock::Ticks, delay: clock::Ticks) -> clock::Ticks {
        // Checked, because a division that may panic has no place in an eBPF program.
        let wait = match (2 * delay + GRACE).checked_div(self.signals.wrapping_add(1)) {
            Some(wait) => wait,
            None => 0,
        };
        now.wrapping_add(wait)
    }

    /// How far the clock is ahead of `now`: the length of the virtual queue. Nothing if it is
    /// behind.
    #[inline(always)]
    pub const fn debt(&self, now: clock::Ticks) -> Option<clock::Ticks> {
        clock::debt(self.start.wrapping_add(self.work), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{TICKS_PER_SECOND, Ticks};
    use proptest::prelude::*;

    fn apply(limit: &mut Limit, now: Ticks, payload: u64) -> bool {
        match admit(limit, now, payload, Enforcing::Policing, None) {
            Decision::Drop => false,
            Decision::Admit { start, cost, .. } => {
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
            policing_bound: 350 * TICKS_PER_SECOND / 1000,
            ..Limit::default()
        }
    }

    #[test]
    fn a_rate_of_zero_lets_nothing_through() {
        assert_eq!(
            admit(&limit(0), 5, 1, Enforcing::Pacing, None),
            Decision::Drop
        );
    }

    #[test]
    fn the_first_cells_are_the_adaptive_ones() {
        let adaptive = (0..1000).filter(|index| is_adaptive(*index));
        assert!(adaptive.eq(FIRST_BACKGROUND..FIRST_FREE));
        assert!(!is_adaptive(u32::MAX));
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
        let decisions = [now, now + 10].map(|now| admit(&l, now, 1000, Enforcing::Policing, None));
        for decision in decisions {
            let Decision::Admit { start, cost, .. } = decision else {
                panic!("within the bound")
            };
            l.start = start.unwrap();
            l.work += cost;
        }
        let ahead = l.start.wrapping_add(l.work) - now;
        let costs = 2 * clock::cost(1000, l.rate);
        assert!((costs..costs + 20).contains(&ahead), "{ahead} {costs}");
    }

    #[test]
    fn a_paced_packet_departs_when_the_ones_before_it_have_left() {
        let mut l = limit(1_000_000);
        l.pacing_bound = TICKS_PER_SECOND;
        let now = 5 * TICKS_PER_SECOND;
        let mut departures = Vec::new();
        for _ in 0..3 {
            let Decision::Admit {
                start, cost, delay, ..
            } = admit(&l, now, 1000, Enforcing::Pacing, None)
            else {
                panic!("within the bound")
            };
            l.start = start.unwrap_or(l.start);
            l.work += cost;
            departures.push(delay * 1000 / TICKS_PER_SECOND);
        }
        assert_eq!(departures, [0, 1, 2], "milliseconds");
    }

    #[test]
    fn senders_are_told_one_by_one_and_sooner_when_it_does_not_help() {
        let mut l = limit(1_000_000);
        l.signal_after = TICKS_PER_SECOND / 10;
        l.pacing_bound = TICKS_PER_SECOND;
        let begin = 5 * TICKS_PER_SECOND;
        // Half a second of debt that never shrinks: a packet of 1 ms every millisecond.
        l.start = begin + TICKS_PER_SECOND / 2;
        let mut told = Vec::new();
        for ms in 0..3000u64 {
            let now = begin + ms * TICKS_PER_SECOND / 1000;
            let Decision::Admit {
                cost,
                delay,
                signal,
                ..
            } = admit(&l, now, 1000, Enforcing::Pacing, None)
            else {
                panic!("within the bound")
            };
            l.work += cost;
            if signal {
                told.push(ms);
                l.next_signal = l.signal_again(now, delay);
                l.signals += 1;
            }
        }
        // 1.2 s, then halves, thirds and so on of it.
        assert_eq!(told, [0, 1201, 1802, 2203, 2504, 2745, 2946]);
    }

    #[test]
    fn a_packet_that_takes_long_at_the_rate_is_too_large_unless_it_has_few_segments() {
        for (rate, payload, segments, too_large) in [
            (64_000, 14_480, 10, false),
            (64_000, 65_160, 45, true),
            (1_250_000, 65_160, 45, false),
            (1_000, 2_896, 2, false),
            (1_000, 4_344, 3, true),
            (0, 65_160, 45, false),
        ] {
            let large = limit(rate).is_too_large(payload, segments);
            assert_eq!(large, too_large, "{payload} bytes at {rate}");
        }
    }

    #[test]
    fn packets_are_paced_on_the_devices_named_and_no_other() {
        let paced = Paced {
            devices: [3, 9, 0, 0],
            ..Paced::default()
        };
        assert!(paced.on(3) && paced.on(9));
        assert!(!paced.on(0) && !paced.on(4));
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
