//! Processes as `/proc` shows them.

pub mod ancestry;
pub mod carrier;
pub mod descriptors;
pub mod identity;
pub mod invoker;
pub mod network;
pub mod sockets;
pub mod unit;

use std::os::fd::OwnedFd;

use rustix::process::{PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

/// A process id in the initial PID namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pid(pub u32);

impl std::fmt::Display for Pid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A process for good: its id and when it started, because ids are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessKey {
    /// Its id.
    pub pid: Pid,
    /// `starttime` of `/proc/PID/stat`, in clock ticks since boot; 0 when it was gone too fast
    /// to be read.
    pub start_time: u64,
}

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
