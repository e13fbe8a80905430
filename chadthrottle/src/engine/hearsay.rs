//! How long packets wait, by others' connections: background traffic that measures no round trips itself (UDP, QUIC, TCP
//! without timestamps) has those that the kernel measured of all TCP connections by the same device.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use chadthrottle_common::round_trip::RoundTrip;
use netlink_packet_sock_diag::SockDiagMessage;

use crate::{
    model::{prefix::Prefix, process::Pid},
    process::{
        addresses,
        connections::{self, Connection},
        network,
        rtnetlink::Netlink,
    },
};

/// Others are asked if none of its own was heard of for so long.
const SILENCE: Duration = Duration::from_secs(1);

/// Then so often, and no more than this part of the time: there may be thousands of them.
const AGAIN: Duration = Duration::from_millis(100);
const PART: u32 = 50;

/// For so long addresses are taken to stay what they are.
const HOLDS: Duration = Duration::from_secs(2);

/// What is heard of others.
#[derive(Default)]
pub struct Hearsay {
    netlink: Option<Netlink<SockDiagMessage>>,
    /// When a round trip of its own was heard of last, or when there was no need of any.
    own: Option<Instant>,
    /// Not before this time they are asked again.
    not_before: Option<Instant>,
    places: Option<(Instant, Places)>,
    /// What each had acknowledged when it was asked last: who only receives has no new round trips.
    acknowledged: HashMap<u64, u64>,
    /// Said once: they can't be asked.
    said: bool,
}

/// Where addresses are.
struct Places {
    devices: HashMap<IpAddr, u32>,
    near: Vec<Prefix>,
}

impl Places {
    fn look() -> io::Result<Self> {
        let (namespace, _) = network::namespace_of(Pid(std::process::id()))?;
        Ok(Self {
            devices: addresses::of_devices(namespace.as_fd())?,
            near: addresses::own_networks(namespace.as_fd())?,
        })
    }

    /// Whether a connection goes by the device to somebody who is not on the same network: others don't share the link.
    fn is_by(&self, connection: &Connection, device: u32) -> bool {
        self.devices.get(&connection.local) == Some(&device)
            && !self
                .near
                .iter()
                .any(|network| network.contains(connection.remote))
    }
}

impl Hearsay {
    /// It is known otherwise.
    pub fn is_needless(&mut self) {
        self.own = Some(Instant::now());
    }

    /// What others' connections by the device tell at present; mostly nothing, as it is asked now and then.
    pub fn listen(&mut self, device: u32) -> Vec<RoundTrip> {
        let began = Instant::now();
        let own = *self.own.get_or_insert(began);
        if began < own + SILENCE || self.not_before.is_some_and(|time| began < time) {
            return Vec::new();
        }
        let heard = match self.ask(device) {
            Ok(heard) => heard,
            Err(error) => {
                if !std::mem::replace(&mut self.said, true) {
                    log::warn!("others' round trips are not known: {error}");
                }
                self.netlink = None;
                Vec::new()
            }
        };
        let took = began.elapsed();
        self.not_before = Some(began + AGAIN.max(took * PART));
        heard
    }

    fn ask(&mut self, device: u32) -> io::Result<Vec<RoundTrip>> {
        let places = match self.places.take() {
            Some((since, places)) if since.elapsed() < HOLDS => (since, places),
            _ => (Instant::now(), Places::look()?),
        };
        let (_, places) = self.places.insert(places);
        let netlink = match &mut self.netlink {
            Some(netlink) => netlink,
            closed => closed.insert(Netlink::of_sockets()?),
        };
        let mut connections = connections::established(netlink)?;
        connections.retain(|it| places.is_by(it, device));
        let now = connections.iter().map(|it| (it.cookie, it.acknowledged));
        let before = std::mem::replace(&mut self.acknowledged, now.collect());
        let is_new = |it: &Connection| {
            before
                .get(&it.cookie)
                .is_some_and(|acknowledged| it.acknowledged > *acknowledged)
        };
        let tells = connections.into_iter().filter(is_new);
        let trips = tells.map(|it| RoundTrip {
            flow: it.cookie,
            nanoseconds: it.round_trip.as_nanos() as u64,
            device,
            shortest: it.shortest.as_micros() as u32,
        });
        Ok(trips.collect())
    }
}
