//! The send windows of limited uploads.
//!
//! As of downloads (see [`crate::window`]) two programs do it together. The throttle pair's egress grants
//! a socket a window; a tc program on the device finds the socket of an acknowledgement that arrives, and
//! makes the window in it as small as was granted.

use core::{mem, ptr::NonNull};

use aya_ebpf::{
    Global,
    bindings::{
        __sk_buff, bpf_sock, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as V4,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as V6,
    },
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_sk_lookup_tcp, bpf_sk_release},
    },
    programs::{SkBuffContext, TcContext},
};
use chadthrottle_common::{
    clock,
    limit::Enforcing,
    send_window::{Granted, SendGrant},
    tag::SocketTag,
    window::POLICED_AIM,
};

use crate::{
    background,
    maps::{LIMITS, SEND_GRANTS, SEND_PORTS},
    segment::{Segment, network},
    socket,
    window::{self, Path},
};

/// Where the kernel keeps `tcp_sock.rx_opt.snd_wscale`, in bits; 0 if that is not known, and then no
/// window is granted. User space finds it in the kernel's BTF.
#[unsafe(no_mangle)]
pub static SEND_SCALE_OFFSET: Global<u32> = Global::new(0);

/// The network namespace of the device.
const CURRENT_NAMESPACE: u64 = -1_i64 as u64;

/// Grants the socket of a sent segment a window, whether the segment may leave or not, by the limit with
/// this index. Returns whether such windows are known to reach it.
#[inline(always)]
pub fn grant(
    ctx: &SkBuffContext,
    mut socket: NonNull<SocketTag>,
    index: u32,
    ktime: u64,
    by: Enforcing,
) -> bool {
    // SAFETY: the socket's own storage, and the context is valid.
    unsafe {
        let granted = &raw mut socket.as_mut().granted;
        if let Some(holds) = Granted(granted.read_volatile()).fresh(ktime) {
            return holds;
        }
        let holds = grant_send_window(ctx.skb.skb, index, ktime, by as u32) != 0;
        // Of what turns out to be no TCP socket, nothing is asked again for as long.
        granted.write_volatile(Granted::now(ktime, holds).0);
        holds
    }
}

/// A global function: the verifier goes through it by itself, and not once more for each way that leads to
/// it. `by` is the number of an [`Enforcing`].
///
/// # Safety
///
/// The context must be valid.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn grant_send_window(
    skb: *mut __sk_buff,
    index: u32,
    ktime: u64,
    by: u32,
) -> u32 {
    let ctx = &SkBuffContext::new(skb);
    match try_grant(ctx, index, ktime, Enforcing::from_number(by)) {
        Some(holds) => holds.into(),
        None => 0,
    }
}

#[inline(always)]
fn try_grant(ctx: &SkBuffContext, index: u32, ktime: u64, by: Enforcing) -> Option<bool> {
    let offset = SEND_SCALE_OFFSET.load();
    if offset == 0 {
        return None;
    }
    let socket = socket::of_packet(&ctx.skb)?;
    // SAFETY: a full socket.
    let grant = unsafe { SEND_GRANTS.get_or_insert(socket.as_ptr().cast(), SendGrant::default()) }?;
    let grant = grant.as_ptr();
    // SAFETY: the socket's own storage, and the limit is a map's element, of which other CPUs may
    // store another control: each is as good.
    unsafe {
        let holds = (*grant).holds != 0;
        let limit = LIMITS.get_ptr_mut(index)?;
        background::keep_windows(limit, index);
        let Path {
            base,
            round_trip,
            segment,
            ..
        } = window::path(socket)?;
        (*grant).scale = window::scale(socket, offset)?;
        let now = clock::from_nanoseconds(ktime);
        let counted = (*grant).counted;
        let rate = (&raw const (*limit).rate).read_volatile();
        let start = (&raw const (*limit).start).read_volatile();
        let work = (&raw const (*limit).work).read_volatile();
        let debt = clock::debt(start.wrapping_add(work), now).unwrap_or(0);
        let control = window::read(&raw const (*limit).control);
        let control = match by {
            Enforcing::Policing => control.count(now, counted),
            Enforcing::Pacing => control.acknowledge(now, rate, work, debt, base, counted),
        };
        window::store(&raw mut (*limit).control, &control);
        (*grant).counted = control.since;
        let window = match by {
            Enforcing::Policing => control.policed_window(rate, debt, base, segment, POLICED_AIM),
            Enforcing::Pacing => control.window(rate, base, segment),
        };
        (*grant).renew(window, segment, round_trip, ktime);
        if let Some(until) = SEND_PORTS.get_ptr_mut((*socket.as_ptr()).src_port) {
            until.write_volatile((*grant).until);
        }
        Some(holds)
    }
}

/// Makes the window in a received segment as small as its socket was granted.
#[inline(always)]
pub fn narrow(ctx: &TcContext) -> Option<()> {
    let segment = Segment::of(&ctx.skb)?;
    // Whoever is not limited costs no search for its socket.
    let until = SEND_PORTS.get(u16::from_be(segment.destination).into())?;
    // SAFETY: a helper without arguments.
    let ktime = unsafe { bpf_ktime_get_ns() };
    if ktime > *until {
        return None;
    }
    let socket = receiver(ctx, &segment)?;
    // SAFETY: a full socket, which is let go of after what is stored with it was read.
    let field = unsafe {
        let grant = SEND_GRANTS.get(socket.as_ptr().cast());
        let field = grant.and_then(|grant| {
            (&raw mut (*grant.as_ptr()).holds).write_volatile(1);
            (*grant.as_ptr()).narrowed(segment.header, ktime)
        });
        bpf_sk_release(socket.as_ptr().cast());
        field
    };
    segment.set_window(ctx, field?);
    Some(())
}

/// The full socket that a segment is for. It must be let go of.
#[inline(always)]
fn receiver(ctx: &TcContext, segment: &Segment) -> Option<NonNull<bpf_sock>> {
    // SAFETY: integers, for which any bytes are a value.
    let mut tuple: bpf_sock_tuple = unsafe { mem::zeroed() };
    let size = if segment.version == 4 {
        let [saddr, daddr]: [u32; 2] = addresses(network::<8>(&ctx.skb, 12)?);
        tuple.__bindgen_anon_1.ipv4 = V4 {
            saddr,
            daddr,
            sport: segment.source,
            dport: segment.destination,
        };
        size_of::<V4>()
    } else {
        let [saddr, daddr]: [[u32; 4]; 2] = addresses(network::<32>(&ctx.skb, 8)?);
        tuple.__bindgen_anon_1.ipv6 = V6 {
            saddr,
            daddr,
            sport: segment.source,
            dport: segment.destination,
        };
        size_of::<V6>()
    };
    // SAFETY: a valid context, and a tuple of that size.
    NonNull::new(unsafe {
        bpf_sk_lookup_tcp(
            ctx.skb.skb.cast(),
            &raw mut tuple,
            size as u32,
            CURRENT_NAMESPACE,
            0,
        )
    })
}

/// The source's and the destination's address out of the bytes of both.
#[inline(always)]
fn addresses<A: Copy, const N: usize>(bytes: [u8; N]) -> [A; 2] {
    const {
        assert!(size_of::<[A; 2]>() == N);
    }
    // SAFETY: as many bytes, of integers.
    unsafe { mem::transmute_copy(&bytes) }
}
