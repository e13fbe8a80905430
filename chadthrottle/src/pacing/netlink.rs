//! Queueing disciplines by rtnetlink, in any network namespace.

use std::io;

use netlink_packet_core::{DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcHandle, TcHeader, TcMessage, TcOption},
};

use crate::process::rtnetlink::Netlink;

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

impl Netlink {
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
