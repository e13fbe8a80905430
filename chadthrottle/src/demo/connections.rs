//! Connections of the made-up world. They are made up anew for each sample, always the same ones,
//! so that a hundred thousand of them cost nothing while nobody looks.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use super::world::{Actor, Chance};
use crate::{
    model::connections::{Connection, Protocol},
    rate::{Bytes, Rate},
};

/// A process's connections at a sample.
pub(super) fn of(actor: &Actor, sequence: u64) -> Vec<Connection> {
    let row = &actor.row;
    let mut chance = Chance(u64::from(row.pid().0));
    let listens = actor.program.serves && row.connections > 0;
    let count = row.connections - u32::from(listens);
    // Each has half of what the one before has.
    let share = |bytes: u64, place: u32| match place + 1 == count {
        true => bytes >> place.min(63),
        false => bytes >> (place + 1).min(63),
    };
    let mut connections: Vec<Connection> = (0..count)
        .map(|place| {
            let (local, remote) = addresses(actor, &mut chance);
            let round_trip = Duration::from_micros(400 + chance.below(90_000));
            let wander = Chance(sequence ^ u64::from(place)).below(9);
            let is_udp = actor.program.port == 53 || actor.program.port == 8801;
            let rate = row.rate.map(|rate| share(rate.bytes_per_second(), place));
            let bytes = row.bytes.map(|bytes| share(bytes.count(), place));
            Connection {
                protocol: if is_udp { Protocol::Udp } else { Protocol::Tcp },
                local,
                remote: Some(remote),
                state: "ESTAB".into(),
                rate: (!is_udp).then(|| rate.map(Rate::from_bytes_per_second)),
                bytes: (!is_udp).then(|| bytes.map(Bytes::new)),
                round_trip: (!is_udp).then(|| round_trip * (96 + wander as u32) / 100),
                retransmits: (!is_udp).then(|| chance.below(5).saturating_sub(2) as u32),
            }
        })
        .collect();
    if listens {
        connections.push(Connection {
            protocol: Protocol::Tcp,
            local: SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), actor.program.port),
            remote: None,
            state: "LISTEN".into(),
            rate: None,
            bytes: None,
            round_trip: None,
            retransmits: None,
        });
    }
    connections
}

/// The local and remote address of a connection, from the blocks for documentation (RFC 5737,
/// RFC 3849).
fn addresses(actor: &Actor, chance: &mut Chance) -> (SocketAddr, SocketAddr) {
    let host = 1 + chance.below(250) as u16;
    let (here, there): (IpAddr, IpAddr) = match chance.below(3) {
        0 => (
            Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 2).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0x47, 0, 0, 0, 0, host).into(),
        ),
        _ => (
            Ipv4Addr::new(192, 0, 2, 17).into(),
            Ipv4Addr::new(198, 51, 100, host as u8).into(),
        ),
    };
    let chosen = 32_768 + chance.below(28_000) as u16;
    let (local, remote) = match actor.program.serves {
        true => (actor.program.port, chosen),
        false => (chosen, actor.program.port),
    };
    (SocketAddr::new(here, local), SocketAddr::new(there, remote))
}

/// Local and remote ports.
pub(super) fn ports(connections: &[Connection]) -> Vec<u16> {
    connections
        .iter()
        .flat_map(|connection| [Some(connection.local), connection.remote])
        .flatten()
        .map(|address| address.port())
        .collect()
}
