//! Program entry points; what they do lives in the modules.
//!
//! - `chadthrottle_track`: `cgroup/sock_create`, attached at the cgroup root
//! - `chadthrottle_count_*`: observers, attached at the cgroup root
//! - `chadthrottle_ingress`, `chadthrottle_egress`: the throttle pair, attached at the cgroups
//!   of limited processes

#![no_std]
#![no_main]
#![allow(internal_features)]
// AtomicU64::fetch_add is not available for the BPF target; the intrinsic behind it is.
#![feature(core_intrinsics)]

mod count;
mod maps;
mod packet;
mod tag;
mod throttle;

use aya_ebpf::{
    macros::{cgroup_skb, cgroup_sock},
    programs::{SkBuffContext, SockContext},
};
use chadthrottle_common::traffic::Direction;

/// Verdict of a cgroup program: go on.
const PASS: i32 = 1;

#[cgroup_sock(sock_create)]
pub fn chadthrottle_track(ctx: SockContext) -> i32 {
    tag::new_socket(&ctx);
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

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Programs that call GPL-only helpers must say so; being dual-licensed they may.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
