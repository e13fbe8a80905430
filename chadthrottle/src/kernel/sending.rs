//! Seeing who sends a datagram.

use std::fs::File;

use aya::{
    Ebpf,
    programs::{CgroupSockAddr, cgroup_sock_addr::CgroupSockAddrLink},
};
use chadthrottle_common::names::{PROGRAM_SEND_4, PROGRAM_SEND_6};

use super::{attach::MODE, object, refusal};

/// Loads the programs and attaches them at the cgroup root, which is open.
pub(super) fn attach(ebpf: &mut Ebpf, root: &File) -> anyhow::Result<[CgroupSockAddrLink; 2]> {
    let mut attach = |name| {
        let program: &mut CgroupSockAddr = object::program(ebpf, name)?;
        program.load().map_err(refusal::why)?;
        let id = program.attach(root, MODE)?;
        anyhow::Ok(program.take_link(id)?)
    };
    Ok([attach(PROGRAM_SEND_4)?, attach(PROGRAM_SEND_6)?])
}
