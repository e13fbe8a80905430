//! The observers: count every packet for its process.

use aya_ebpf::programs::SkBuffContext;
use chadthrottle_common::{
    address::TrafficClass,
    traffic::{Direction, Traffic, device_entry},
};

use crate::{
    maps::{COUNTERS, DEVICES},
    packet, tag,
};

/// Counts a packet. Observers see all that the throttle pair drops, too: user space subtracts it.
#[inline(always)]
pub fn packet(ctx: &SkBuffContext, direction: Direction) {
    let (slot, known) = tag::of_packet(ctx, direction);
    let amount = packet::measure(ctx).amount;
    // SAFETY: the context is valid.
    let device = unsafe { (*ctx.skb.skb).ifindex };
    if let Some(counters) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: the pointer is this CPU's own, existing element.
        unsafe {
            add(&mut (*counters).seen[direction.index()], amount);
            if matches!(direction, Direction::Upload) {
                (*counters).device = device.into();
            }
        }
    }
    let namespace = known.map_or(0, |known| known.state.namespace);
    if let Some(bytes) = DEVICES.get_ptr_mut(device_entry(namespace, device)) {
        // SAFETY: the same.
        let sum = unsafe { &mut (*bytes).seen[direction.index()] };
        *sum = sum.wrapping_add(amount.wire);
    }
}

/// Takes note of payload that the throttle pair lets through.
#[inline(always)]
pub fn admitted(slot: u32, direction: Direction, class: TrafficClass, payload: u64) {
    if let Some(counters) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: the pointer is this CPU's own, existing element.
        let sum = unsafe { &mut (*counters).admitted[direction.index()][class.index()] };
        *sum = sum.wrapping_add(payload);
    }
}

/// Takes note of a packet that the throttle pair drops.
#[inline(always)]
pub fn dropped(slot: u32, direction: Direction, amount: Traffic) {
    if let Some(counters) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: the pointer is this CPU's own, existing element.
        add(
            unsafe { &mut (*counters).dropped[direction.index()] },
            amount,
        );
    }
}

#[inline(always)]
fn add(sum: &mut Traffic, amount: Traffic) {
    *sum = sum.plus(amount);
}
