//! Connections of a process that somebody looks at, and the ports of all.

use std::{borrow::Cow, net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{direction::PerDirection, process::ProcessKey};
use crate::rate::{Bytes, Rate};

/// What is wanted besides the table; each costs something with every sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The connections of this process.
    pub process: Option<ProcessKey>,
    /// The ports of every process.
    pub ports: bool,
}

/// What was wanted, in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// Of [`Watch::process`].
    pub details: Option<Arc<Details>>,
    /// Of [`Watch::ports`].
    pub ports: Option<Arc<Ports>>,
}

/// Local and remote ports of every process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ports(Vec<(ProcessKey, Vec<u16>)>);

impl FromIterator<(ProcessKey, Vec<u16>)> for Ports {
    fn from_iter<T: IntoIterator<Item = (ProcessKey, Vec<u16>)>>(ports: T) -> Self {
        let mut ports: Vec<_> = ports.into_iter().collect();
        ports.sort_unstable_by_key(|(key, _)| *key);
        Self(ports)
    }
}

impl Ports {
    /// Those of a process.
    pub fn of(&self, key: ProcessKey) -> &[u16] {
        match self.0.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) => &self.0[at].1,
            Err(_) => &[],
        }
    }
}

/// The connections of a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// Whose.
    pub key: ProcessKey,
    /// In no order.
    pub connections: Vec<Connection>,
    /// Why they are not, or not all, known.
    pub missing: Option<String>,
}

/// What a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, and MPTCP.
    Tcp,
    /// UDP, and UDP-Lite.
    Udp,
    /// Everything else that has addresses.
    Raw,
}

impl Protocol {
    /// As tools show it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Raw => "raw",
        }
    }
}

/// A socket with an address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// What it speaks.
    pub protocol: Protocol,
    /// This machine's end.
    pub local: SocketAddr,
    /// The other end; nothing for one that listens, or that sends to anybody.
    pub remote: Option<SocketAddr>,
    /// Its state as `ss` shows it: `ESTAB`, `LISTEN`.
    pub state: Cow<'static, str>,
    /// Payload a second over the last interval; nothing where the kernel doesn't count.
    pub rate: Option<PerDirection<Rate>>,
    /// Payload since it was opened; nothing where the kernel doesn't count.
    pub bytes: Option<PerDirection<Bytes>>,
    /// The smoothed round trip.
    pub round_trip: Option<Duration>,
    /// Segments sent again since it was opened.
    pub retransmits: Option<u32>,
}
