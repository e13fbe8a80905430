//! By which devices a process's connections go, before a packet shows it: what waits for the other end, or
//! was not seen yet because this program began a moment ago.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    net::IpAddr,
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use chadthrottle_common::traffic::LOOPBACK;

use super::Engine;
use crate::{
    model::process::Pid,
    process::{addresses, network, sockets},
};

/// How long the addresses of a network namespace are taken to stay what they are.
const HOLDS: Duration = Duration::from_secs(1);

/// So many sockets of a process are looked at. Of one that has more, the packets show it.
const MOST_SOCKETS: usize = 4096;

/// The devices of a process's connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roads {
    /// Their interface indexes.
    pub devices: BTreeSet<u32>,
    /// Whether it is known of every connection.
    pub all: bool,
}

/// The addresses of a namespace's devices.
type Addresses = HashMap<IpAddr, u32>;

/// Those of the namespaces that were asked for last, by number.
#[derive(Default)]
pub struct KnownAddresses {
    namespaces: HashMap<u64, (Instant, Addresses)>,
}

impl Roads {
    /// Of connections between these ends.
    fn of(ends: impl IntoIterator<Item = (IpAddr, IpAddr)>, addresses: &Addresses) -> Self {
        let mut roads = Self {
            devices: BTreeSet::new(),
            all: true,
        };
        for (local, remote) in ends {
            let is_here = remote.is_loopback() || addresses.contains_key(&remote);
            let device = match is_here {
                true => Some(LOOPBACK),
                false => addresses.get(&local).copied(),
            };
            roads.all &= device.is_some();
            roads.devices.extend(device);
        }
        roads
    }
}

impl Engine {
    /// The devices that a process's connections go by, as far as its addresses tell.
    pub(super) fn roads_of(&mut self, pid: Pid) -> Roads {
        let ends = sockets::ends(pid, MOST_SOCKETS, &mut || self.attend());
        let (ends, more) = match ends {
            Ok(found) => found,
            Err(error) => {
                log::debug!("the connections of process {pid}: {error}");
                return Roads::default();
            }
        };
        if ends.is_empty() {
            return Roads {
                all: !more,
                ..Roads::default()
            };
        }
        let Ok((namespace, number)) = network::namespace_of(pid) else {
            return Roads::default();
        };
        let known = &mut self.known_addresses.namespaces;
        known.retain(|_, (since, _)| since.elapsed() < HOLDS);
        let (_, addresses) = match known.entry(number) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(free) => match addresses::of_devices(namespace.as_fd()) {
                Ok(addresses) => free.insert((Instant::now(), addresses)),
                Err(error) => {
                    log::debug!("the addresses of process {pid}: {error}");
                    return Roads::default();
                }
            },
        };
        let mut roads = Roads::of(ends, addresses);
        roads.all &= !more;
        roads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn connections_go_by_the_device_of_their_own_address() {
        let addresses = Addresses::from([
            (address("127.0.0.1"), 1),
            (address("192.0.2.7"), 2),
            (address("2001:db8::7"), 3),
        ]);
        for (ends, devices, all) in [
            (vec![], vec![], true),
            (vec![("192.0.2.7", "198.51.100.1")], vec![2], true),
            (vec![("2001:db8::7", "2001:db8:1::1")], vec![3], true),
            (
                vec![("127.0.0.9", "127.0.0.1"), ("192.0.2.7", "198.51.100.1")],
                vec![1, 2],
                true,
            ),
            // To an address of this machine.
            (vec![("192.0.2.7", "192.0.2.7")], vec![1], true),
            // One that nobody has any more, or that was never a device's.
            (
                vec![("192.0.2.8", "198.51.100.1"), ("192.0.2.7", "198.51.100.1")],
                vec![2],
                false,
            ),
        ] {
            let ends = ends.iter().map(|(a, b)| (address(a), address(b)));
            let expected = Roads {
                devices: devices.into_iter().collect(),
                all,
            };
            assert_eq!(Roads::of(ends, &addresses), expected);
        }
    }
}
