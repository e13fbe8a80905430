//! The throttle pair: admits or drops the packets of limited processes.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{helpers::bpf_ktime_get_ns, programs::SkBuffContext};
use aya_log_ebpf::debug;
use chadthrottle_common::{
    clock,
    limit::{Decision, Limit, police},
    traffic::Direction,
};

use crate::{
    PASS, count,
    maps::{ENFORCED, LIMITS},
    packet, tag,
};

/// Verdict of a cgroup program: no.
const DROP: i32 = 0;

/// Decides about a packet. An unlimited one costs the tag lookup and no more: no clock is read.
#[inline(always)]
pub fn packet(ctx: &SkBuffContext, direction: Direction) -> i32 {
    let (slot, Some(state)) = tag::of_packet(ctx) else {
        return PASS;
    };
    let index = state.limit(direction);
    if index == 0 {
        return PASS;
    }
    let Some(limit) = LIMITS.get_ptr_mut(index) else {
        return PASS;
    };
    let amount = packet::measure(ctx);
    if amount.payload == 0 {
        // Pure ACKs, SYNs and FINs cost nothing.
        return PASS;
    }
    // SAFETY: an existing array element; the fields are read once each, like READ_ONCE.
    let seen = unsafe {
        Limit {
            rate: (&raw const (*limit).rate).read_volatile(),
            debt_bound: (&raw const (*limit).debt_bound).read_volatile(),
            start: (&raw const (*limit).start).read_volatile(),
            work: (&raw const (*limit).work).read_volatile(),
        }
    };
    // SAFETY: a helper without arguments.
    let now = clock::from_nanoseconds(unsafe { bpf_ktime_get_ns() });
    let decision = police(&seen, now, amount.payload);
    if let Decision::Admit { start, cost } = decision {
        // SAFETY: as above; the store and the atomic add are what the limit's type describes.
        unsafe {
            if let Some(start) = start {
                (&raw mut (*limit).start).write_volatile(start);
            }
            add(&raw mut (*limit).work, cost);
        }
    }
    let admitted = matches!(decision, Decision::Admit { .. });
    if let Some(enforced) = ENFORCED.get_ptr_mut(index) {
        // SAFETY: an existing array element, only ever added to.
        unsafe {
            if (*enforced).admitted_packets == 0 && (*enforced).dropped_packets == 0 {
                debug!(
                    ctx,
                    "slot {}: first packet under limit {}, {} bytes of payload",
                    slot,
                    index,
                    amount.payload
                );
            }
            if admitted {
                add(&raw mut (*enforced).admitted_bytes, amount.payload);
                add(&raw mut (*enforced).admitted_packets, 1);
            } else {
                add(&raw mut (*enforced).dropped_bytes, amount.payload);
                add(&raw mut (*enforced).dropped_packets, 1);
            }
        }
    }
    if admitted {
        PASS
    } else {
        count::dropped(slot, direction, amount);
        DROP
    }
}

/// Adds without losing what other CPUs add.
///
/// # Safety
///
/// `sum` must point into a map's element.
#[inline(always)]
unsafe fn add(sum: *mut u64, amount: u64) {
    // SAFETY: the caller's.
    unsafe {
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(sum, amount);
    }
}
