//! Which packets of a download were in flight when its limit came, and are let in.

use core::ptr::NonNull;

use aya_ebpf::{Global, bindings::bpf_sock, programs::SkBuffContext};
use chadthrottle_common::{clock::Ticks, landing::Lands, limit::Limit, window::Grant};

use crate::{maps::GRANTS, socket, throttle};

/// Where the kernel keeps `tcp_sock.rcv_wnd` and `tcp_sock.rcv_wup`, in bytes; 0 if that is not
/// known, and then nothing lands. User space finds them in the kernel's BTF.
#[unsafe(no_mangle)]
pub static RECEIVE_WINDOW_OFFSET: Global<u32> = Global::new(0);
/// See [`RECEIVE_WINDOW_OFFSET`].
#[unsafe(no_mangle)]
pub static WINDOW_UPDATE_OFFSET: Global<u32> = Global::new(0);

/// Whether a packet with payload was in flight when its limit came; `seen` is the limit at `ktime`
/// nanoseconds, which is `now`. Its sender may be `untold`, see
/// [`Paced`](chadthrottle_common::limit::Paced).
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "inlined; a struct of them costs stack"
)]
pub fn lands(
    ctx: &SkBuffContext,
    limit: *mut Limit,
    seen: &Limit,
    payload: u64,
    untold: bool,
    ktime: u64,
    now: Ticks,
) -> Option<Lands> {
    if !seen.landing.is_on(now) {
        return None;
    }
    let socket = socket::of_packet(&ctx.skb)?;
    // SAFETY: a full socket.
    let grant = unsafe { GRANTS.get_or_insert(socket.as_ptr().cast(), Grant::default()) }?;
    let grant = grant.as_ptr();
    begin(socket, limit, seen, grant, untold, ktime, now)?;
    // SAFETY: the socket's own storage. Packets of a socket come one after the other.
    unsafe {
        if (*grant).heard == 0 && untold {
            // What it sends meanwhile is allowed by what the process still advertises.
            return (*grant).has_flight().then_some(Lands::InTime);
        }
        if u64::from((*grant).flight) < payload {
            return None;
        }
        (*grant).flight -= payload as u32;
        Some(if (*grant).heard == 0 || ktime < (*grant).heard {
            Lands::InTime
        } else {
            Lands::Late
        })
    }
}

/// Takes note of what may be in flight to a TCP socket, with its first packet since the limit was
/// set, whichever way that goes: before the socket is granted another window.
#[inline(always)]
pub fn begin(
    socket: NonNull<bpf_sock>,
    limit: *mut Limit,
    seen: &Limit,
    grant: *mut Grant,
    untold: bool,
    ktime: u64,
    now: Ticks,
) -> Option<()> {
    // SAFETY: the socket's own storage, and an element of a map.
    unsafe {
        if !seen.landing.is_on(now) || (*grant).landing == seen.landing.since {
            return Some(());
        }
        let (received, before) = received(socket)?;
        // A connection that has received nothing yet has nothing in flight worth a pardon: or
        // opening new ones would be a way around the limit.
        let own = if before {
            Some(own_window(socket, received)?)
        } else {
            None
        };
        (*grant).land(seen.landing.since, received, own, untold, ktime);
        throttle::add(&raw mut (*limit).landing.flight, (*grant).flight.into());
    }
    Some(())
}

/// The next sequence number that a TCP socket waits for, and whether it received anything before.
#[inline(always)]
fn received(socket: NonNull<bpf_sock>) -> Option<(u32, bool)> {
    let tcp = socket::tcp(socket)?.as_ptr();
    // SAFETY: fields of what the helper told.
    unsafe { Some(((*tcp).rcv_nxt, (*tcp).bytes_received > 0)) }
}

/// How many bytes from `received` on the process itself has allowed: `tcp_receive_window`.
#[inline(always)]
fn own_window(socket: NonNull<bpf_sock>, received: u32) -> Option<u32> {
    let (window, update) = (RECEIVE_WINDOW_OFFSET.load(), WINDOW_UPDATE_OFFSET.load());
    if window == 0 || update == 0 {
        return None;
    }
    let tcp = socket::structure(socket)?.as_ptr();
    // SAFETY: the kernel checks when it loads the program that the offsets are those of fields.
    unsafe {
        let field = |offset: u32| {
            (tcp.cast::<u8>().add(offset as usize))
                .cast::<u32>()
                .read_volatile()
        };
        let ahead = field(update)
            .wrapping_add(field(window))
            .wrapping_sub(received);
        Some(if ahead > i32::MAX as u32 { 0 } else { ahead })
    }
}
