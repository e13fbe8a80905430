//! Seeing who accepts a connection.

use anyhow::Context as _;
use aya::{
    Btf, Ebpf,
    programs::{ProgramError, fexit::FExitLink},
};
use chadthrottle_common::names::{PROGRAM_ACCEPT_2, PROGRAM_ACCEPT_4};

use super::object;

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
    program
        .load(FUNCTION, &types)
        .map_err(|error| match error {
            // Refused before anything was verified.
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } if verifier_log.to_string().is_empty() => {
                anyhow::Error::from(io_error).context("the kernel does not allow to see it")
            }
            error => error.into(),
        })?;
    let id = program.attach()?;
    Ok(program.take_link(id)?)
}
