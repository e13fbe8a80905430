//! What the machine's network devices carried, whoever made it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::direction::PerDirection;
use crate::rate::{Bytes, Rate};

/// A device by which packets leave the machine. What goes through a tunnel, a bridge or a virtual machine's device
/// leaves by one of these in the end, so each byte is counted once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Uplink {
    /// Its name.
    pub name: Arc<str>,
    /// From the IP header on, since it was first seen.
    pub bytes: PerDirection<Bytes>,
    /// The same a second, over the last interval.
    pub rate: PerDirection<Rate>,
    /// At least so much of the bytes was no process's: packet sockets, forwarded traffic, the kernel's own.
    pub unaccounted: PerDirection<Bytes>,
    /// The same a second, over the last interval.
    pub unaccounted_rate: PerDirection<Rate>,
}

/// The devices of the network namespace that this program runs in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Devices {
    /// By which packets leave; none where the kernel does not tell.
    pub uplinks: Vec<Uplink>,
    /// What went over the loopback device, which is sent and received by the machine itself.
    pub loopback: Rate,
}

impl Devices {
    /// What left or came in together; nothing without an uplink.
    pub fn carried(&self) -> Option<PerDirection<(Rate, Bytes)>> {
        (!self.uplinks.is_empty()).then(|| {
            PerDirection::of(|direction| {
                let rates = self.uplinks.iter().map(|uplink| uplink.rate.get(direction));
                let bytes = self
                    .uplinks
                    .iter()
                    .map(|uplink| uplink.bytes.get(direction));
                (
                    Rate::from_bytes_per_second(rates.map(|rate| rate.bytes_per_second()).sum()),
                    Bytes::new(bytes.map(|bytes| bytes.count()).sum()),
                )
            })
        })
    }

    /// What was no process's, all uplinks and both directions together.
    pub fn unaccounted(&self) -> Bytes {
        let bytes = self.uplinks.iter().map(|uplink| {
            let PerDirection { download, upload } = uplink.unaccounted;
            download.count() + upload.count()
        });
        Bytes::new(bytes.sum())
    }

    /// Those that carried what is no process's in the last interval, with how much.
    pub fn with_strangers(&self) -> impl Iterator<Item = (&Uplink, Rate)> {
        self.uplinks.iter().filter_map(|uplink| {
            let PerDirection { download, upload } = uplink.unaccounted_rate;
            let sum = download.bytes_per_second() + upload.bytes_per_second();
            (sum > 0).then(|| (uplink, Rate::from_bytes_per_second(sum)))
        })
    }
}
