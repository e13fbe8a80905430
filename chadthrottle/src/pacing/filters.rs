//! The programs that see to windows as filters of clsact: before Linux 6.6, where a link can't hold them on
//! a device.
//!
//! A filter outlives whoever attached it. What a killed run leaves does nothing, because nobody
//! grants windows any more, and is taken away like a leftover fq.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    process,
};

use chadthrottle_common::{
    names::{PROGRAM_SEND_WINDOW, PROGRAM_WINDOW},
    traffic::Direction,
};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcMessage, TcOption},
};

use super::netlink::message;
use crate::process::rtnetlink::Netlink;

// From linux/pkt_sched.h.
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

/// Where the program of a direction is, and its name.
const fn side(direction: Direction) -> (u32, &'static str) {
    match direction {
        Direction::Download => (EGRESS, PROGRAM_WINDOW),
        Direction::Upload => (INGRESS, PROGRAM_SEND_WINDOW),
    }
}

/// Our filters' priority, of all protocols; each instance has a handle of its own.
const PRIORITY: u16 = 0xcd7a;
const ETH_P_ALL: u16 = 3;

/// What is added to a filter's name if clsact came with it.
const WITH_CLSACT: &str = "+clsact";

/// A filter of clsact.
struct Filter {
    side: u32,
    handle: u32,
    info: u32,
    name: String,
}

impl Filter {
    fn is_ours(&self) -> bool {
        self.info == info()
            && (Direction::BOTH.into_iter())
                .any(|direction| self.name.starts_with(side(direction).1))
    }

    fn came_with_clsact(&self) -> bool {
        self.name.ends_with(WITH_CLSACT)
    }
}

/// Priority and protocol of our filters, as `tcm_info` has them.
fn info() -> u32 {
    u32::from(PRIORITY) << 16 | u32::from(ETH_P_ALL.to_be())
}

/// A program on a device, until this is dropped.
pub struct FilterLink {
    namespace: File,
    device: u32,
    side: u32,
}

impl FilterLink {
    /// Attaches `program`, which is that of a direction, to a device.
    ///
    /// # Errors
    ///
    /// The kernel's: `ENOENT` if it has no clsact, `EEXIST` if an ingress qdisc is in its place.
    pub fn attach(
        namespace: File,
        device: u32,
        direction: Direction,
        program: BorrowedFd<'_>,
    ) -> io::Result<Self> {
        let (side, name) = side(direction);
        let mut netlink = Netlink::in_namespace(namespace.as_fd())?;
        let there = netlink
            .qdiscs(device)?
            .iter()
            .any(|qdisc| qdisc.kind == "clsact");
        if !there {
            netlink.add_clsact(device)?;
        }
        let ours = !there
            || netlink
                .all_filters(device)?
                .iter()
                .any(|filter| filter.is_ours() && filter.came_with_clsact());
        let mark = if ours { WITH_CLSACT } else { "" };
        let name = format!("{name}{mark}");
        // One with our process id was left by a process that had it before.
        let _ = netlink.delete_filter(device, side, process::id());
        netlink
            .add_filter(device, side, program, &name)
            .inspect_err(|_| {
                if !there {
                    let _ = netlink.delete_clsact(device);
                }
            })?;
        Ok(Self {
            namespace,
            device,
            side,
        })
    }
}

impl Drop for FilterLink {
    fn drop(&mut self) {
        let mine = |filter: &Filter| filter.handle == process::id() && filter.side == self.side;
        let removed = Netlink::in_namespace(self.namespace.as_fd())
            .and_then(|mut netlink| netlink.remove_filters(self.device, mine));
        if let Err(error) = removed {
            // The device or its namespace has gone, and all of this with it.
            log::debug!("the filter on device {}: {error}", self.device);
        }
    }
}

impl Netlink {
    /// Whether a device has filters of ours.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(super) fn has_filters(&mut self, device: u32) -> io::Result<bool> {
        Ok(self.all_filters(device)?.iter().any(Filter::is_ours))
    }

    /// Removes all of them.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(super) fn remove_all_filters(&mut self, device: u32) -> io::Result<()> {
        self.remove_filters(device, |_| true)
    }

    /// Removes those of our filters, and clsact if it came with them and holds nothing else.
    fn remove_filters(&mut self, device: u32, which: impl Fn(&Filter) -> bool) -> io::Result<()> {
        let filters = self.all_filters(device)?;
        let ours: Vec<&Filter> = filters
            .iter()
            .filter(|filter| filter.is_ours() && which(filter))
            .collect();
        for filter in &ours {
            self.delete_filter(device, filter.side, filter.handle)?;
        }
        let with_clsact = ours.iter().any(|filter| filter.came_with_clsact());
        if with_clsact && self.all_filters(device)?.is_empty() {
            self.delete_clsact(device)?;
        }
        Ok(())
    }

    /// Filters on both sides of clsact.
    fn all_filters(&mut self, device: u32) -> io::Result<Vec<Filter>> {
        let mut filters = self.filters(device, EGRESS)?;
        filters.extend(self.filters(device, INGRESS)?);
        Ok(filters)
    }

    /// Filters on one side of clsact.
    fn filters(&mut self, device: u32, side: u32) -> io::Result<Vec<Filter>> {
        let request = RouteNetlinkMessage::GetTrafficFilter(message(device, side, 0));
        let answers = self.ask(request, NLM_F_DUMP)?;
        let filters = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewTrafficFilter(message) => Some(filter(side, &message)),
            _ => None,
        });
        // A priority shows by itself, besides its filters.
        Ok(filters.filter(|filter| filter.handle != 0).collect())
    }

    fn add_filter(
        &mut self,
        device: u32,
        side: u32,
        program: BorrowedFd<'_>,
        name: &str,
    ) -> io::Result<()> {
        let mut message = message(device, side, process::id());
        message.header.info = info();
        message.attributes = vec![
            TcAttribute::Kind(TcFilterBpf::KIND.to_owned()),
            TcAttribute::Options(vec![
                TcOption::Bpf(TcFilterBpfOption::ProgFd(
                    program.as_raw_fd().cast_unsigned(),
                )),
                TcOption::Bpf(TcFilterBpfOption::ProgName(name.to_owned())),
                TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
            ]),
        ];
        self.ask(
            RouteNetlinkMessage::NewTrafficFilter(message),
            NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
        )?;
        Ok(())
    }

    fn delete_filter(&mut self, device: u32, side: u32, handle: u32) -> io::Result<()> {
        let mut message = message(device, side, handle);
        message.header.info = info();
        message.attributes = vec![TcAttribute::Kind(TcFilterBpf::KIND.to_owned())];
        self.ask(RouteNetlinkMessage::DelTrafficFilter(message), NLM_F_ACK)?;
        Ok(())
    }

    fn add_clsact(&mut self, device: u32) -> io::Result<()> {
        let mut message = message(device, CLSACT, CLSACT_HANDLE);
        message.attributes = vec![TcAttribute::Kind("clsact".to_owned())];
        self.ask(
            RouteNetlinkMessage::NewQueueDiscipline(message),
            NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
        )?;
        Ok(())
    }

    fn delete_clsact(&mut self, device: u32) -> io::Result<()> {
        let message = message(device, CLSACT, CLSACT_HANDLE);
        self.ask(RouteNetlinkMessage::DelQueueDiscipline(message), NLM_F_ACK)?;
        Ok(())
    }
}

fn filter(side: u32, message: &TcMessage) -> Filter {
    let options = message
        .attributes
        .iter()
        .flat_map(|attribute| match attribute {
            TcAttribute::Options(options) => &options[..],
            _ => &[],
        });
    let name = options
        .filter_map(|option| match option {
            TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => Some(name.clone()),
            _ => None,
        })
        .next();
    Filter {
        side,
        handle: message.header.handle.into(),
        info: message.header.info,
        name: name.unwrap_or_default(),
    }
}
