//! What the kernel tells: new processes, and the programs' log messages.

use std::{future::poll_fn, os::fd::AsRawFd, task::Poll};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use aya_log::EbpfLogger;
use chadthrottle_common::{event::ProcessSeen, names::MAP_EVENTS};
use tokio::io::{Interest, unix::AsyncFd};

/// The ring buffers, waiting to be watched.
pub struct Events {
    processes: RingBuf<MapData>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
}

impl Events {
    pub(super) fn take(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        let logger = EbpfLogger::init(ebpf)
            .inspect_err(|error| log::warn!("messages of the eBPF programs can't be read: {error}"))
            .ok();
        Ok(Self {
            processes: super::take_map(ebpf, MAP_EVENTS)?,
            logger,
        })
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
            processes: watch(self.processes)?,
            logger: self.logger.map(watch).transpose()?,
        })
    }
}

fn watch<T: AsRawFd>(ring: T) -> std::io::Result<AsyncFd<T>> {
    // SAFETY: both kinds of ring buffer own the one descriptor that they return each time, until
    // they are dropped, and `AsyncFd` drops its registration before them.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.map_err(Into::into)
}

/// The ring buffers, watched.
pub struct WatchedEvents {
    processes: AsyncFd<RingBuf<MapData>>,
    logger: Option<AsyncFd<EbpfLogger<&'static dyn log::Log>>>,
}

impl WatchedEvents {
    /// Waits until the kernel has told something, passes log messages on to the log, and returns
    /// the processes that were announced. Can be dropped while it waits without losing any.
    ///
    /// # Errors
    ///
    /// The runtime's.
    pub async fn next(&mut self) -> std::io::Result<Vec<ProcessSeen>> {
        let Self { processes, logger } = self;
        poll_fn(|context| {
            if let Some(logger) = logger {
                while let Poll::Ready(guard) = logger.poll_read_ready_mut(context) {
                    let mut guard = guard?;
                    guard.get_inner_mut().flush();
                    guard.clear_ready();
                }
            }
            loop {
                let Poll::Ready(guard) = processes.poll_read_ready_mut(context) else {
                    return Poll::Pending;
                };
                let mut guard = guard?;
                let seen = drain(guard.get_inner_mut());
                guard.clear_ready();
                if !seen.is_empty() {
                    return Poll::Ready(Ok(seen));
                }
            }
        })
        .await
    }
}

fn drain(ring: &mut RingBuf<MapData>) -> Vec<ProcessSeen> {
    let mut seen = Vec::new();
    while let Some(record) = ring.next() {
        match ProcessSeen::from_bytes(&record) {
            Some(event) => seen.push(event),
            None => log::warn!("an event of {} bytes is none that is known", record.len()),
        }
    }
    seen
}
