//! A plain token bucket in cgroup_skb, as one would write it first: it drops what it has no tokens
//! for. Something to compare with, and no part of chadthrottle.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
};

use anyhow::{Context, Result};
use kernel_tests::{cgroup::Cgroup, flow::Direction};

use crate::bpf::{
    EXIT, Hook, Instruction, MapKind, attach, call, copy, create_map, load, load_map, load64, op,
    set,
};

/// What it can hold: that many milliseconds' worth…
pub const BURST_MS: u64 = 100;
/// …but at least the largest packet there is, which could never pass otherwise.
pub const LEAST_BURST: u64 = 65_536;

/// A bucket in force; it ends when this is dropped.
pub struct Bucket {
    _link: OwnedFd,
}

impl Bucket {
    /// Limits the packets of a cgroup to that many bytes a second.
    pub fn attach(cgroup: &Cgroup, rate: u64, direction: Direction) -> Result<Self> {
        let hook = match direction {
            Direction::Download => Hook::Ingress,
            Direction::Upload => Hook::Egress,
        };
        // The time of the last packet, and the tokens there were after it.
        let state = create_map(MapKind::Array, 16, 1)?;
        let program = load(&instructions(rate, &state), hook)?;
        let cgroup = File::open(cgroup.path()).context("can't open the cgroup")?;
        Ok(Self {
            _link: attach(&program, cgroup.as_fd(), hook)?,
        })
    }
}

/// Tokens are nanoseconds at the rate. Several CPUs may take the same tokens: a plain one has no
/// lock.
fn instructions(rate: u64, state: &OwnedFd) -> Vec<Instruction> {
    const MAP_LOOKUP_ELEM: i32 = 1;
    const KTIME_GET_NS: i32 = 5;
    let burst = (BURST_MS * 1_000_000).max(LEAST_BURST * 1_000_000_000 / rate);
    let mut program = vec![
        copy(6, 1),
        // r7 = skb->len
        op(0x61, 7, 6, 0, 0),
        // Key 0.
        op(0x62, 10, 0, -4, 0),
    ];
    program.extend(load_map(1, state));
    program.extend([
        copy(2, 10),
        op(0x07, 2, 0, 0, -4),
        call(MAP_LOOKUP_ELEM),
        // To the end, if there is no element.
        op(0x15, 0, 0, 19, 0),
        copy(8, 0),
        call(KTIME_GET_NS),
        copy(9, 0),
        // r9 = now - last; last = now
        op(0x79, 1, 8, 0, 0),
        op(0x7b, 8, 9, 0, 0),
        op(0x1f, 9, 1, 0, 0),
        // r2 = min(tokens + elapsed, burst)
        op(0x79, 2, 8, 8, 0),
        op(0x0f, 2, 9, 0, 0),
    ]);
    program.extend(load64(3, burst));
    program.extend([op(0xbd, 2, 3, 1, 0), copy(2, 3)]);
    // r7 = length * 1e9 / rate
    program.push(op(0x27, 7, 0, 0, 1_000_000_000));
    program.extend(load64(4, rate));
    program.extend([
        op(0x3f, 7, 4, 0, 0),
        // Too few tokens: only the refill is kept.
        op(0x2d, 7, 2, 4, 0),
        op(0x1f, 2, 7, 0, 0),
        op(0x7b, 8, 2, 8, 0),
        // Let it through.
        set(0, 1),
        EXIT,
        // Drop it.
        op(0x7b, 8, 2, 8, 0),
        set(0, 0),
        EXIT,
    ]);
    program
}
