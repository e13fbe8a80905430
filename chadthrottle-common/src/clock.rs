//! The arithmetic of virtual time, the same code in the kernel and in host tests.
//!
//! Time is counted in 1/256 ns, so that one byte at 10 GB/s (0.1 ns) still costs something: at
//! that rate a full segment is charged to within 0.003 %. All of it wraps; comparisons look at the
//! signed difference, which is right for distances up to 1.1 years.

/// A time or a duration on the virtual clock: 1/256 ns.
pub type Ticks = u64;

/// Ticks in a nanosecond.
pub const TICKS_PER_NANOSECOND: u64 = 256;

/// Ticks in a second.
pub const TICKS_PER_SECOND: u64 = 1_000_000_000 * TICKS_PER_NANOSECOND;

/// A clock further ahead than this (0.57 years) can't be debt: it is a clock left behind for so
/// long that the signed difference turned over.
const IMPLAUSIBLE: u64 = 1 << 62;

/// `ktime`, the nanoseconds of `CLOCK_MONOTONIC`, as ticks.
#[inline(always)]
pub const fn from_nanoseconds(ktime: u64) -> Ticks {
    ktime.wrapping_mul(TICKS_PER_NANOSECOND)
}

/// How long `bytes` take at `rate` bytes a second, rounded down to a tick.
///
/// Does not overflow up to 64 MiB, far above the largest GSO packet. `rate` must not be 0; the
/// callers have turned that case away, and eBPF defines a division by 0 as 0.
#[inline(always)]
pub const fn cost(bytes: u64, rate: u64) -> Ticks {
    (bytes * TICKS_PER_SECOND) / rate
}

/// How far `clock` is ahead of `now`; nothing if it is behind.
#[inline(always)]
pub const fn debt(clock: Ticks, now: Ticks) -> Option<Ticks> {
    let ahead = clock.wrapping_sub(now);
    if ahead > IMPLAUSIBLE {
        None
    } else {
        Some(ahead)
    }
}

/// The debt of `debt` ticks at rate `old`, told in ticks at rate `new`: a changed rate keeps the
/// bytes that are owed, so that it neither stalls nor bursts.
pub const fn rescale(debt: Ticks, old: u64, new: u64) -> Ticks {
    if new == 0 {
        return 0;
    }
    let ticks = debt as u128 * old as u128 / new as u128;
    if ticks > IMPLAUSIBLE as u128 {
        IMPLAUSIBLE
    } else {
        ticks as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn costs() {
        for (bytes, rate, ticks) in [
            (0, 1, 0),
            (1, 1, TICKS_PER_SECOND),
            (1000, 1000, TICKS_PER_SECOND),
            (1448, 10_000_000_000, 37_068),
            (65_536, 8_000, 8_192 * TICKS_PER_SECOND / 1000),
        ] {
            assert_eq!(cost(bytes, rate), ticks, "{bytes} bytes at {rate}");
        }
    }

    #[test]
    fn debts() {
        assert_eq!(debt(10, 4), Some(6));
        assert_eq!(debt(10, 10), Some(0));
        assert_eq!(debt(4, 10), None);
        assert_eq!(debt(2, u64::MAX - 1), Some(4), "across the wrap");
        assert_eq!(debt(u64::MAX, 1), None, "across the wrap");
    }

    #[test]
    fn a_changed_rate_keeps_the_bytes_owed() {
        assert_eq!(rescale(100, 10, 1000), 1);
        assert_eq!(rescale(100, 1000, 10), 10_000);
        assert_eq!(rescale(100, 1000, 0), 0);
        assert_eq!(rescale(IMPLAUSIBLE, u64::MAX, 1), IMPLAUSIBLE);
    }

    proptest! {
        #[test]
        fn cost_is_exact_to_a_tick(bytes in 0u64..(1 << 26), rate in 1u64..100_000_000_000) {
            let exact = bytes as u128 * TICKS_PER_SECOND as u128 / rate as u128;
            prop_assert_eq!(cost(bytes, rate) as u128, exact);
        }

        #[test]
        fn debt_is_the_distance(now: u64, ahead in 0..IMPLAUSIBLE) {
            prop_assert_eq!(debt(now.wrapping_add(ahead), now), Some(ahead));
            prop_assert_eq!(debt(now.wrapping_sub(ahead + 1), now), None);
        }
    }
}
