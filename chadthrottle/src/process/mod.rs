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

/// The number in what a link of `/proc` points at, such as `socket:[4711]`: proc_pid_fd(5), proc_pid_ns(5).
fn numbered(kind: &str, link: &[u8]) -> Option<u64> {
    let number = link.strip_prefix(kind.as_bytes())?;
    let number = number.strip_prefix(b":[")?.strip_suffix(b"]")?;
    str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_brackets_behind_their_kind() {
        for (link, number) in [
            (&b"socket:[4711]"[..], Some(4711)),
            (b"socket:[18446744073709551615]", Some(u64::MAX)),
            (b"pipe:[4711]", None),
            (b"/tmp/socket:[4711]", None),
            (b"socket:[]", None),
            (b"socket:[caf\xe9]", None),
            (b"socket:[4711] (deleted)", None),
        ] {
            assert_eq!(numbered("socket", link), number);
        }
    }
}
