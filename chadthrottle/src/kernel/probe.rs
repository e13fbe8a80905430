//! Asks the running kernel what it supports.

use anyhow::Context as _;
use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{is_map_supported, is_program_supported},
};

/// The program and map types that are used, and whether this kernel has each. An error means it
/// can't be told, mostly for lack of rights.
pub fn programs_and_maps() -> Vec<(&'static str, anyhow::Result<bool>)> {
    let program = |kind| is_program_supported(kind).context("probing a program type");
    let map = |kind| is_map_supported(kind).context("probing a map type");
    vec![
        ("cgroup_skb programs", program(ProgramType::CgroupSkb)),
        (
            "cgroup/sock_create programs",
            program(ProgramType::CgroupSock),
        ),
        ("socket storage", map(MapType::SkStorage)),
        ("ring buffers", map(MapType::RingBuf)),
    ]
}
