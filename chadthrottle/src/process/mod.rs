//! Processes as `/proc` shows them.

pub mod addresses;
pub mod ancestry;
pub mod carrier;
pub mod cgroups;
pub mod descriptors;
pub mod identity;
pub mod links;
pub mod login;
pub mod mounts;
pub mod network;
pub mod rtnetlink;
pub mod sockets;

use std::os::fd::OwnedFd;

use rustix::process::{PidfdFlags, pidfd_open};

use crate::model::process::Pid;

/// Opens a descriptor that stands for a process, for good.
///
/// # Errors
///
/// `ESRCH` if there is no such process; `EINVAL` or `ENOENT` if the id is a thread's.
pub fn open_pidfd(pid: Pid) -> rustix::io::Result<OwnedFd> {
    let pid = i32::try_from(pid.0)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or(rustix::io::Errno::SRCH)?;
    pidfd_open(pid, PidfdFlags::empty())
}
