//! Tagging sockets that exist already, by way of `pidfd_getfd`.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{MapData, MapError, SkStorage},
};
use chadthrottle_common::{
    names::MAP_TAGS,
    tag::{SocketTag, Tag},
};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

/// A duplicate of a socket of another process.
///
/// To be held as short as can be: while it is open, a `close` in its owner does not end the
/// connection.
pub struct Socket(OwnedFd);

impl Socket {
    /// Duplicates descriptor `fd` of the process behind `pidfd`.
    ///
    /// # Errors
    ///
    /// `ESRCH` or `EBADF` when process or descriptor have gone; `EPERM` when the kernel forbids
    /// it, as Yama does with `kernel.yama.ptrace_scope` 3.
    pub fn of_process(pidfd: BorrowedFd<'_>, fd: i32) -> io::Result<Self> {
        Ok(Self(pidfd_getfd(pidfd, fd, PidfdGetfdFlags::empty())?))
    }

    /// Whether this is an IPv4 or IPv6 socket.
    pub fn is_inet(&self) -> bool {
        use rustix::net::AddressFamily;
        rustix::net::sockopt::socket_domain(self.0.as_fd())
            .is_ok_and(|family| [AddressFamily::INET, AddressFamily::INET6].contains(&family))
    }
}

/// The tags of sockets.
pub struct SocketTags {
    map: SkStorage<MapData, SocketTag>,
}

impl SocketTags {
    pub(super) fn take(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        let map = super::take_map(ebpf, MAP_TAGS)?;
        Ok(Self { map })
    }

    /// The tag of a socket, if it has one.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn get(&self, socket: &Socket) -> anyhow::Result<Option<Tag>> {
        match self.map.get(&socket.0.as_raw_fd(), 0) {
            Ok(stored) => Ok(Some(stored.tag)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error).context("reading a socket's tag"),
        }
    }

    /// Gives a socket a tag in place of the one it may have.
    ///
    /// # Errors
    ///
    /// The kernel's; `ENOMEM` when the socket's option memory is used up.
    pub fn set(&mut self, socket: &Socket, tag: Tag) -> anyhow::Result<()> {
        self.map
            .insert(&socket.0.as_raw_fd(), SocketTag::new(tag), 0)
            .context("tagging a socket")
    }
}
