//! What background traffic tells of the link: how much of it there is, how long its round trips are, and how many
//! packets met congestion.

use aya_ebpf::{
    bindings::__sk_buff, helpers::generated::bpf_get_socket_cookie, programs::SkBuffContext,
};
use chadthrottle_common::{
    limit::{self, Limit},
    round_trip::{Probe, RoundTrip},
    traffic::{DeviceBytes, Direction, LOOPBACK, device_entry},
    window::Control,
};

use crate::{
    maps::{DEVICES, PROBES, ROUND_TRIPS, SLOTS},
    packet::{self, Packet},
    socket,
    throttle::ktime,
};

/// Takes note of a packet that a slot sends or receives, whatever becomes of it, if it has background traffic.
#[inline(always)]
pub fn met(ctx: &SkBuffContext, slot: u32, direction: Direction, packet: &Packet) {
    // SAFETY: the context is valid.
    unsafe {
        background_met(
            ctx.skb.skb,
            slot,
            direction.index() as u32,
            packet.amount.wire,
            packet.amount.payload,
        )
    };
}

/// Takes note of one that such a slot sends, and that leaves the machine now or when it has to depart.
#[inline(always)]
pub fn leaves(ctx: &SkBuffContext, slot: u32) {
    // SAFETY: the context is valid.
    unsafe { background_left(ctx.skb.skb, slot) };
}

/// The device that the packet is counted by, if the link's rest is for any of its slot's traffic.
#[inline(always)]
fn device_of_background(ctx: &SkBuffContext, slot: u32) -> Option<u32> {
    let state = SLOTS.get(slot).filter(|state| state.has_adaptive())?;
    Some(device_entry(state.namespace, device(ctx)))
}

/// Keeps windows from growing if the limit is that of background traffic; to be asked before they are found.
///
/// # Safety
///
/// The limit must be a map's element.
#[inline(always)]
pub unsafe fn keep_windows(limit: *mut Limit, index: u32) {
    if !limit::is_adaptive(index) {
        return;
    }
    // SAFETY: the caller's. Other CPUs may write it, too: each value is as good.
    unsafe {
        let control = &raw mut (*limit).control;
        let shortest = &raw mut (*control).shortest;
        let shares = (&raw const (*control).shares).read_volatile();
        let rate = (&raw const (*limit).rate).read_volatile();
        let seen = Control::shortest_of_background(shares, shortest.read_volatile(), rate);
        shortest.write_volatile(seen);
    }
}

/// Whether a packet stays on this machine.
#[inline(always)]
pub fn stays(ctx: &SkBuffContext) -> bool {
    device(ctx) == LOOPBACK
}

#[inline(always)]
fn device(ctx: &SkBuffContext) -> u32 {
    // SAFETY: a field of a valid context.
    unsafe { (*ctx.skb.skb).ifindex }
}

/// A global function, as [`crate::throttle::answer_download`]. It finds out by itself whether there is anything to do: of
/// a branch the caller's verifier would go both ways, and its stack has no room for the answer.
///
/// # Safety
///
/// The context must be valid.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn background_met(
    skb: *mut __sk_buff,
    slot: u32,
    direction: u32,
    wire: u64,
    payload: u64,
) -> u32 {
    let ctx = &SkBuffContext::new(skb);
    let Some(device) = device_of_background(ctx, slot) else {
        return 0;
    };
    let Some(bytes) = DEVICES.get_ptr_mut(device) else {
        return 0;
    };
    // SAFETY: the pointer is this CPU's own, existing element. By a variable index the verifier would not let it be
    // reached.
    unsafe {
        if direction != 0 {
            (*bytes).background[1] = (*bytes).background[1].wrapping_add(wire);
            return 0;
        }
        (*bytes).background[0] = (*bytes).background[0].wrapping_add(wire);
        if packet::is_marked(ctx) {
            (*bytes).congested[0] = (*bytes).congested[0].wrapping_add(1);
        }
    }
    answered(ctx, bytes, device, payload as u32)
        .is_some()
        .into()
}

#[inline(always)]
fn answered(ctx: &SkBuffContext, bytes: *mut DeviceBytes, device: u32, payload: u32) -> Option<()> {
    let socket = socket::of_packet(&ctx.skb)?;
    // SAFETY: a full socket.
    let probe = unsafe { PROBES.get(socket.as_ptr().cast()) }?;
    let timestamps = packet::timestamps(ctx)?;
    let probe = probe.as_ptr();
    let tcp = socket::tcp(socket)?;
    // SAFETY: the socket's own storage: who sends for it at the same time overwrites it with as good. And this CPU's own
    // element.
    let (nanoseconds, shortest) = unsafe {
        // As of the packet before.
        let more = (*probe).heard((*tcp.as_ptr()).bytes_acked);
        (*bytes).acknowledged = (*bytes).acknowledged.wrapping_add(more);
        if (*probe).arrived(timestamps.sequence, payload) {
            (*bytes).congested[0] = (*bytes).congested[0].wrapping_add(1);
        }
        let nanoseconds = (*probe).answered(timestamps.echo, ktime())?;
        (nanoseconds, (*tcp.as_ptr()).rtt_min)
    };
    let mut entry = ROUND_TRIPS.reserve(0)?;
    entry.write(RoundTrip {
        // SAFETY: a valid context.
        flow: unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) },
        nanoseconds,
        device,
        shortest,
    });
    entry.submit(0);
    Some(())
}

/// The same for what leaves.
///
/// # Safety
///
/// As of [`background_met`].
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn background_left(skb: *mut __sk_buff, slot: u32) -> u32 {
    let ctx = &SkBuffContext::new(skb);
    device_of_background(ctx, slot)
        .and_then(|device| left(ctx, device))
        .is_some()
        .into()
}

#[inline(always)]
fn left(ctx: &SkBuffContext, device: u32) -> Option<()> {
    let socket = socket::of_packet(&ctx.skb)?;
    let timestamps = packet::timestamps(ctx)?;
    let now = ktime();
    // SAFETY: a field of a valid context. TCP gives each segment the time at which it is to depart.
    let tstamp = unsafe { (*ctx.skb.skb).tstamp };
    let departs = if tstamp > now { tstamp } else { now };
    let tcp = socket::tcp(socket)?;
    // SAFETY: a full socket, and its own storage as in `answered`. And this CPU's own element.
    unsafe {
        let probe = PROBES.get_or_insert(socket.as_ptr().cast(), Probe::default())?;
        let probe = probe.as_ptr();
        (*probe).sent(timestamps.value, now, departs);
        let tcp = tcp.as_ptr();
        // What is sent again after a timeout may have waited here. Of a loss the peer tells: it has what came after it.
        let more = (*probe).sent_again((*tcp).total_retrans);
        if more != 0
            && (*tcp).sacked_out != 0
            && let Some(bytes) = DEVICES.get_ptr_mut(device)
        {
            (*bytes).congested[1] = (*bytes).congested[1].wrapping_add(more.into());
        }
    }
    Some(())
}
