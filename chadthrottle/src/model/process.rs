//! Which process, and who it is.

use std::sync::Arc;

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

/// A process by its id, and by when it started if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its id.
    pub pid: Pid,
    /// When it started, as in [`ProcessKey`]; without it, whichever process has the id now is
    /// meant.
    pub start_time: Option<u64>,
}

impl From<Pid> for ProcessId {
    fn from(pid: Pid) -> Self {
        Self {
            pid,
            start_time: None,
        }
    }
}

impl From<ProcessKey> for ProcessId {
    fn from(key: ProcessKey) -> Self {
        Self {
            pid: key.pid,
            start_time: Some(key.start_time),
        }
    }
}

impl ProcessId {
    /// Whether it means this process.
    pub fn is(&self, key: ProcessKey) -> bool {
        self.pid == key.pid && self.start_time.is_none_or(|time| time == key.start_time)
    }
}

/// What is shown of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Which process.
    pub key: ProcessKey,
    /// Its name (`/proc/PID/comm`).
    pub name: Arc<str>,
    /// Its program file; empty when it can't be known.
    pub exe: Arc<str>,
    /// Its arguments, joined by spaces; empty when they can't be known.
    pub command_line: Arc<str>,
    /// Its user's name, else its number.
    pub user: Arc<str>,
    /// Its user's number, if it is known.
    pub uid: Option<u32>,
    /// Its cgroup v2 path; empty when it can't be known.
    pub cgroup: Arc<str>,
    /// A thread of the kernel, which has no sockets that programs on cgroups see.
    pub kernel_thread: bool,
}

impl Identity {
    /// Whether the process was about to end when it was looked at: what its file and its arguments
    /// were can't be known any more, so rules can't be compared with it.
    pub fn is_leaving(&self) -> bool {
        !self.kernel_thread && self.exe.is_empty() && self.command_line.is_empty()
    }
}
