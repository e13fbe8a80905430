//! Writing limits.

use std::time::Duration;

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use chadthrottle_common::{
    clock::{self, TICKS_PER_NANOSECOND, TICKS_PER_SECOND},
    limit::{Enforced, Limit, Paced},
    names::{MAP_ENFORCED, MAP_LIMITS, MAP_PACED},
    traffic::Direction,
};

use crate::rate::Rate;

/// How far policing lets the clock run ahead: well above TCP's minimum retransmission timeout of
/// 200 ms, so that a flow that lost packets finds credit when it tries again.
const POLICING_BOUND: u64 = 350 * TICKS_PER_SECOND / 1000;

/// How far pacing lets an upload's clock run ahead. TCP waits with its next segments until those
/// it sent have left, and UDP when its send buffer is full, which holds more than a second's worth
/// of a slow limit; fq drops what departs more than ten seconds ahead.
const UPLOAD_PACING_BOUND: u64 = 8 * TICKS_PER_SECOND;

/// What a limited download may add to its own round trip before senders are told to slow down.
const QUEUE: u64 = 150 * TICKS_PER_SECOND / 1000;

/// The same at low rates: room for a few segments of each of eight flows, without which they would
/// fall into retransmission timeouts.
const QUEUE_BYTES: u64 = 32 * 1448;

/// How far ahead the clock is when senders are told to slow down.
fn signal_after(rate: u64) -> u64 {
    QUEUE.max(clock::cost(QUEUE_BYTES, rate.max(1)))
}

/// The cell of a slot's limit in a direction. Cells 0 and 1 would be slot 0's, which is nobody's,
/// so 0 can mean unlimited.
pub(super) const fn cell(slot: u32, direction: Direction) -> u32 {
    2 * slot + direction.index() as u32
}

/// The limit cells and what was enforced.
pub struct LimitCells {
    limits: Array<MapData, Limit>,
    enforced: Array<MapData, Enforced>,
    paced: Array<MapData, Paced>,
}

impl LimitCells {
    pub(super) fn take(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        Ok(Self {
            limits: super::take_map(ebpf, MAP_LIMITS)?,
            enforced: super::take_map(ebpf, MAP_ENFORCED)?,
            paced: super::take_map(ebpf, MAP_PACED)?,
        })
    }

    /// Sets the rate of a slot's direction: one map write, whatever the number of sockets.
    ///
    /// `anew` starts a limit from nothing. Otherwise the bytes still owed at the old rate are
    /// kept, as far as the bound allows, so that a change neither stalls nor bursts.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn set(
        &mut self,
        slot: u32,
        direction: Direction,
        rate: Rate,
        anew: bool,
    ) -> anyhow::Result<()> {
        let index = cell(slot, direction);
        let now = now();
        let rate = rate.bytes_per_second();
        let debt = if anew {
            self.enforced
                .set(index, Enforced::default(), 0)
                .with_context(|| format!("limit {index}"))?;
            0
        } else {
            let old = self
                .limits
                .get(&index, 0)
                .with_context(|| format!("limit {index}"))?;
            let owed = clock::debt(old.start.wrapping_add(old.work), now).unwrap_or(0);
            clock::rescale(owed, old.rate, rate).min(POLICING_BOUND)
        };
        let limit = Limit {
            rate,
            policing_bound: POLICING_BOUND,
            pacing_bound: match direction {
                // For senders that can't be told, or not fast enough.
                Direction::Download => signal_after(rate) + POLICING_BOUND,
                Direction::Upload => UPLOAD_PACING_BOUND,
            },
            signal_after: signal_after(rate),
            start: now.wrapping_add(debt),
            ..Limit::default()
        };
        self.limits
            .set(index, limit, 0)
            .with_context(|| format!("limit {index}"))
    }

    /// Names the devices on which a slot's packets are held until their departure time.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn pace(&mut self, slot: u32, devices: &[u32]) -> anyhow::Result<()> {
        let mut paced = Paced::default();
        for (place, device) in paced.devices.iter_mut().zip(devices) {
            *place = *device;
        }
        self.paced
            .set(slot, paced, 0)
            .with_context(|| format!("devices of slot {slot}"))
    }

    /// The last device that packets of a slot left by without being paced, if there was one since
    /// [`Self::pace`].
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn unpaced_device(&self, slot: u32) -> anyhow::Result<Option<u32>> {
        let paced = self
            .paced
            .get(&slot, 0)
            .with_context(|| format!("devices of slot {slot}"))?;
        Ok((paced.other != 0).then_some(paced.other))
    }

    /// How far the clock of a slot's direction is ahead now: what its limit adds to the round trip.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn delay(&self, slot: u32, direction: Direction) -> anyhow::Result<Duration> {
        let index = cell(slot, direction);
        let limit = self
            .limits
            .get(&index, 0)
            .with_context(|| format!("limit {index}"))?;
        let debt = limit.debt(now()).unwrap_or(0);
        Ok(Duration::from_nanos(debt / TICKS_PER_NANOSECOND))
    }

    /// What the limit of a slot's direction did since it was set anew.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn enforced(&self, slot: u32, direction: Direction) -> anyhow::Result<Enforced> {
        let index = cell(slot, direction);
        self.enforced
            .get(&index, 0)
            .with_context(|| format!("limit {index}"))
    }
}

/// The present on the clock that `bpf_ktime_get_ns` reads.
fn now() -> clock::Ticks {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    clock::from_nanoseconds(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
