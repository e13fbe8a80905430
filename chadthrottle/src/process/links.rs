//! The network devices of this program's network namespace, and what they carried.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd as _,
};

use chadthrottle_common::traffic::Direction;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteMessage},
};

use super::rtnetlink::Netlink;
use crate::model::direction::PerDirection;

/// The bytes of an Ethernet header, which devices count and observers don't.
const ETHERNET_HEADER: u64 = 14;

/// Addresses that nobody has (RFC 5737, RFC 3849): the way to them is the default route's.
const NOWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 255)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xffff)),
];

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its interface index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it carried since it exists, from the IP header on.
    pub bytes: PerDirection<u64>,
    form: Form,
}

/// What tells where a device's packets go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Form {
    is_up: bool,
    is_loopback: bool,
    /// What the kernel made it as; nothing for hardware.
    kind: Option<InfoKind>,
    /// Its other end, or the device under it, is in another network namespace.
    leads_elsewhere: bool,
}

impl Form {
    /// Whether packets leave the machine by it, and not by another device of this namespace after it. A virtual
    /// device does if it leads to another namespace, like a container's own, and is on the default route: that a
    /// container's host has to it is not.
    fn is_uplink(&self, on_default_route: bool) -> bool {
        if !self.is_up || self.is_loopback {
            return false;
        }
        match &self.kind {
            None => true,
            Some(InfoKind::Other(kind)) if kind == "wwan" => true,
            Some(_) => self.leads_elsewhere && on_default_route,
        }
    }
}

/// Questions about devices.
pub struct Links {
    netlink: Netlink,
}

impl Links {
    /// Of the network namespace that this thread is in.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        let here = File::open("/proc/thread-self/ns/net")?;
        Ok(Self {
            netlink: Netlink::in_namespace(here.as_fd())?,
        })
    }

    /// The devices by which packets leave the machine.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn uplinks(&mut self) -> io::Result<Vec<Link>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.netlink.ask(request, NLM_F_DUMP)?;
        // Without a route there is an error.
        let ways = NOWHERE.map(|address| self.device_towards(address).ok().flatten());
        let mut links: Vec<Link> = answers.into_iter().filter_map(link).collect();
        links.retain(|link| link.form.is_uplink(ways.contains(&Some(link.index))));
        Ok(links)
    }

    /// A device, by its interface index.
    ///
    /// # Errors
    ///
    /// There is no such device, or the kernel's.
    pub fn link(&mut self, index: u32) -> io::Result<Link> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let request = RouteNetlinkMessage::GetLink(message);
        let answers = self.netlink.ask(request, NLM_F_ACK)?;
        let found = answers.into_iter().find_map(link);
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn device_towards(&mut self, address: IpAddr) -> io::Result<Option<u32>> {
        let mut message = RouteMessage::default();
        let (family, length) = match address {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        message.header.address_family = family;
        message.header.destination_prefix_length = length;
        let destination = RouteAttribute::Destination(RouteAddress::from(address));
        message.attributes.push(destination);
        let request = RouteNetlinkMessage::GetRoute(message);
        let answers = self.netlink.ask(request, NLM_F_ACK)?;
        Ok(answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => {
                route.attributes.into_iter().find_map(|one| match one {
                    RouteAttribute::Oif(index) => Some(index),
                    _ => None,
                })
            }
            _ => None,
        }))
    }
}

/// What an answer says of a device.
fn link(answer: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = answer else {
        return None;
    };
    let mut form = Form {
        is_up: message.header.flags.contains(LinkFlags::Up),
        is_loopback: message.header.flags.contains(LinkFlags::Loopback),
        ..Form::default()
    };
    let header = match message.header.link_layer_type {
        LinkLayerType::Ether => ETHERNET_HEADER,
        _ => 0,
    };
    let mut name = None;
    let mut bytes = None;
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(its) => name = Some(its),
            LinkAttribute::LinkNetNsId(_) => form.leads_elsewhere = true,
            LinkAttribute::LinkInfo(infos) => {
                form.kind = infos.into_iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind),
                    _ => None,
                });
            }
            LinkAttribute::Stats64(stats) => {
                bytes = Some(PerDirection::of(|direction| {
                    let (bytes, packets) = match direction {
                        Direction::Download => (stats.rx_bytes, stats.rx_packets),
                        Direction::Upload => (stats.tx_bytes, stats.tx_packets),
                    };
                    bytes.saturating_sub(header * packets)
                }));
            }
            _ => {}
        }
    }
    Some(Link {
        index: message.header.index,
        name: name?,
        bytes: bytes?,
        form,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_leave_by_hardware_and_by_what_leads_elsewhere() {
        let form = |kind: Option<InfoKind>, leads_elsewhere| Form {
            is_up: true,
            is_loopback: false,
            kind,
            leads_elsewhere,
        };
        for (what, form, on_default_route, is_uplink) in [
            ("a network card", form(None, false), false, true),
            (
                "a modem",
                form(Some(InfoKind::Other("wwan".into())), false),
                false,
                true,
            ),
            (
                "a tunnel on the default route",
                form(Some(InfoKind::Tun), false),
                true,
                false,
            ),
            ("a bridge", form(Some(InfoKind::Bridge), false), true, false),
            (
                "a container's own device",
                form(Some(InfoKind::Veth), true),
                true,
                true,
            ),
            (
                "its host's to it",
                form(Some(InfoKind::Veth), true),
                false,
                false,
            ),
            (
                "a container's, of another's card",
                form(Some(InfoKind::MacVlan), true),
                true,
                true,
            ),
            (
                "a card that is down",
                Form {
                    is_up: false,
                    ..form(None, false)
                },
                true,
                false,
            ),
            (
                "loopback",
                Form {
                    is_loopback: true,
                    ..form(None, false)
                },
                false,
                false,
            ),
        ] {
            assert_eq!(form.is_uplink(on_default_route), is_uplink, "{what}");
        }
    }

    #[test]
    fn the_loopback_device_is_read() {
        let mut links = Links::open().unwrap();
        let loopback = links.link(1).unwrap();
        assert_eq!(loopback.name, "lo");
        assert!(loopback.form.is_loopback);
        assert!(links.link(0x7fff_0000).is_err());
        assert!(links.uplinks().unwrap().iter().all(|link| link.index != 1));
    }
}
