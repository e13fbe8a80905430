//! Seeing who accepts a connection.

use anyhow::Context as _;
use aya::{Btf, Ebpf, programs::fexit::FExitLink};
use chadthrottle_common::names::{PROGRAM_ACCEPT_2, PROGRAM_ACCEPT_4};

use super::{object, refusal};

/// The kernel's function that every `accept` of TCP and MPTCP goes through, in the process that accepts.
pub(super) const FUNCTION: &str = "inet_csk_accept";

/// Loads the program and attaches it, by how many arguments the function has.
pub(super) fn attach(ebpf: &mut Ebpf, arguments: Option<u32>) -> anyhow::Result<FExitLink> {
    let name = match arguments {
        Some(2) => PROGRAM_ACCEPT_2,
        Some(4) => PROGRAM_ACCEPT_4,
        _ => anyhow::bail!("the kernel's type information has no {FUNCTION} of a known form"),
    };
    let types = Btf::from_sys_fs().context("the kernel's type information")?;
    let program = object::accept(ebpf, name)?;
    program.load(FUNCTION, &types).map_err(refusal::why)?;
    let id = program.attach()?;
    Ok(program.take_link(id)?)
}
