//! The throttle pair: admits, delays, marks or drops the packets of limited processes.

use core::{
    intrinsics::{AtomicOrdering, atomic_xadd},
    ptr,
};

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_ktime_get_ns, generated::bpf_skb_ecn_set_ce},
    programs::SkBuffContext,
};
use aya_log_ebpf::debug;
use chadthrottle_common::{
    address::TrafficClass,
    clock::{self, TICKS_PER_NANOSECOND, Ticks},
    landing::{Landing, Lands},
    limit::{Decision, Enforcing, Limit, UNHELD, admit, more_paced},
    tag::SlotState,
    traffic::Direction,
    window::Control,
};

use crate::{
    PASS, background, count, landing,
    maps::{ENFORCED, LIMITS, MORE_PACED, PACED, ROADS},
    packet, send_window, tag, window,
};

/// Verdict: no. The call of who sends fails with `EPERM`, as a firewall lets it.
const DROP: i32 = 0;

/// Verdict on what is sent: not now, because of congestion (`NET_XMIT_DROP`). 0 would make the sender's
/// call fail with `EPERM`, for which QUIC stacks end the connection. Like this, TCP keeps the
/// segment and tries again, and a datagram is lost as on a full link. Linux 5.10 and later.
const DROP_SENT: i32 = 2;

/// A sender is told to slow down by a packet of so few segments: of one that receive offload made of
/// forty, forty would have to be sent again.
const FEW_SEGMENTS: u64 = 2;

/// Received packets: a limited download is charged. Where its acknowledgements are paced, it is
/// they that slow the sender down; otherwise packets that come too early are dropped.
///
/// A packet of a slot without limits costs the tag lookup and no more: no clock is read.
#[inline(always)]
pub fn ingress(ctx: &SkBuffContext) -> i32 {
    let (slot, Some(tag::Known { state, .. })) = tag::of_packet(ctx, Direction::Download) else {
        return PASS;
    };
    if state.passes(Direction::Download) || is_unheld(state) {
        return PASS;
    }
    let packet = packet::measure(ctx);
    let amount = packet.amount;
    background::met(ctx, slot, Direction::Download, &packet);
    if background::stays(ctx) && state.frees_loopback() {
        count::admitted(
            slot,
            Direction::Download,
            TrafficClass::Local,
            amount.payload,
        );
        return PASS;
    }
    // SYNs, FINs and pure ACKs cost nothing.
    if amount.payload == 0 {
        return PASS;
    }
    let class = packet::class(ctx, Direction::Download, state);
    let index = state.limit(Direction::Download, class);
    if index != 0 {
        let road = road(ctx, slot, Direction::Download);
        let ktime = ktime();
        let charged = charge(
            ctx,
            slot,
            index,
            amount.payload,
            amount.packets,
            ktime,
            road.by,
            Socket::Receives {
                untold: ktime < road.untold_until,
            },
        );
        if charged.is_none() {
            count::dropped(slot, Direction::Download, amount);
            return DROP;
        }
    }
    count::admitted(slot, Direction::Download, class, amount.payload);
    PASS
}

/// Sent packets: a limited upload is charged and, where fq holds packets, departs at its time. Of
/// a limited download, what the process sends departs when the download's debt is repaid, so that
/// the sender sees the round trip of a real queue at that rate.
#[inline(always)]
pub fn egress(ctx: &SkBuffContext) -> i32 {
    let (slot, Some(tag::Known { state, socket })) = tag::of_packet(ctx, Direction::Upload) else {
        return PASS;
    };
    if state.passes(Direction::Upload) && state.passes(Direction::Download) || is_unheld(state) {
        return PASS;
    }
    let packet = packet::measure(ctx);
    background::met(ctx, slot, Direction::Upload, &packet);
    if background::stays(ctx) && state.frees_loopback() {
        count::admitted(
            slot,
            Direction::Upload,
            TrafficClass::Local,
            packet.amount.payload,
        );
        return PASS;
    }
    let class = packet::class(ctx, Direction::Upload, state);
    let upload = state.limit(Direction::Upload, class);
    let download = state.limit(Direction::Download, class);
    if upload != 0 || download != 0 {
        let Road {
            by,
            held_until,
            untold_until,
        } = road(ctx, slot, Direction::Upload);
        let ktime = ktime();
        let mut delay = 0;
        if upload != 0 && packet.amount.payload > 0 {
            if ktime < held_until && packet.is_tcp {
                return DROP_SENT;
            }
            let amount = packet.amount;
            let socket = if packet.is_tcp {
                // Granted whether the segment may leave or not.
                let holds = send_window::grant(ctx, socket, upload, ktime, by);
                Socket::Keeps { holds }
            } else {
                Socket::Sends
            };
            let (payload, packets) = (amount.payload, amount.packets);
            match charge(ctx, slot, upload, payload, packets, ktime, by, socket) {
                Some(ahead) => delay = ahead,
                None => {
                    count::dropped(slot, Direction::Upload, amount);
                    return refusal(upload);
                }
            }
        }
        if download != 0 && packet.clocks_peer {
            let debt = answer(ctx, download, ktime, by, ktime < untold_until);
            if debt > delay {
                delay = debt;
            }
        }
        if by == Enforcing::Pacing && delay > 0 {
            depart(ctx, ktime + delay / TICKS_PER_NANOSECOND);
        }
    }
    background::leaves(ctx, slot);
    count::admitted(slot, Direction::Upload, class, packet.amount.payload);
    PASS
}

/// Whether the slot has no limit but that of everybody else, and that holds nothing at present. One look-up, as of more the
/// stack would be longer than Linux 6.1 allows.
#[inline(always)]
fn is_unheld(state: &SlotState) -> bool {
    state.rest != 0
        && LIMITS
            .get(state.rest)
            .is_some_and(|limit| limit.rate == UNHELD)
}

/// The verdict on what may not be sent.
#[inline(always)]
fn refusal(upload: u32) -> i32 {
    match LIMITS.get(upload) {
        Some(limit) if limit.rate == 0 => DROP,
        _ => DROP_SENT,
    }
}

/// What is sent for a download: how far the download's clock is ahead. TCP gets a window granted.
#[inline(always)]
fn answer(ctx: &SkBuffContext, download: u32, ktime: u64, by: Enforcing, untold: bool) -> Ticks {
    let how = u32::from(untold) << 1 | by as u32;
    // SAFETY: the context is valid.
    unsafe { answer_download(ctx.skb.skb, download, ktime, how) }
}

/// A global function: the verifier goes through it by itself, and not once more for each way that leads to
/// it. `how` is the number of an [`Enforcing`], and 2 where senders may be untold.
///
/// # Safety
///
/// The context must be valid.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn answer_download(
    skb: *mut __sk_buff,
    download: u32,
    ktime: u64,
    how: u32,
) -> Ticks {
    let ctx = &SkBuffContext::new(skb);
    let (by, untold) = (Enforcing::from_number(how & 1), how & 2 != 0);
    let now = clock::from_nanoseconds(ktime);
    let Some(limit) = LIMITS.get_ptr_mut(download) else {
        return 0;
    };
    // SAFETY: a map's element.
    unsafe { background::keep_windows(limit, download) };
    let seen = read(limit, now);
    let debt = seen.debt(now).unwrap_or(0);
    let sooner = window::grant(ctx, limit, &seen, ktime, now, debt, by, untold).unwrap_or(0);
    debt.saturating_sub(sooner)
}

/// The present in nanoseconds of `CLOCK_MONOTONIC`, which is fq's clock, too.
#[inline(always)]
pub fn ktime() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// How packets of a slot are enforced on a device.
struct Road {
    by: Enforcing,
    /// See [`Paced`](chadthrottle_common::limit::Paced).
    held_until: u64,
    /// The same.
    untold_until: u64,
}

/// How packets of the slot are enforced on the packet's device. A device that packets leave by and that has no
/// pacing is noted, for user space to see to it, and told if it is the first.
#[inline(always)]
fn road(ctx: &SkBuffContext, slot: u32, direction: Direction) -> Road {
    let mut road = Road {
        by: Enforcing::Policing,
        held_until: 0,
        untold_until: 0,
    };
    let Some(paced) = PACED.get_ptr_mut(slot) else {
        return road;
    };
    // SAFETY: a valid context and an existing array element; `other` is a hint that any CPU may
    // overwrite.
    unsafe {
        let device = (*ctx.skb.skb).ifindex;
        let is_more = || MORE_PACED.get(&more_paced(slot, device)).is_some();
        road.held_until = (*paced).held_until;
        road.untold_until = (*paced).untold_until;
        if (*paced).on(device) || ((*paced).more != 0 && is_more()) {
            road.by = Enforcing::Pacing;
            return road;
        }
        let other = (*paced).other;
        if matches!(direction, Direction::Upload) && other != device {
            (*paced).other = device;
            // Of a process that uses two by turns, each packet would be news.
            if other == 0
                && let Some(mut entry) = ROADS.reserve(0)
            {
                entry.write(slot);
                entry.submit(0);
            }
        }
    }
    road
}

/// What a charged packet's socket does with it, besides.
#[derive(Clone, Copy)]
enum Socket {
    /// It received the packet; its sender may be `untold`.
    Receives { untold: bool },
    /// It sends, and what may not leave is lost.
    Sends,
    /// TCP, which keeps that. Windows may be known to reach it.
    Keeps { holds: bool },
}

/// A copy of a limit, its fields read once each, like READ_ONCE; of its control only what a packet that passes
/// may change. The first time that anything meets it, its landing begins.
#[inline(always)]
fn read(limit: *mut Limit, now: Ticks) -> Limit {
    let mut seen = copy(limit);
    if seen.landing.begins(now) {
        seen.landing.since = now;
        // SAFETY: an existing array element.
        unsafe { (&raw mut (*limit).landing.since).write_volatile(now) };
    }
    seen
}

#[inline(always)]
fn copy(limit: *const Limit) -> Limit {
    // SAFETY: an existing array element.
    unsafe {
        Limit {
            rate: (&raw const (*limit).rate).read_volatile(),
            policing_bound: (&raw const (*limit).policing_bound).read_volatile(),
            pacing_bound: (&raw const (*limit).pacing_bound).read_volatile(),
            signal_after: (&raw const (*limit).signal_after).read_volatile(),
            start: (&raw const (*limit).start).read_volatile(),
            work: (&raw const (*limit).work).read_volatile(),
            next_signal: (&raw const (*limit).next_signal).read_volatile(),
            signals: (&raw const (*limit).signals).read_volatile(),
            control: Control {
                shortest: (&raw const (*limit).control.shortest).read_volatile(),
                ..Control::default()
            },
            landing: Landing {
                awaited_until: (&raw const (*limit).landing.awaited_until).read_volatile(),
                since: (&raw const (*limit).landing.since).read_volatile(),
                flight: (&raw const (*limit).landing.flight).read_volatile(),
                owed: (&raw const (*limit).landing.owed).read_volatile(),
                held_until: (&raw const (*limit).landing.held_until).read_volatile(),
            },
        }
    }
}

/// Charges a packet to a limit: how far the clock was ahead, or nothing if it must be dropped.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "inlined; a struct of them costs stack"
)]
fn charge(
    ctx: &SkBuffContext,
    slot: u32,
    index: u32,
    payload: u64,
    packets: u64,
    ktime: u64,
    by: Enforcing,
    socket: Socket,
) -> Option<Ticks> {
    let Some(limit) = LIMITS.get_ptr_mut(index) else {
        return Some(0);
    };
    let now = clock::from_nanoseconds(ktime);
    let mut seen = read(limit, now);
    if let Socket::Keeps { holds } = socket {
        // TCP keeps what is too large, or too far ahead of its time.
        if (holds || seen.landing.is_on(now)) && seen.is_too_large(payload, packets) {
            drop(index, payload);
            return None;
        }
        seen.pacing_bound = seen.tcp_upload_bound(packets);
    }
    let lands = match socket {
        Socket::Receives { untold } => {
            landing::lands(ctx, limit, &seen, payload, untold, ktime, now)
        }
        // What is sent is ours to hold.
        Socket::Sends | Socket::Keeps { .. } => None,
    };
    if lands.is_some() {
        // With this flight, if it is the first packet of it.
        // SAFETY: an existing array element.
        seen.landing.flight = unsafe { (&raw const (*limit).landing.flight).read_volatile() };
    }
    if seen.work == 0
        && let Some(enforced) = ENFORCED.get(index)
        && enforced.dropped_packets == 0
    {
        tell_of_first(slot, index, payload);
    }
    // SAFETY: an existing array element; the store and the atomic adds are what their types
    // describe, and the context is valid.
    unsafe {
        let Decision::Admit {
            start,
            cost,
            delay,
            signal,
            owed,
        } = admit(&seen, now, payload, by, lands)
        else {
            drop(index, payload);
            return None;
        };
        if signal {
            (&raw mut (*limit).next_signal).write_volatile(seen.signal_again(now, delay));
            (&raw mut (*limit).signals).write_volatile(seen.signals + 1);
            if bpf_skb_ecn_set_ce(ctx.skb.skb) == 1 {
                if let Some(enforced) = ENFORCED.get_ptr_mut(index) {
                    add(&raw mut (*enforced).marked_packets, 1);
                }
            } else if matches!(by, Enforcing::Pacing)
                && matches!(socket, Socket::Receives { .. })
                && (packets <= FEW_SEGMENTS || delay > 2 * seen.signal_after)
            {
                drop(index, payload);
                return None;
            }
        } else if seen.signals != 0 && delay <= seen.told_after(by) {
            (&raw mut (*limit).signals).write_volatile(0);
        }
        if let Some(start) = start {
            (&raw mut (*limit).start).write_volatile(start);
        }
        add(&raw mut (*limit).work, cost);
        if owed != 0 {
            add((&raw mut (*limit).landing.owed).cast(), owed as u64);
        }
        if matches!(lands, Some(Lands::InTime)) {
            let held_until = now.wrapping_add(delay).wrapping_add(cost);
            (&raw mut (*limit).landing.held_until).write_volatile(held_until);
        }
        if delay < seen.control.shortest {
            (&raw mut (*limit).control.shortest).write_volatile(delay);
        }
        Some(delay)
    }
}

/// Tells who reads the programs' messages that a limit met its first packet. A global function, as
/// [`answer_download`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tell_of_first(slot: u32, index: u32, payload: u64) -> u32 {
    debug!(
        // Which it does not need.
        &SkBuffContext::new(ptr::null_mut()),
        "slot {}: first packet under limit {}, {} bytes of payload", slot, index, payload
    );
    0
}

/// Takes note of a packet that a limit drops.
#[inline(always)]
fn drop(index: u32, payload: u64) {
    if let Some(enforced) = ENFORCED.get_ptr_mut(index) {
        // SAFETY: an existing array element.
        unsafe {
            add(&raw mut (*enforced).dropped_bytes, payload);
            add(&raw mut (*enforced).dropped_packets, 1);
        }
    }
}

/// Gives a packet its departure time in nanoseconds, unless it has a later one already (TCP's own
/// pacing).
#[inline(always)]
fn depart(ctx: &SkBuffContext, at: u64) {
    // SAFETY: a field of a valid context, which cgroup_skb may write since Linux 5.0.
    unsafe {
        if (*ctx.skb.skb).tstamp < at {
            (*ctx.skb.skb).tstamp = at;
        }
    }
}

/// Adds without losing what other CPUs add.
///
/// # Safety
///
/// `sum` must point into a map's element.
#[inline(always)]
pub unsafe fn add(sum: *mut u64, amount: u64) {
    // SAFETY: the caller's.
    unsafe {
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(sum, amount);
    }
}
