//! The addresses of network namespaces.

use std::{collections::HashMap, io, net::IpAddr, os::fd::BorrowedFd};

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
};

use super::rtnetlink::Netlink;
use crate::model::prefix::Prefix;

/// The networks in which a namespace has an address itself, and that address alone where it is at one end of a
/// line: what it reaches without anybody between.
///
/// # Errors
///
/// The namespace can't be entered, or the kernel's.
pub fn own_networks(namespace: BorrowedFd<'_>) -> io::Result<Vec<Prefix>> {
    let mut networks = Vec::new();
    for message in messages(namespace)? {
        let length = message.header.prefix_len;
        for attribute in message.attributes {
            // `Local` is the address itself and `Address` the other end's where these differ (if_addr.h).
            match attribute {
                AddressAttribute::Address(address) if length > 0 => {
                    networks.push(Prefix::new(address, length));
                }
                AddressAttribute::Local(address) => networks.push(Prefix::new(address, 128)),
                _ => {}
            }
        }
    }
    Ok(networks)
}

/// The addresses that a namespace has itself, each with the interface index of its device.
///
/// # Errors
///
/// As of [`own_networks`].
pub fn of_devices(namespace: BorrowedFd<'_>) -> io::Result<HashMap<IpAddr, u32>> {
    let mut devices = HashMap::new();
    for message in messages(namespace)? {
        let mut own = None;
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(address) => own = Some(*address),
                AddressAttribute::Address(address) => own = own.or(Some(*address)),
                _ => {}
            }
        }
        devices.extend(own.map(|address| (address, message.header.index)));
    }
    Ok(devices)
}

fn messages(namespace: BorrowedFd<'_>) -> io::Result<Vec<AddressMessage>> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let answers = Netlink::in_namespace(namespace)?.ask(request, NLM_F_DUMP)?;
    let messages = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewAddress(message) => Some(message),
        _ => None,
    });
    Ok(messages.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, os::fd::AsFd as _};

    #[test]
    fn the_loopback_device_has_its_address() {
        let here = File::open("/proc/self/ns/net").unwrap();
        let devices = of_devices(here.as_fd()).unwrap();
        assert_eq!(devices.get(&"127.0.0.1".parse().unwrap()), Some(&1));
    }
}
