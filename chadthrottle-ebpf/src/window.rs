//! The windows that a limited, paced download advertises.
//!
//! Two programs do it together. The throttle pair's egress knows the limit and the socket and
//! grants a window, but may not write into packets; a tc program on the device may, and writes the
//! granted window into the packet that passes it next. A grant lasts no longer than it takes to
//! get from one to the other, so a tc program alone does nothing.

use core::ptr::NonNull;

use aya_ebpf::{
    Global,
    bindings::bpf_sock,
    helpers::bpf_ktime_get_ns,
    programs::{SkBuffContext, TcContext},
};
use chadthrottle_common::{
    clock::Ticks,
    limit::{Enforcing, Limit},
    window::{self, Control, Grant, MPTCP_AIM, POLICED_AIM},
};

use crate::{landing, maps::GRANTS, segment::Segment, socket};

/// Where the kernel keeps `tcp_sock.rx_opt.rcv_wscale`, in bits; 0 if that is not known, and then
/// no window is granted. User space finds it in the kernel's BTF.
#[unsafe(no_mangle)]
pub static WINDOW_SCALE_OFFSET: Global<u32> = Global::new(0);

/// How long a grant holds, in nanoseconds: from one program to the next.
const GRANT_HOLDS: u64 = 100_000_000;

/// Grants the packet's socket a window for its download, whose clock is ahead by `debt`. Returns how
/// much sooner than that is repaid the packet may leave.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "inlined; a struct of them costs stack"
)]
pub fn grant(
    ctx: &SkBuffContext,
    limit: *mut Limit,
    seen: &Limit,
    ktime: u64,
    now: Ticks,
    debt: Ticks,
    by: Enforcing,
    untold: bool,
) -> Option<Ticks> {
    let offset = WINDOW_SCALE_OFFSET.load();
    if offset == 0 {
        return None;
    }
    let socket = socket::of_packet(&ctx.skb)?;
    let Path {
        base,
        round_trip,
        segment,
        received,
    } = path(socket)?;
    let scale = scale(socket, offset)?;
    // SAFETY: a full socket.
    let grant = unsafe { GRANTS.get_or_insert(socket.as_ptr().cast(), Grant::default()) }?;
    let grant = grant.as_ptr();
    landing::begin(socket, limit, seen, grant, untold, ktime, now);
    // SAFETY: the socket's own storage, and the limit is a map's element, of which other CPUs may
    // store another control: each is as good.
    unsafe {
        let counted = (*grant).counted;
        let control = read(&raw const (*limit).control);
        let control = match by {
            Enforcing::Policing => control.count(now, counted),
            Enforcing::Pacing if seen.landing.holds(now) => control.land(now, counted),
            Enforcing::Pacing => {
                control.acknowledge(now, seen.rate, seen.work, debt, base, counted)
            }
        };
        store(&raw mut (*limit).control, &control);
        (*grant).counted = control.since;
        let window = match by {
            Enforcing::Policing => {
                let aim = match socket::mptcp(socket) {
                    Some(_) => MPTCP_AIM,
                    None => POLICED_AIM,
                };
                control.policed_window(seen.rate, debt, base, segment, aim)
            }
            Enforcing::Pacing => control.window(seen.rate, base, segment),
        };
        (*grant).first = Control::first(window, segment);
        (*grant).window = if seen.landing.holds(now) && (*grant).first < window {
            (*grant).first
        } else {
            window
        };
        (*grant).most_ahead = Control::most_ahead(seen.rate, seen.signal_after, base);
        (*grant).round_trip = round_trip;
        (*grant).scale = scale;
        (*grant).until = ktime + GRANT_HOLDS;
        if seen.landing.holds(now) {
            // What a flight cost is not what it costs at the rate.
            return None;
        }
        Some((*grant).ahead_of_batch(received, segment, seen.rate))
    }
}

/// A copy of a control, its fields read once each, like READ_ONCE.
///
/// # Safety
///
/// `control` must be in a map's element.
#[inline(always)]
pub unsafe fn read(control: *const Control) -> Control {
    // SAFETY: the caller's.
    unsafe {
        Control {
            since: (&raw const (*control).since).read_volatile(),
            work: (&raw const (*control).work).read_volatile(),
            shortest: (&raw const (*control).shortest).read_volatile(),
            shares: (&raw const (*control).shares).read_volatile(),
            flows: (&raw const (*control).flows).read_volatile(),
            flows_before: (&raw const (*control).flows_before).read_volatile(),
            used: (&raw const (*control).used).read_volatile(),
            base: (&raw const (*control).base).read_volatile(),
            wait: (&raw const (*control).wait).read_volatile(),
        }
    }
}

/// Stores a control's fields once each, like WRITE_ONCE.
///
/// # Safety
///
/// As of [`read`].
#[inline(always)]
pub unsafe fn store(control: *mut Control, new: &Control) {
    // SAFETY: the caller's.
    unsafe {
        (&raw mut (*control).since).write_volatile(new.since);
        (&raw mut (*control).work).write_volatile(new.work);
        (&raw mut (*control).shortest).write_volatile(new.shortest);
        (&raw mut (*control).shares).write_volatile(new.shares);
        (&raw mut (*control).flows).write_volatile(new.flows);
        (&raw mut (*control).flows_before).write_volatile(new.flows_before);
        (&raw mut (*control).used).write_volatile(new.used);
        (&raw mut (*control).base).write_volatile(new.base);
        (&raw mut (*control).wait).write_volatile(new.wait);
    }
}

/// What TCP knows of a socket's path.
pub struct Path {
    /// The shortest round trip, in microseconds.
    pub base: u32,
    /// The usual one, if that is longer.
    pub round_trip: u32,
    /// The size of a segment, in bytes.
    pub segment: u32,
    /// The next sequence number that is waited for.
    pub received: u32,
}

/// What is known of a TCP socket's path.
#[inline(always)]
pub fn path(socket: NonNull<bpf_sock>) -> Option<Path> {
    let tcp = socket::tcp(socket)?.as_ptr();
    // SAFETY: fields of what the helper told.
    unsafe {
        let shortest = (*tcp).rtt_min;
        Some(Path {
            base: window::base(shortest),
            round_trip: window::round_trip(shortest, (*tcp).srtt_us >> 3),
            segment: (*tcp).mss_cache,
            received: (*tcp).rcv_nxt,
        })
    }
}

/// By how many bits windows of the socket are scaled (RFC 7323, section 2), by the place of that field in
/// bits.
#[inline(always)]
pub fn scale(socket: NonNull<bpf_sock>, offset: u32) -> Option<u32> {
    let tcp = socket::structure(socket)?.as_ptr();
    // SAFETY: the kernel checks when it loads the program that the offset is that of a field.
    unsafe {
        let byte = tcp.cast::<u8>().add((offset / 8) as usize).read_volatile();
        Some(u32::from(byte >> (offset % 8)) & 0xf)
    }
}

/// Writes the window that a packet's socket was granted into the packet.
#[inline(always)]
pub fn advertise(ctx: &TcContext) {
    let Some(socket) = socket::of_packet(&ctx.skb) else {
        return;
    };
    // SAFETY: a full socket.
    let Some(mut grant) = (unsafe { GRANTS.get(socket.as_ptr().cast()) }) else {
        return;
    };
    // SAFETY: the socket's own storage; whoever else sends for it overwrites it with as good.
    let grant = unsafe { grant.as_mut() };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    if now > grant.until {
        return;
    }
    let Some(segment) = Segment::of(&ctx.skb) else {
        return;
    };
    // It leaves when fq lets it.
    // SAFETY: a field of a valid context.
    let departs = unsafe { (*ctx.skb.skb).tstamp };
    grant.told(segment.header, if departs > now { departs } else { now });
    if let Some(field) = grant.advertise(segment.header) {
        segment.set_window(ctx, field);
    }
}
