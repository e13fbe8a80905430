//! Program entry points; what they do lives in the modules.
//!
//! - `chadthrottle_track`: `cgroup/sock_create`, attached at the cgroup root
//! - `chadthrottle_accept_2`, `_4`: fexit of `inet_csk_accept`
//! - `chadthrottle_send_4`, `_6`: `cgroup/sendmsg4` and `6`, attached at the cgroup root
//! - `chadthrottle_count_*`: observers, attached at the cgroup root
//! - `chadthrottle_ingress`, `chadthrottle_egress`: the throttle pair, attached at the cgroups
//!   of limited processes
//! - `chadthrottle_window`: tc egress, attached at the devices where downloads are limited
//! - `chadthrottle_send_window`: tc ingress, attached at the devices where uploads are limited

#![no_std]
#![no_main]
#![allow(internal_features)]
// AtomicU64::fetch_add is not available for the BPF target; the intrinsic behind it is.
#![feature(core_intrinsics)]

mod background;
mod count;
mod family;
mod landing;
mod maps;
mod packet;
mod segment;
mod send_window;
mod socket;
mod tag;
mod throttle;
mod window;

use aya_ebpf::{
    bindings::TC_ACT_UNSPEC,
    macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr, classifier, fexit, raw_tracepoint},
    programs::{
        FExitContext, RawTracePointContext, SkBuffContext, SockAddrContext, SockContext, TcContext,
    },
};
use chadthrottle_common::traffic::Direction;

/// Verdict of a cgroup program: go on.
const PASS: i32 = 1;

#[cgroup_sock(sock_create)]
pub fn chadthrottle_track(ctx: SockContext) -> i32 {
    tag::new_socket(&ctx);
    PASS
}

/// What the function returns is behind its arguments, of which Linux 6.10 made two of four.
#[fexit(function = "inet_csk_accept")]
pub fn chadthrottle_accept_2(ctx: FExitContext) -> i32 {
    tag::accepted(&ctx, ctx.arg(2));
    0
}

/// The same before that.
#[fexit(function = "inet_csk_accept")]
pub fn chadthrottle_accept_4(ctx: FExitContext) -> i32 {
    tag::accepted(&ctx, ctx.arg(4));
    0
}

#[cgroup_sock_addr(sendmsg4)]
pub fn chadthrottle_send_4(ctx: SockAddrContext) -> i32 {
    tag::sends(&ctx);
    PASS
}

#[cgroup_sock_addr(sendmsg6)]
pub fn chadthrottle_send_6(ctx: SockAddrContext) -> i32 {
    tag::sends(&ctx);
    PASS
}

#[cgroup_skb(ingress)]
pub fn chadthrottle_count_ingress(ctx: SkBuffContext) -> i32 {
    count::packet(&ctx, Direction::Download);
    PASS
}

#[cgroup_skb(egress)]
pub fn chadthrottle_count_egress(ctx: SkBuffContext) -> i32 {
    count::packet(&ctx, Direction::Upload);
    PASS
}

#[cgroup_skb(ingress)]
pub fn chadthrottle_ingress(ctx: SkBuffContext) -> i32 {
    throttle::ingress(&ctx)
}

#[cgroup_skb(egress)]
pub fn chadthrottle_egress(ctx: SkBuffContext) -> i32 {
    throttle::egress(&ctx)
}

/// Whatever becomes of the packet, the next program on the device is asked: `TC_ACT_UNSPEC` for
/// filters of clsact, and the same number, `TCX_NEXT`, since Linux 6.6.
#[classifier]
pub fn chadthrottle_window(ctx: TcContext) -> i32 {
    window::advertise(&ctx);
    TC_ACT_UNSPEC
}

/// The same with what arrives.
#[classifier]
pub fn chadthrottle_send_window(ctx: TcContext) -> i32 {
    let _ = send_window::narrow(&ctx);
    TC_ACT_UNSPEC
}

#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn chadthrottle_fork(ctx: RawTracePointContext) -> i32 {
    family::forked(&ctx);
    0
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Programs that call GPL-only helpers must say so; being dual-licensed they may.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
