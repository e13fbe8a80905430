//! What the kernel tells: new processes, and the programs' log messages.

use std::{
    future::poll_fn,
    os::fd::{AsFd as _, AsRawFd, OwnedFd},
    task::Poll,
};

use anyhow::Context as _;

use aya::{
    Ebpf,
    maps::{Array, MapData, RingBuf},
};
use aya_log::EbpfLogger;
use chadthrottle_common::{
    event::ProcessSeen,
    names::{MAP_EVENTS, MAP_LOST, MAP_ROADS, MAP_ROUND_TRIPS},
    round_trip::RoundTrip,
};
use tokio::io::{Interest, unix::AsyncFd};

/// The processes that the kernel gave slots.
pub struct Announcements {
    ring: RingBuf<MapData>,
    lost: Array<MapData, u64>,
    /// How many were lost when it was asked last.
    known_lost: u64,
}

impl Announcements {
    /// How many were lost since this was asked last, because more were waiting than there is room for. Their
    /// processes have slots all the same.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn newly_lost(&mut self) -> anyhow::Result<u64> {
        let lost = (self.lost.get(&0, 0)).context("how many announcements were lost")?;
        Ok(lost.wrapping_sub(std::mem::replace(&mut self.known_lost, lost)))
    }
}

impl Iterator for Announcements {
    type Item = ProcessSeen;

    /// The next of them. When there is none, that is known without a system call.
    fn next(&mut self) -> Option<ProcessSeen> {
        while let Some(record) = self.ring.next() {
            match ProcessSeen::from_bytes(&record) {
                Some(seen) => return Some(seen),
                None => log::warn!("an event of {} bytes is none that is known", record.len()),
            }
        }
        None
    }
}

/// The slots whose packets leave by a device that they are not paced on, each told at the first such
/// packet.
pub struct Roads(RingBuf<MapData>);

impl Iterator for Roads {
    type Item = u32;

    /// The next of them. When there is none, that is known without a system call.
    fn next(&mut self) -> Option<u32> {
        let record = self.0.next()?;
        record.first_chunk().copied().map(u32::from_ne_bytes)
    }
}

/// The round trips of background traffic. They are looked for, not waited for.
pub struct RoundTrips(RingBuf<MapData>);

impl RoundTrips {
    pub(super) fn take(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        super::take_map(ebpf, MAP_ROUND_TRIPS).map(Self)
    }
}

impl Iterator for RoundTrips {
    type Item = RoundTrip;

    /// The next of them. When there is none, that is known without a system call.
    fn next(&mut self) -> Option<RoundTrip> {
        RoundTrip::from_bytes(&self.0.next()?)
    }
}

/// What becomes readable when the kernel tells something, waiting to be watched.
pub struct Events {
    /// The ring buffers, which somebody else reads.
    rings: Vec<OwnedFd>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
}

impl Events {
    pub(super) fn take(ebpf: &mut Ebpf) -> anyhow::Result<(Announcements, Roads, Self)> {
        let logger = EbpfLogger::init(ebpf)
            .inspect_err(|error| log::warn!("messages of the eBPF programs can't be read: {error}"))
            .ok();
        let announced: RingBuf<MapData> = super::take_map(ebpf, MAP_EVENTS)?;
        let lost = super::take_map(ebpf, MAP_LOST)?;
        let roads: RingBuf<MapData> = super::take_map(ebpf, MAP_ROADS)?;
        let rings = [&announced, &roads].map(|ring| ring.as_fd().try_clone_to_owned());
        let rings: Result<_, _> = rings.into_iter().collect();
        let rings = rings.context("the ring buffers' descriptors")?;
        Ok((
            Announcements {
                ring: announced,
                lost,
                known_lost: 0,
            },
            Roads(roads),
            Self { rings, logger },
        ))
    }
}

impl Events {
    /// Starts watching; must be called where a tokio runtime runs.
    ///
    /// # Errors
    ///
    /// The runtime's.
    pub fn watch(self) -> std::io::Result<WatchedEvents> {
        Ok(WatchedEvents {
            rings: self
                .rings
                .into_iter()
                .map(watch)
                .collect::<Result<_, _>>()?,
            logger: self.logger.map(watch).transpose()?,
        })
    }
}

fn watch<T: AsRawFd>(ring: T) -> std::io::Result<AsyncFd<T>> {
    // SAFETY: both own the one descriptor that they return each time, until they are dropped, and
    // `AsyncFd` drops its registration before them.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.map_err(Into::into)
}

/// The same, watched.
pub struct WatchedEvents {
    rings: Vec<AsyncFd<OwnedFd>>,
    logger: Option<AsyncFd<EbpfLogger<&'static dyn log::Log>>>,
}

impl WatchedEvents {
    /// Waits until something may have been told; passes log messages on to the log meanwhile. Can
    /// be dropped while it waits without losing anything, if [`Announcements`] and [`Roads`] are
    /// read after each time.
    ///
    /// # Errors
    ///
    /// The runtime's.
    pub async fn told(&mut self) -> std::io::Result<()> {
        let Self { rings, logger } = self;
        poll_fn(|context| {
            if let Some(logger) = logger {
                while let Poll::Ready(guard) = logger.poll_read_ready_mut(context) {
                    let mut guard = guard?;
                    guard.get_inner_mut().flush();
                    guard.clear_ready();
                }
            }
            let mut told = Poll::Pending;
            for ring in rings.iter_mut() {
                if let Poll::Ready(guard) = ring.poll_read_ready_mut(context) {
                    // What comes from now on makes it ready again.
                    guard?.clear_ready();
                    told = Poll::Ready(Ok(()));
                }
            }
            told
        })
        .await
    }
}
