//! The addresses of network namespaces.

use std::{io, os::fd::BorrowedFd};

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
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let answers = Netlink::in_namespace(namespace)?.ask(request, NLM_F_DUMP)?;
    let mut networks = Vec::new();
    for answer in answers {
        let RouteNetlinkMessage::NewAddress(message) = answer else {
            continue;
        };
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
