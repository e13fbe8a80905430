//! Counting: directions, amounts, and the counters of a slot.

use core::fmt;

use crate::{address::TrafficClass, map_value};

/// Which way traffic goes, seen from the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Received: the kernel's ingress.
    Download,
    /// Sent: the kernel's egress.
    Upload,
}

impl Direction {
    /// Both, in the order in which arrays hold them.
    pub const BOTH: [Self; 2] = [Self::Download, Self::Upload];

    /// The opposite one.
    #[inline(always)]
    pub const fn other(self) -> Self {
        match self {
            Self::Download => Self::Upload,
            Self::Upload => Self::Download,
        }
    }

    /// The position in arrays by direction.
    #[inline(always)]
    pub const fn index(self) -> usize {
        match self {
            Self::Download => 0,
            Self::Upload => 1,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Download => "download",
            Self::Upload => "upload",
        })
    }
}

/// An amount of traffic.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes above TCP or UDP, the bytes that applications read and write; for other protocols
    /// the whole packet.
    pub payload: u64,
    /// Bytes on the wire from the IP header on, with the headers that segmentation offload adds.
    pub wire: u64,
    /// Packets on the wire.
    pub packets: u64,
}
map_value!(Traffic, 24);

impl Traffic {
    /// Adds another amount, wrapping as kernel counters do.
    #[inline(always)]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            payload: self.payload.wrapping_add(other.payload),
            wire: self.wire.wrapping_add(other.wire),
            packets: self.packets.wrapping_add(other.packets),
        }
    }

    /// Takes an earlier or smaller amount away, not going below zero.
    #[inline(always)]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            payload: self.payload.saturating_sub(other.payload),
            wire: self.wire.saturating_sub(other.wire),
            packets: self.packets.saturating_sub(other.packets),
        }
    }
}

/// The interface index of the loopback device in every network namespace (`LOOPBACK_IFINDEX` of the kernel).
pub const LOOPBACK: u32 = 1;

/// So many devices of the program's own network namespace are counted by their interface index; of those behind, nobody
/// can say who used them.
pub const MAX_DEVICES: u32 = 4096;

/// So many other network namespaces are told apart; those that come when all numbers are taken have the last one
/// together.
pub const MAX_NAMESPACES: u32 = 256;

/// Where it is counted what a device carries: by its interface index in the program's own network namespace, which has
/// number 0, and what is carried in another one by all its devices together. A number tells nothing there: a container
/// has its own, and often they are those that the machine has. There is no entry for a device behind [`MAX_DEVICES`].
#[inline(always)]
pub const fn device_entry(namespace: u32, device: u32) -> u32 {
    if namespace != 0 && device != LOOPBACK {
        MAX_DEVICES + namespace
    } else if device < MAX_DEVICES {
        device
    } else {
        u32::MAX
    }
}

/// What sockets sent and received by a device, see [`device_entry`], on one CPU: bytes on the wire as in
/// [`Traffic::wire`], by [`Direction`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceBytes {
    /// Observed, whatever the throttle pair did then.
    pub seen: [u64; 2],
    /// Of those, what the throttle pair met of background traffic.
    pub background: [u64; 2],
    /// Packets of background traffic that met congestion: lost, or marked by a queue (RFC 3168).
    pub congested: [u64; 2],
    /// Payload bytes of background traffic that were acknowledged: what is sent was not carried yet.
    pub acknowledged: u64,
}
map_value!(DeviceBytes, 56);

/// The counters of a slot on one CPU, by [`Direction`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// What the observers saw. All programs of a cgroup path run, so this includes `dropped`.
    pub seen: [Traffic; 2],
    /// What the throttle pair dropped.
    pub dropped: [Traffic; 2],
    /// Payload that the throttle pair let through, also by [`TrafficClass`]; only of slots that
    /// are limited or metered.
    pub admitted: [[u64; 2]; 2],
    /// The device that the last packet left by on this CPU; 0 before one did.
    pub device: u64,
}
map_value!(Counters, 136);

impl Counters {
    /// Adds another CPU's counters.
    pub fn plus(self, other: Self) -> Self {
        let add = |a: [Traffic; 2], b: [Traffic; 2]| [a[0].plus(b[0]), a[1].plus(b[1])];
        let mut admitted = self.admitted;
        for direction in Direction::BOTH.map(Direction::index) {
            for class in TrafficClass::BOTH.map(TrafficClass::index) {
                let sum = &mut admitted[direction][class];
                *sum = sum.wrapping_add(other.admitted[direction][class]);
            }
        }
        Self {
            seen: add(self.seen, other.seen),
            dropped: add(self.dropped, other.dropped),
            admitted,
            device: if self.device == 0 {
                other.device
            } else {
                self.device
            },
        }
    }

    /// Payload that the throttle pair met, whatever became of it.
    pub const fn met(&self, direction: Direction) -> u64 {
        let i = direction.index();
        let [internet, local] = self.admitted[i];
        internet
            .wrapping_add(local)
            .wrapping_add(self.dropped[i].payload)
    }

    /// What really got through: seen less dropped.
    pub const fn passed(&self, direction: Direction) -> Traffic {
        let i = direction.index();
        self.seen[i].minus(self.dropped[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_other_namespaces_are_not_taken_for_those_with_their_numbers() {
        assert_eq!(device_entry(0, 2), 2);
        assert_eq!(device_entry(7, LOOPBACK), LOOPBACK);
        assert_ne!(device_entry(7, 2), device_entry(8, 2));
        assert_eq!(device_entry(0, MAX_DEVICES + 7), u32::MAX);
        // The first number is 1, and the last entry that of the last number.
        assert!(device_entry(1, 2) >= MAX_DEVICES);
        assert!(device_entry(MAX_NAMESPACES - 1, 2) < MAX_DEVICES + MAX_NAMESPACES);
    }

    #[test]
    fn what_passed_is_what_was_seen_less_what_was_dropped() {
        let traffic = |n| Traffic {
            payload: n,
            wire: n + 40,
            packets: 1,
        };
        let cpu = Counters {
            seen: [traffic(1000), traffic(70)],
            dropped: [traffic(400), Traffic::default()],
            admitted: [[500, 100], [0, 70]],
            device: 2,
        };
        let both = cpu.plus(cpu);
        assert_eq!(both.passed(Direction::Download).payload, 1200);
        assert_eq!(both.passed(Direction::Download).packets, 0);
        assert_eq!(both.passed(Direction::Upload).payload, 140);
        assert_eq!(both.met(Direction::Download), 2000);
        assert_eq!(both.met(Direction::Upload), 140);
    }
}
