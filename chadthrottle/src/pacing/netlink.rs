//! Queueing disciplines by rtnetlink, in any network namespace.

use std::{io, os::fd::BorrowedFd};

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcHandle, TcHeader, TcMessage, TcOption},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::process::network;

/// A queueing discipline of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qdisc {
    /// The device's interface index.
    pub device: u32,
    /// Its handle; 0 when the kernel attached it by default.
    pub handle: u32,
    /// Where it hangs: [`ROOT`], or a class.
    pub parent: u32,
    /// Its kind: fq, noqueue, mq and so on.
    pub kind: String,
    /// Packets that it holds.
    pub queued: u32,
}

/// The parent of a device's outermost qdisc (`TC_H_ROOT` in `linux/pkt_sched.h`).
pub const ROOT: u32 = 0xffff_ffff;

/// An option of a qdisc: its number in `linux/pkt_sched.h`, and a value.
pub type QdiscOption = (u16, u32);

/// A socket to the kernel's routing side in one network namespace.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the network namespace behind `namespace`. It belongs there for good, so
    /// a thread that goes in for a moment is enough.
    ///
    /// # Errors
    ///
    /// The namespace can't be entered, or the socket not be made.
    pub fn in_namespace(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        network::inside(namespace, || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(Self {
                socket,
                sequence: 0,
            })
        })
    }

    /// All qdiscs of a device, or of all devices with the index 0.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn qdiscs(&mut self, device: u32) -> io::Result<Vec<Qdisc>> {
        let mut message = TcMessage::default();
        message.header.index = device.cast_signed();
        let answers = self.ask(RouteNetlinkMessage::GetQueueDiscipline(message), NLM_F_DUMP)?;
        let qdiscs = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewQueueDiscipline(message) => Some(qdisc(&message)),
            _ => None,
        });
        Ok(qdiscs
            .filter(|qdisc| device == 0 || qdisc.device == device)
            .collect())
    }

    /// Puts a qdisc in the place of the one at `parent`.
    ///
    /// # Errors
    ///
    /// The kernel's: `ENOENT` when it does not have this kind.
    pub fn replace(
        &mut self,
        device: u32,
        parent: u32,
        handle: u32,
        kind: &str,
        options: &[QdiscOption],
    ) -> io::Result<()> {
        let mut message = message(device, parent, handle);
        message.attributes.push(TcAttribute::Kind(kind.to_owned()));
        let options: Vec<TcOption> = options
            .iter()
            .map(|(number, value)| {
                TcOption::Other(DefaultNla::new(*number, value.to_ne_bytes().to_vec()))
            })
            .collect();
        if !options.is_empty() {
            message.attributes.push(TcAttribute::Options(options));
        }
        self.ask(
            RouteNetlinkMessage::NewQueueDiscipline(message),
            NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
        )?;
        Ok(())
    }

    /// Takes the qdisc with this handle away from the root, if it is there; the kernel puts its
    /// default in its place.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn delete_root(&mut self, device: u32, handle: u32) -> io::Result<()> {
        let message = message(device, ROOT, handle);
        self.ask(RouteNetlinkMessage::DelQueueDiscipline(message), NLM_F_ACK)?;
        Ok(())
    }

    /// Sends a request and collects what is answered.
    pub(super) fn ask(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, request.into());
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
    fn collect(
        &self,
        mut datagram: &[u8],
        answers: &mut Vec<RouteNetlinkMessage>,
    ) -> io::Result<bool> {
        while !datagram.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram)
                .map_err(io::Error::other)?;
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

/// A message about a qdisc or a filter.
pub(super) fn message(device: u32, parent: u32, handle: u32) -> TcMessage {
    let header = TcHeader {
        index: device.cast_signed(),
        parent: TcHandle::from(parent),
        handle: TcHandle::from(handle),
        ..TcHeader::default()
    };
    TcMessage::from_parts(header, Vec::new())
}

fn qdisc(message: &TcMessage) -> Qdisc {
    let mut qdisc = Qdisc {
        device: message.header.index.cast_unsigned(),
        handle: message.header.handle.into(),
        parent: message.header.parent.into(),
        kind: String::new(),
        queued: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            TcAttribute::Kind(kind) => qdisc.kind.clone_from(kind),
            TcAttribute::Stats(stats) => qdisc.queued = stats.qlen,
            _ => {}
        }
    }
    qdisc
}
