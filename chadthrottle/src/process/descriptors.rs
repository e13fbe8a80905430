//! The sockets that a process holds.

use super::numbered;
use crate::model::process::Pid;
use std::{collections::HashSet, ffi::CStr, io};

use procfs::process::Process;
use rustix::fs::{CWD, Dir, Mode, OFlags};

/// A socket that a process holds open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketDescriptor {
    /// The descriptor's number in its process.
    pub fd: i32,
    /// The socket's inode, which is its own in the whole system as long as it exists.
    pub inode: u64,
}

/// The sockets that a process holds, of any family; none if it has ended.
/// Each is read when it is asked for.
///
/// A look at all processes asks for each of their descriptors: one system call for each, of which a library that
/// opens them needs four.
pub fn sockets(pid: Pid) -> impl Iterator<Item = SocketDescriptor> {
    let mut folder = open_folder(&format!("/proc/{pid}/fd")).ok();
    std::iter::from_fn(move || {
        let folder = folder.as_mut()?;
        while let Some(entry) = folder.read() {
            if let Some(socket) = entry
                .ok()
                .and_then(|entry| socket(folder, entry.file_name()))
            {
                return Some(socket);
            }
        }
        None
    })
}

fn open_folder(path: &str) -> io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Dir::new(rustix::fs::openat(
        CWD,
        path,
        flags,
        Mode::empty(),
    )?)?)
}

/// What an entry of a folder of descriptors says, if it is a socket.
fn socket(folder: &Dir, name: &CStr) -> Option<SocketDescriptor> {
    let fd = number(name)?;
    let mut link = [0u8; 64];
    let length = rustix::fs::readlinkat_raw(folder.fd().ok()?, name, &mut link).ok()?;
    let inode = numbered("socket", link.get(..length)?)?;
    Some(SocketDescriptor { fd, inode })
}

fn number<N: std::str::FromStr>(name: &CStr) -> Option<N> {
    name.to_str().ok()?.parse().ok()
}

/// The inodes of [`sockets`].
pub fn socket_inodes(pid: Pid) -> HashSet<u64> {
    sockets(pid).map(|socket| socket.inode).collect()
}

/// What a socket speaks, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Certainly IPv4 or IPv6.
    Inet,
    /// Certainly neither.
    Other,
    /// The socket itself must be asked.
    Unknown,
}

/// The family of a socket by its protocol's name.
///
/// Most sockets of a desktop are AF_UNIX or netlink; this tells without duplicating them.
pub fn family(pid: Pid, fd: i32) -> Family {
    with_protocol(pid, fd, family_of).unwrap_or(Family::Unknown)
}

/// Whether a process can send past TCP and UDP, by a packet socket or XDP's.
pub fn holds_packet_socket(pid: Pid) -> bool {
    let is_one = |fd| with_protocol(pid, fd, |name| matches!(name, b"PACKET" | b"XDP"));
    sockets(pid).any(|socket| is_one(socket.fd) == Some(true))
}

/// What is made of the name of a socket's protocol, which sockfs shows as an extended attribute.
fn with_protocol<T>(pid: Pid, fd: i32, of: impl Fn(&[u8]) -> T) -> Option<T> {
    let mut name = [0u8; 32];
    let path = format!("/proc/{pid}/fd/{fd}");
    let length = rustix::fs::getxattr(path, c"system.sockprotoname", &mut name).ok()?;
    let name = &name[..length];
    Some(of(name.strip_suffix(b"\0").unwrap_or(name)))
}

fn family_of(protocol: &[u8]) -> Family {
    match protocol {
        b"TCP" | b"TCPv6" | b"UDP" | b"UDPv6" | b"UDP-Lite" | b"UDPLITEv6" | b"RAW" | b"RAWv6"
        | b"PING" | b"PINGv6" | b"MPTCP" | b"MPTCPv6" => Family::Inet,
        b"UNIX" | b"UNIX-STREAM" | b"NETLINK" | b"PACKET" | b"XDP" | b"AF_VSOCK" | b"ALG"
        | b"KEY" => Family::Other,
        // SCTP and what comes after it.
        _ => Family::Unknown,
    }
}

/// All processes there are, in order of their ids.
pub fn all_processes() -> Vec<Pid> {
    let mut pids: Vec<Pid> = open_folder("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(Pid(number(entry.ok()?.file_name())?)))
        .collect();
    pids.sort_unstable();
    pids
}

/// The children of a process, from all of its threads.
pub fn children(pid: Pid) -> Vec<Pid> {
    let Ok(tasks) = Process::new(pid.0.cast_signed()).and_then(|process| process.tasks()) else {
        return Vec::new();
    };
    tasks
        .filter_map(Result::ok)
        .filter_map(|task| task.children().ok())
        .flatten()
        .map(Pid)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn own_sockets_are_found_and_told_apart() {
        let me = Pid(std::process::id());
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let unix = UnixDatagram::unbound().unwrap();
        let found: Vec<_> = sockets(me).collect();
        for (fd, expected) in [
            (tcp.as_raw_fd(), Family::Inet),
            (udp.as_raw_fd(), Family::Inet),
            (unix.as_raw_fd(), Family::Other),
        ] {
            assert!(found.iter().any(|socket| socket.fd == fd));
            assert_eq!(family(me, fd), expected);
        }
        assert_eq!(family(me, 99_999), Family::Unknown);
    }

    #[test]
    fn i_am_one_of_all_processes() {
        let all = all_processes();
        assert!(all.contains(&Pid(std::process::id())) && all.is_sorted());
    }

    #[test]
    fn a_process_that_is_gone_has_no_sockets() {
        // Above the largest pid_max there can be.
        assert_eq!(sockets(Pid(5_000_000)).count(), 0);
    }
}
