//! What the devices carried by which packets leave the machine, and what of it no process accounts for.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use chadthrottle_common::traffic::{Direction, LOOPBACK};

use super::{Engine, namespaces::Namespace};
use crate::{
    kernel::Kernel,
    model::{
        direction::PerDirection,
        process::Pid,
        uplink::{Devices, Uplink},
    },
    process::links::{Link, Links},
    rate::{Bytes, Rate},
};

/// How long it may take until a device that comes or goes is known.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A twentieth of what a device carried may be what it counts otherwise: headers below IP, checksums.
const COUNTED_OTHERWISE: u64 = 20;

/// So many bytes a second are on every network without anybody's doing: ARP, neighbours, announcements.
const BACKGROUND: f64 = 5000.0;

/// What is known of the devices.
#[derive(Default)]
pub struct Uplinks {
    /// Nothing before the first look, or where the kernel does not answer.
    links: Option<Links>,
    listed: Option<Instant>,
    known: Vec<Known>,
    loopback: Option<u64>,
    loopback_rate: Rate,
    /// Said once: what devices carry can't be known.
    said: bool,
}

/// A device, and its readings at the last sample.
struct Known {
    index: u32,
    uplink: Uplink,
    carried: PerDirection<u64>,
    /// What sockets moved by it; nothing where it has too high an index.
    seen: Option<PerDirection<u64>>,
    accounts: PerDirection<Account>,
}

/// What a device carried in one direction, beside what processes did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Account {
    /// What processes had sent and the device not yet, at the end of the last interval.
    early: u64,
    /// What is nobody's of the last interval.
    nobodys: u64,
}

impl Account {
    /// A device carried this in an interval, and sockets moved that by it.
    fn settle(&mut self, carried: u64, seen: u64, interval: Duration) {
        let expected = seen + self.early;
        // What a queue holds is no more than what was just sent.
        self.early = expected.saturating_sub(carried).min(seen);
        let nobodys = carried.saturating_sub(expected);
        let background = (BACKGROUND * interval.as_secs_f64()) as u64;
        self.nobodys = match nobodys > background.max(carried / COUNTED_OTHERWISE) {
            true => nobodys,
            false => 0,
        };
    }
}

impl Uplinks {
    /// What is shown of them.
    pub fn devices(&self) -> Devices {
        Devices {
            uplinks: self
                .known
                .iter()
                .map(|known| known.uplink.clone())
                .collect(),
            loopback: self.loopback_rate,
        }
    }

    /// The name of a device.
    pub fn name(&self, index: u32) -> Option<Arc<str>> {
        let known = self.known.iter().find(|known| known.index == index)?;
        Some(known.uplink.name.clone())
    }

    /// The interface indexes of those that there are.
    pub fn indexes(&self) -> Vec<u32> {
        self.known.iter().map(|known| known.index).collect()
    }

    fn sample(&mut self, kernel: &Kernel, interval: Duration) -> io::Result<()> {
        let links = match &mut self.links {
            Some(links) => links,
            none => none.insert(Links::open()?),
        };
        if self
            .listed
            .is_none_or(|listed| listed.elapsed() >= LOOK_AGAIN)
        {
            let uplinks = links.uplinks()?;
            self.listed = Some(Instant::now());
            let has = |known: &Known| (uplinks.iter()).any(|link| known.is(link));
            self.known.retain(has);
            for link in &uplinks {
                if !self.known.iter().any(|known| known.is(link)) {
                    self.known.push(Known::new(link, kernel));
                }
            }
        }
        for known in &mut self.known {
            // One that has gone is found out about by the next list.
            if let Ok(link) = links.link(known.index) {
                known.sample(&link, kernel, interval);
            }
        }
        let sent = links.link(LOOPBACK)?.bytes.upload;
        let before = self.loopback.replace(sent).unwrap_or(sent);
        self.loopback_rate = Rate::over(sent.saturating_sub(before), interval);
        Ok(())
    }

    /// Whether so many bytes a second, or more, that are no process's were sent in the last interval.
    pub fn sends_nobodys(&self, rate: u64) -> bool {
        let rates = self.known.iter().map(|known| known.uplink.unaccounted_rate);
        let mut sent = rates.map(|rates| rates.upload.bytes_per_second());
        sent.any(|sent| sent >= rate)
    }

    fn has_strangers(&self) -> bool {
        let accounts = self.known.iter().map(|known| known.accounts);
        let mut nobodys = accounts.map(|accounts| accounts.map(|account| account.nobodys));
        nobodys.any(|nobodys| nobodys != PerDirection::default())
    }

    /// What processes in other network namespaces moved left by one of these devices, if it did: by the one that
    /// carried most.
    fn excuse(&mut self, elsewhere: PerDirection<u64>) {
        for direction in Direction::BOTH {
            let mut left = *elsewhere.get(direction);
            let mut accounts: Vec<&mut Account> = (self.known.iter_mut())
                .map(|known| known.accounts.get_mut(direction))
                .collect();
            accounts.sort_by_key(|account| std::cmp::Reverse(account.nobodys));
            for account in accounts {
                let excused = left.min(account.nobodys);
                account.nobodys -= excused;
                left -= excused;
            }
        }
    }

    fn close(&mut self, interval: Duration) {
        for known in &mut self.known {
            let uplink = &mut known.uplink;
            for direction in Direction::BOTH {
                // Once: a device that can't be read next time has nothing new.
                let nobodys = std::mem::take(&mut known.accounts.get_mut(direction).nobodys);
                let sum = uplink.unaccounted.get_mut(direction);
                *sum = Bytes::new(sum.count() + nobodys);
                *uplink.unaccounted_rate.get_mut(direction) = Rate::over(nobodys, interval);
            }
        }
    }
}

impl Known {
    fn new(link: &Link, kernel: &Kernel) -> Self {
        Self {
            index: link.index,
            uplink: Uplink {
                name: link.name.as_str().into(),
                ..Uplink::default()
            },
            carried: link.bytes,
            seen: kernel.devices.read(link.index).ok(),
            accounts: PerDirection::default(),
        }
    }

    fn is(&self, link: &Link) -> bool {
        self.index == link.index && *self.uplink.name == *link.name
    }

    fn sample(&mut self, link: &Link, kernel: &Kernel, interval: Duration) {
        // After the device's, so that it has all that the device carried.
        let seen = kernel.devices.read(self.index).ok();
        for direction in Direction::BOTH {
            let carried = link.bytes.get(direction);
            let carried = carried.saturating_sub(*self.carried.get(direction));
            let bytes = self.uplink.bytes.get_mut(direction);
            *bytes = Bytes::new(bytes.count() + carried);
            *self.uplink.rate.get_mut(direction) = Rate::over(carried, interval);
            if let (Some(now), Some(before)) = (&seen, &self.seen) {
                let seen = now.get(direction).wrapping_sub(*before.get(direction));
                let account = self.accounts.get_mut(direction);
                account.settle(carried, seen, interval);
            }
        }
        self.carried = link.bytes;
        self.seen = seen;
    }
}

impl Engine {
    /// Reads what the devices carried. `busy` are the processes that moved something in this interval.
    pub(super) fn read_uplinks(&mut self, busy: &[Pid], interval: Duration) {
        if let Err(error) = self.uplinks.sample(&self.kernel, interval)
            && !std::mem::replace(&mut self.uplinks.said, true)
        {
            log::warn!("what network devices carry is not known: {error}");
        }
        if self.uplinks.has_strangers() {
            let elsewhere = self.moved_elsewhere(busy);
            self.uplinks.excuse(elsewhere);
        }
        self.uplinks.close(interval);
    }

    /// What processes in other network namespaces than this program's moved; of those that had gone before they were
    /// looked at, it can't be known that they weren't.
    fn moved_elsewhere(&self, busy: &[Pid]) -> PerDirection<u64> {
        let owners = busy.iter().filter_map(|pid| self.owners.of_process(*pid));
        owners
            .filter(|owner| owner.namespace != Namespace::Own)
            .fold(PerDirection::default(), |moved, owner| {
                PerDirection::of(|direction| moved.get(direction) + owner.moved().get(direction))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_no_process_moved_is_nobodys() {
        for (what, carried, seen, nobodys) in [
            ("all of it is a process's", 1_000_000, 1_000_000, 0),
            ("headers", 1_040_000, 1_000_000, 0),
            ("the network's background", 4_000, 0, 0),
            ("a packet socket", 1_000_000, 0, 1_000_000),
            (
                "a packet socket beside a process",
                3_000_000,
                1_000_000,
                2_000_000,
            ),
            ("a policed process", 500_000, 1_000_000, 0),
        ] {
            let mut account = Account::default();
            account.settle(carried, seen, SECOND);
            assert_eq!(account.nobodys, nobodys, "{what}");
        }
    }

    #[test]
    fn what_waited_in_a_queue_is_not_nobodys_when_it_leaves() {
        let mut account = Account::default();
        account.settle(200_000, 1_000_000, SECOND);
        account.settle(800_000, 0, SECOND);
        assert_eq!(account.nobodys, 0);
        account.settle(800_000, 0, SECOND);
        assert_eq!(account.nobodys, 800_000);
    }

    #[test]
    fn what_was_dropped_excuses_nobody_for_long() {
        let mut account = Account::default();
        for _ in 0..100 {
            account.settle(100_000, 1_000_000, SECOND);
        }
        account.settle(1_000_000, 0, SECOND);
        assert_eq!(account.nobodys, 0);
        account.settle(1_000_000, 0, SECOND);
        assert_eq!(account.nobodys, 1_000_000);
    }

    #[test]
    fn containers_excuse_the_device_that_carried_most() {
        let known = |nobodys| Known {
            index: 2,
            uplink: Uplink::default(),
            carried: PerDirection::default(),
            seen: None,
            accounts: PerDirection::of(|_| Account { early: 0, nobodys }),
        };
        let mut uplinks = Uplinks {
            known: vec![known(10_000), known(500_000)],
            ..Uplinks::default()
        };
        uplinks.excuse(PerDirection {
            download: 505_000,
            upload: 100_000,
        });
        let left = |at: usize| uplinks.known[at].accounts.map(|account| account.nobodys);
        assert_eq!(
            left(0),
            PerDirection {
                download: 5_000,
                upload: 10_000
            }
        );
        assert_eq!(
            left(1),
            PerDirection {
                download: 0,
                upload: 400_000
            }
        );
    }
}
