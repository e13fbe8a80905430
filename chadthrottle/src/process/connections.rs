//! The TCP connections of this program's network namespace, whosever they are, as the kernel tells of all at once.

use std::{io, net::IpAddr, time::Duration};

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{
        ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
        nlas::{Nla, TcpInfo},
    },
};

use super::rtnetlink::Netlink;

/// A connection, and how long its packets are under way (`struct tcp_info` in `linux/tcp.h`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The cookie of its socket.
    pub cookie: u64,
    /// The address of this end.
    pub local: IpAddr,
    /// That of the other.
    pub remote: IpAddr,
    /// Bytes of this end's that the other has acknowledged.
    pub acknowledged: u64,
    /// Its round trip: a mean of the latest ones.
    pub round_trip: Duration,
    /// The shortest one, of some minutes.
    pub shortest: Duration,
}

/// All that are established.
///
/// # Errors
///
/// The kernel's.
pub fn established(netlink: &mut Netlink<SockDiagMessage>) -> io::Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for (family, socket_id) in [
        (AF_INET, SocketId::new_v4()),
        (AF_INET6, SocketId::new_v6()),
    ] {
        let request = SockDiagMessage::InetRequest(InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::INFO,
            states: StateFlags::ESTABLISHED,
            socket_id,
        });
        for answer in netlink.ask(request, NLM_F_DUMP)? {
            if let SockDiagMessage::InetResponse(response) = answer {
                connections.extend(Connection::of(&response));
            }
        }
    }
    Ok(connections)
}

impl Connection {
    /// Nothing if no round trip of it is known.
    fn of(response: &InetResponse) -> Option<Self> {
        let info = response.nlas.iter().find_map(|attribute| match attribute {
            Nla::TcpInfo(info) => Some(info),
            _ => None,
        })?;
        let TcpInfo {
            rtt,
            min_rtt,
            bytes_acked,
            ..
        } = *info;
        let id = &response.header.socket_id;
        (rtt > 0 && min_rtt != u32::MAX).then(|| Self {
            cookie: u64::from_ne_bytes(id.cookie),
            local: id.source_address.to_canonical(),
            remote: id.destination_address.to_canonical(),
            acknowledged: bytes_acked,
            round_trip: Duration::from_micros(rtt.into()),
            shortest: Duration::from_micros(min_rtt.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    #[test]
    fn a_connection_is_told_of_with_its_round_trip() -> anyhow::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut near = TcpStream::connect(listener.local_addr()?)?;
        let (mut far, _) = listener.accept()?;
        near.write_all(b"!")?;
        far.read_exact(&mut [0])?;
        let all = established(&mut Netlink::of_sockets()?)?;
        let local = near.local_addr()?.ip();
        let there = all.iter().find(|connection| {
            connection.local == local && connection.remote == local && connection.acknowledged == 2
        });
        let there = there.ok_or_else(|| anyhow::anyhow!("not among {all:?}"))?;
        anyhow::ensure!(
            there.shortest <= there.round_trip && there.cookie != 0,
            "{there:?}"
        );
        Ok(())
    }
}
