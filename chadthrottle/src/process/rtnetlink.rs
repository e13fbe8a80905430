//! Questions to the kernel: to its routing side in any network namespace, and about sockets.

use std::{io, marker::PhantomData, os::fd::BorrowedFd};

use netlink_packet_core::{
    NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_sys::{
    Socket, SocketAddr,
    protocols::{NETLINK_ROUTE, NETLINK_SOCK_DIAG},
};

use super::network;

/// A socket to the kernel in one network namespace; to its routing side if nothing else is said.
pub struct Netlink<M = RouteNetlinkMessage> {
    socket: Socket,
    sequence: u32,
    asks: PhantomData<M>,
}

impl Netlink {
    /// Opens a socket in the network namespace behind `namespace`. It belongs there for good, so
    /// a thread that goes in for a moment is enough.
    ///
    /// # Errors
    ///
    /// The namespace can't be entered, or the socket not be made.
    pub fn in_namespace(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        network::inside(namespace, || Self::open(NETLINK_ROUTE))
    }
}

impl Netlink<SockDiagMessage> {
    /// Opens a socket for questions about the sockets of this program's network namespace (`sock_diag(7)`).
    ///
    /// # Errors
    ///
    /// The socket can't be made.
    pub fn of_sockets() -> io::Result<Self> {
        Self::open(NETLINK_SOCK_DIAG)
    }
}

impl<M: NetlinkSerializable + NetlinkDeserializable> Netlink<M> {
    fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
            asks: PhantomData,
        })
    }

    /// Sends a request and collects what is answered.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn ask(&mut self, request: M, flags: u16) -> io::Result<Vec<M>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            if self.collect(&datagram, &mut answers)? {
                return Ok(answers);
            }
        }
    }

    /// Takes a datagram apart; returns whether it was the last.
    fn collect(&self, mut datagram: &[u8], answers: &mut Vec<M>) -> io::Result<bool> {
        while !datagram.is_empty() {
            let message = NetlinkMessage::<M>::deserialize(datagram).map_err(io::Error::other)?;
            let length = (message.header.length as usize).next_multiple_of(4);
            datagram = datagram.get(length..).unwrap_or(&[]);
            if message.header.sequence_number != self.sequence {
                continue;
            }
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) => match error.code {
                    None => return Ok(true),
                    Some(_) => return Err(error.to_io()),
                },
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                _ => {}
            }
        }
        Ok(false)
    }
}
