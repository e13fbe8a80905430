//! What the kernel knows of a process's sockets: addresses, states and TCP's own counters.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    net::{getpeername, getsockname, sockopt},
    process::{PidfdGetfdFlags, pidfd_getfd},
};

use super::descriptors::{self, Family};
use crate::model::{connections::Protocol, direction::PerDirection, process::Pid};

/// A socket at this moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The socket's cookie, which no other socket has until the machine restarts.
    pub cookie: u64,
    /// What it speaks.
    pub protocol: Protocol,
    /// This machine's end.
    pub local: SocketAddr,
    /// The other end, if there is one.
    pub remote: Option<SocketAddr>,
    /// Its state as `ss` shows it.
    pub state: &'static str,
    /// What TCP counts.
    pub tcp: Option<TcpReading>,
}

/// What TCP counts (`struct tcp_info` in `linux/tcp.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TcpReading {
    /// Payload received since the socket was opened (`tcpi_bytes_received`).
    pub received: u64,
    /// Payload sent and acknowledged (`tcpi_bytes_acked`).
    pub acknowledged: u64,
    /// The smoothed round trip (`tcpi_rtt`); nothing before the first.
    pub round_trip: Option<Duration>,
    /// Segments sent again (`tcpi_total_retrans`).
    pub retransmits: u32,
}

impl TcpReading {
    /// Payload that it received, and sent and knows to have arrived.
    pub fn bytes(&self) -> PerDirection<u64> {
        PerDirection {
            download: self.received,
            upload: self.acknowledged,
        }
    }
}

/// The sockets of a process that have addresses, at most so many; and whether there are more.
///
/// Each is duplicated for some microseconds: it works in any network namespace, and costs only
/// what this one process has, however many there are on the machine. `between` two of them the
/// caller may see to something else.
///
/// # Errors
///
/// The process has gone, or the kernel forbids to look (`EPERM`).
pub fn read(pid: Pid, most: usize, between: &mut dyn FnMut()) -> io::Result<(Vec<Reading>, bool)> {
    let (mut readings, more) = each(pid, most, between, reading)?;
    // A socket may be held by several descriptors.
    readings.sort_by_key(|reading| reading.cookie);
    readings.dedup_by_key(|reading| reading.cookie);
    Ok((readings, more))
}

/// The local and remote ports of a process's sockets, of so many at most; each once.
///
/// # Errors
///
/// As of [`read`].
pub fn ports(pid: Pid, most: usize, between: &mut dyn FnMut()) -> io::Result<Vec<u16>> {
    let (addresses, _) = each(pid, most, between, addresses)?;
    let both = addresses
        .into_iter()
        .flat_map(|(local, remote)| [Some(local), remote]);
    let mut ports: Vec<u16> = both.flatten().map(|address| address.port()).collect();
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

/// The addresses of both ends of a process's connections, of so many sockets at most, each pair once; and
/// whether there are more.
///
/// # Errors
///
/// As of [`read`].
pub fn ends(
    pid: Pid,
    most: usize,
    between: &mut dyn FnMut(),
) -> io::Result<(BTreeSet<(IpAddr, IpAddr)>, bool)> {
    let (addresses, more) = each(pid, most, between, addresses)?;
    let ends = addresses.into_iter().filter_map(|(local, remote)| {
        Some((local.ip().to_canonical(), remote?.ip().to_canonical()))
    });
    Ok((ends.collect(), more))
}

/// What `look` finds at each socket of a process, and whether there are more than so many.
fn each<T>(
    pid: Pid,
    most: usize,
    between: &mut dyn FnMut(),
    look: impl Fn(&OwnedFd) -> Option<T>,
) -> io::Result<(Vec<T>, bool)> {
    let process = super::open_pidfd(pid)?;
    let mut found: Vec<T> = Vec::new();
    for descriptor in descriptors::sockets(pid) {
        between();
        if descriptors::family(pid, descriptor.fd) == Family::Other {
            continue;
        }
        if found.len() == most {
            return Ok((found, true));
        }
        let socket = match pidfd_getfd(&process, descriptor.fd, PidfdGetfdFlags::empty()) {
            Ok(socket) => socket,
            // Closed since it was listed.
            Err(rustix::io::Errno::BADF) => continue,
            Err(error) => return Err(error.into()),
        };
        found.extend(look(&socket));
    }
    Ok((found, false))
}

/// Nothing if it is no inet socket, or has no address yet.
fn addresses(socket: &OwnedFd) -> Option<(SocketAddr, Option<SocketAddr>)> {
    let local = SocketAddr::try_from(getsockname(socket).ok()?).ok()?;
    let remote = getpeername(socket).ok().flatten();
    let remote = remote.and_then(|address| SocketAddr::try_from(address).ok());
    (local.port() != 0 || remote.is_some()).then_some((local, remote))
}

/// All about it; nothing as above.
fn reading(socket: &OwnedFd) -> Option<Reading> {
    let (local, remote) = addresses(socket)?;
    let protocol = match sockopt::socket_type(socket).ok()? {
        rustix::net::SocketType::STREAM => Protocol::Tcp,
        rustix::net::SocketType::DGRAM => Protocol::Udp,
        _ => Protocol::Raw,
    };
    let info = match protocol {
        Protocol::Tcp => tcp_info(socket.as_fd()),
        _ => None,
    };
    let state = match (&info, remote) {
        (Some(info), _) => tcp_state(info[0]),
        (None, Some(_)) => "ESTAB",
        (None, None) => "UNCONN",
    };
    Some(Reading {
        cookie: sockopt::socket_cookie(socket).ok()?,
        protocol,
        local: plain(local),
        remote: remote.map(plain),
        state,
        // A listener counts for nobody.
        tcp: info
            .filter(|_| remote.is_some())
            .map(|info| tcp_reading(&info)),
    })
}

/// IPv4 through an IPv6 socket is shown as what it is.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// As much of `struct tcp_info` as is read here; the kernel never moves what is in it.
type TcpInfo = [u8; 136];

fn tcp_info(socket: BorrowedFd<'_>) -> Option<TcpInfo> {
    let mut info: TcpInfo = [0; _];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info`, which has as many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(info)
}

fn tcp_reading(info: &TcpInfo) -> TcpReading {
    let word = |at: usize| {
        let bytes = [info[at], info[at + 1], info[at + 2], info[at + 3]];
        u32::from_ne_bytes(bytes)
    };
    let long = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&info[at..at + 8]);
        u64::from_ne_bytes(bytes)
    };
    let microseconds = word(68);
    TcpReading {
        received: long(128),
        acknowledged: long(120),
        round_trip: (microseconds > 0).then(|| Duration::from_micros(microseconds.into())),
        retransmits: word(100),
    }
}

/// The states of `net/tcp_states.h`.
const fn tcp_state(state: u8) -> &'static str {
    match state {
        1 => "ESTAB",
        2 => "SYN-SENT",
        3 | 12 => "SYN-RECV",
        4 => "FIN-WAIT1",
        5 => "FIN-WAIT2",
        6 => "TIME-WAIT",
        7 => "CLOSED",
        8 => "CLOSE-WT",
        9 => "LAST-ACK",
        10 => "LISTEN",
        11 => "CLOSING",
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream, UdpSocket},
    };

    #[test]
    fn own_connections_are_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(here).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(&[0; 1000]).unwrap();
        server.read_exact(&mut [0; 1000]).unwrap();
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        udp.connect("[::1]:9").unwrap();

        let (readings, more) = read(Pid(std::process::id()), 1000, &mut || ()).unwrap();
        assert!(!more);
        let (ends, _) = ends(Pid(std::process::id()), 1000, &mut || ()).unwrap();
        for ip in ["127.0.0.1", "::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            assert!(ends.contains(&(ip, ip)), "{ends:?}");
        }
        let find = |local, remote| {
            let mut found = readings.iter();
            found
                .find(|r| r.local == local && r.remote == remote)
                .unwrap()
        };
        assert_eq!(find(here, None).state, "LISTEN");
        let accepted = find(here, Some(client.local_addr().unwrap()));
        assert_eq!(
            (accepted.protocol, accepted.state),
            (Protocol::Tcp, "ESTAB")
        );
        let tcp = accepted.tcp.unwrap();
        assert_eq!((tcp.received, tcp.acknowledged), (1000, 0));
        assert!(tcp.round_trip.is_some());
        let sent = find(client.local_addr().unwrap(), Some(here)).tcp.unwrap();
        // The acknowledgement may be a moment behind the data.
        assert!(sent.received == 0 && sent.acknowledged <= 1001);
        let datagrams = find(udp.local_addr().unwrap(), Some("[::1]:9".parse().unwrap()));
        assert_eq!((datagrams.protocol, datagrams.tcp), (Protocol::Udp, None));
    }

    #[test]
    fn there_may_be_more_than_are_wanted() {
        let _held = [
            UdpSocket::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind("127.0.0.1:0").unwrap(),
        ];
        let (readings, more) = read(Pid(std::process::id()), 1, &mut || ()).unwrap();
        assert_eq!((readings.len(), more), (1, true));
        assert!(read(Pid(5_000_000), 1, &mut || ()).is_err());
    }
}
