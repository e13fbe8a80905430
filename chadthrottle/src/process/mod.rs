//! Processes as `/proc` shows them.

pub mod ancestry;
pub mod carrier;
pub mod descriptors;
pub mod identity;
pub mod invoker;
pub mod unit;

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
