//! Writing limits.

use std::{collections::HashMap, time::Duration};

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{self, Array, MapData},
};
use chadthrottle_common::{
    clock::{self, TICKS_PER_NANOSECOND, TICKS_PER_SECOND},
    landing,
    limit::{
        Enforced, FIRST_BACKGROUND, FIRST_CEILING, FIRST_FREE, Limit, MAX_CEILINGS, Paced, UNHELD,
        is_adaptive, more_paced,
    },
    names::{MAP_ENFORCED, MAP_LIMITS, MAP_MORE_PACED, MAP_PACED},
    traffic::Direction,
};

use crate::rate::Rate;

/// How far policing lets the clock run ahead: well above TCP's minimum retransmission timeout of
/// 200 ms, so that a flow that lost packets finds credit when it tries again.
const POLICING_BOUND: u64 = 350 * TICKS_PER_SECOND / 1000;

/// The same at very low rates: a few segments, as a flow that may only have two on their way waits
/// for its timeouts. At 8 kB/s an upload reached 0.71 of its limit with two, and 1.03 with four.
const POLICING_BYTES: u64 = 4 * 1448;

/// How far ahead the clock is when policing drops.
fn policing_bound(rate: u64) -> u64 {
    POLICING_BOUND.max(clock::cost(POLICING_BYTES, rate.max(1)))
}

/// The furthest that pacing lets a clock run ahead, and an upload's in any case. TCP waits with its
/// next segments until those it sent have left, and UDP when its send buffer is full, which holds
/// more than a second's worth of a slow limit; fq drops what departs more than ten seconds ahead.
const PACING_BOUND: u64 = 8 * TICKS_PER_SECOND;

/// What a limited download may add to its own round trip before senders are told to slow down.
const QUEUE: u64 = 150 * TICKS_PER_SECOND / 1000;

/// The same at low rates: room for a few segments of each of eight flows, without which they would
/// fall into retransmission timeouts.
const QUEUE_BYTES: u64 = 32 * 1448;

/// What a paced download lets through in any case: what eight flows send before they hear anything
/// (RFC 6928). To drop it would cost more than to wait for it.
const BEGINNING: u64 = 8 * 10 * 1448;

/// How far pacing lets a download's clock run ahead, for senders that can't be told, or not fast
/// enough; not further than fq holds what is sent for it.
fn download_pacing_bound(rate: u64) -> u64 {
    (signal_after(rate) + POLICING_BOUND)
        .max(clock::cost(BEGINNING, rate.max(1)))
        .min(PACING_BOUND)
}

/// How far ahead the clock is when senders are told to slow down.
fn signal_after(rate: u64) -> u64 {
    QUEUE.max(clock::cost(QUEUE_BYTES, rate.max(1)))
}

/// The longest that [`LimitCells::hold`] holds, should nobody let go.
const HELD_AT_MOST: Duration = Duration::from_secs(2);

/// The longest that [`LimitCells::pace_anew`] waits for senders to be told: the window program has to be put on
/// a device first.
const UNTOLD_AT_MOST: Duration = Duration::from_millis(500);

/// How far the clock stays ahead when the rate changes: by the same time, not the same bytes. What
/// was admitted at the old rate leaves at its times in any case, and what follows leaves at the new
/// rate behind it. To tell the bytes again at a higher rate would free a part of the bound, which
/// the next packets would use up at once; at a lower rate it would make them wait for what is long
/// gone. Only a slow limit's long queue must not hold up a fast one.
fn kept_debt(debt: clock::Ticks, old: u64, new: u64) -> clock::Ticks {
    if new < old {
        debt
    } else {
        debt.min(POLICING_BOUND)
    }
}

/// How far ahead the clock of an upload may run where its packets are held until they depart. What background traffic may
/// have is soon another rate, and what waits keeps the times it was given: a socket's buffer of datagrams, 110 kB, took
/// 3.4 s to leave at the rate that a link begins with.
fn upload_pacing_bound(index: u32, rate: u64) -> u64 {
    match is_adaptive(index) {
        true => policing_bound(rate),
        false => PACING_BOUND,
    }
}

/// A limit of this rate in place of `old`, whose flights land.
fn anew(index: u32, direction: Direction, rate: Rate, old: &Limit) -> Limit {
    let rate = rate.bytes_per_second();
    let now = now();
    let debt = kept_debt(old.debt(now).unwrap_or(0), old.rate, rate);
    Limit {
        rate,
        policing_bound: policing_bound(rate),
        pacing_bound: match direction {
            Direction::Download => download_pacing_bound(rate),
            Direction::Upload => upload_pacing_bound(index, rate),
        },
        signal_after: signal_after(rate),
        start: now.wrapping_add(debt),
        landing: old.landing.again(now, old.rate, rate),
        ..Limit::default()
    }
}

/// The same where what is in flight needs no landing: everything but the rate stays as it is.
fn at(index: u32, direction: Direction, rate: Rate, old: &Limit) -> Limit {
    let anew = anew(index, direction, rate, old);
    Limit {
        start: anew.start.wrapping_sub(old.work),
        work: old.work,
        next_signal: old.next_signal,
        signals: old.signals,
        control: old.control,
        landing: old.landing.at(anew.start, old.rate, anew.rate),
        ..anew
    }
}

/// For so long after a limit was lowered there may be something in flight that its old rate allowed.
const IN_FLIGHT: u64 = 2 * TICKS_PER_SECOND;

/// The highest rate by which what is in flight was allowed, besides the present one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Allowed {
    rate: u64,
    until: clock::Ticks,
}

impl Allowed {
    /// The same after a rate became `new`; nothing if what is in flight has to land. Where a rate is only a little
    /// lower, its queue is somewhat longer for a moment; a landing would make every window small first.
    fn after(self, now: clock::Ticks, old: u64, new: u64) -> Option<Self> {
        let before = if self.rate > old && clock::debt(self.until, now).is_some() {
            self
        } else {
            Self {
                rate: old,
                until: now.wrapping_add(IN_FLIGHT),
            }
        };
        (old > 0 && new >= before.rate - before.rate / 4).then_some(before)
    }
}

/// A cell: one direction of a limit, of one slot or shared by several.
#[derive(Debug, PartialEq, Eq)]
pub struct Cell {
    index: u32,
    allowed: Allowed,
}

impl Cell {
    /// Its place in the map; never 0, which means unlimited.
    pub(super) const fn index(&self) -> u32 {
        self.index
    }

    /// Whether its rate is what the link has for its traffic.
    pub const fn is_adaptive(&self) -> bool {
        is_adaptive(self.index)
    }
}

/// The rate of an adaptive cell that holds nothing: its packets pass as if there were none.
pub const UNHELD_RATE: Rate = Rate::from_bytes_per_second(UNHELD);

/// What a limit does now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Present {
    /// How far its clock is ahead: what it adds to the round trip.
    pub delay: Duration,
    /// Whether what was in flight when it came is, or was just, let in.
    pub settling: bool,
    /// The time that all it let through takes at its rate; from 0 again when it begins anew.
    pub worked: Duration,
}

/// No cell is free.
#[derive(Debug, thiserror::Error)]
#[error("{0} limits are in force, which is the most there can be on this machine")]
pub struct CellsExhausted(u32);

/// No cell of background traffic is free.
#[derive(Debug, thiserror::Error)]
#[error(
    "{MAX_CEILINGS} rates of background traffic are in force, counting each direction, which is the most there can be: \
     leave out the rate, or end another one"
)]
pub struct CeilingsExhausted;

/// The limit cells and what was enforced.
pub struct LimitCells {
    /// How many cells there are, with the unused one.
    count: u32,
    limits: Array<MapData, Limit>,
    enforced: Array<MapData, Enforced>,
    paced: Array<MapData, Paced>,
    more_paced: maps::HashMap<MapData, u64, u32>,
    /// What is in that map, by slot.
    more: HashMap<u32, Vec<u64>>,
    /// Cells that are nobody's, the next one last.
    free: Vec<u32>,
    /// The same of background traffic.
    free_ceilings: Vec<u32>,
}

impl LimitCells {
    /// With `count` cells.
    pub(super) fn take(ebpf: &mut Ebpf, count: u32) -> anyhow::Result<Self> {
        Ok(Self {
            count,
            limits: super::take_map(ebpf, MAP_LIMITS)?,
            enforced: super::take_map(ebpf, MAP_ENFORCED)?,
            paced: super::take_map(ebpf, MAP_PACED)?,
            more_paced: super::take_map(ebpf, MAP_MORE_PACED)?,
            more: HashMap::new(),
            free: (FIRST_FREE..count).rev().collect(),
            free_ceilings: (FIRST_CEILING..FIRST_FREE).rev().collect(),
        })
    }

    /// A cell with a limit that has done nothing yet.
    ///
    /// # Errors
    ///
    /// [`CellsExhausted`], or the kernel's.
    pub fn allocate(&mut self, direction: Direction, rate: Rate) -> anyhow::Result<Cell> {
        let index = self
            .free
            .pop()
            .ok_or(CellsExhausted(self.count - FIRST_FREE))?;
        let cell = self.begin(index, direction, rate);
        if cell.is_err() {
            self.free.push(index);
        }
        cell
    }

    /// The cell of all background traffic of a direction, as if it had done nothing yet. There is one, and whoever has
    /// it is the only one.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn background(&mut self, direction: Direction, rate: Rate) -> anyhow::Result<Cell> {
        self.begin(FIRST_BACKGROUND + direction.index() as u32, direction, rate)
    }

    /// A cell of background traffic that has a rate besides.
    ///
    /// # Errors
    ///
    /// [`CeilingsExhausted`], or the kernel's.
    pub fn ceiling(&mut self, direction: Direction, rate: Rate) -> anyhow::Result<Cell> {
        let index = self.free_ceilings.pop().ok_or(CeilingsExhausted)?;
        let cell = self.begin(index, direction, rate);
        if cell.is_err() {
            self.free_ceilings.push(index);
        }
        cell
    }

    fn begin(&mut self, index: u32, direction: Direction, rate: Rate) -> anyhow::Result<Cell> {
        let cell = Cell {
            index,
            allowed: Allowed::default(),
        };
        self.enforced
            .set(index, Enforced::default(), 0)
            .with_context(|| format!("limit {index}"))?;
        self.write(&cell, anew(index, direction, rate, &Limit::default()))?;
        Ok(cell)
    }

    /// Takes a cell back that no slot names any more.
    pub fn release(&mut self, cell: Cell) {
        match cell.index {
            FIRST_FREE.. => self.free.push(cell.index),
            FIRST_CEILING.. => self.free_ceilings.push(cell.index),
            _ => {}
        }
    }

    /// Changes the rate of a limit: one map write, whatever the number of sockets. `kept_debt`
    /// makes sure that it neither stalls nor bursts. If the rate is much lower, what is in flight lands as under
    /// a new limit.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn change(
        &mut self,
        cell: &mut Cell,
        direction: Direction,
        rate: Rate,
    ) -> anyhow::Result<()> {
        let old = self.limit(cell)?;
        let allowed = (cell.allowed).after(now(), old.rate, rate.bytes_per_second());
        let limit = match allowed {
            Some(_) => at(cell.index, direction, rate, &old),
            None => anew(cell.index, direction, rate, &old),
        };
        self.write(cell, limit)?;
        cell.allowed = allowed.unwrap_or_default();
        Ok(())
    }

    /// Begins anew, as if the limit had let nothing through yet.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn restart(&mut self, cell: &Cell, direction: Direction, rate: Rate) -> anyhow::Result<()> {
        let old = self.limit(cell)?;
        self.write(cell, anew(cell.index, direction, rate, &old))
    }

    fn write(&mut self, cell: &Cell, limit: Limit) -> anyhow::Result<()> {
        self.limits
            .set(cell.index, limit, 0)
            .with_context(|| format!("limit {}", cell.index))
    }

    fn limit(&self, cell: &Cell) -> anyhow::Result<Limit> {
        self.limits
            .get(&cell.index, 0)
            .with_context(|| format!("limit {}", cell.index))
    }

    /// Names the devices on which a slot's packets are held until their departure time. What
    /// [`Self::hold`] held is free to go.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn pace(&mut self, slot: u32, devices: &[u32]) -> anyhow::Result<()> {
        let paced = self.paced_of(slot)?;
        self.set_paced(slot, devices, 0, paced.untold_until)
    }

    /// The same for a slot that is limited from now on. Unless all its senders are `told` of that by windows on
    /// their devices, what they send for half a second may be what its process still allows.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn pace_anew(&mut self, slot: u32, devices: &[u32], told: bool) -> anyhow::Result<()> {
        let until = ktime() + UNTOLD_AT_MOST.as_nanos() as u64;
        self.set_paced(slot, devices, 0, if told { 0 } else { until })
    }

    /// The same, but until the next [`Self::pace`], for two seconds at the longest, TCP keeps what it would
    /// send: for as long as a device's qdisc is changed.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn hold(&mut self, slot: u32, devices: &[u32]) -> anyhow::Result<()> {
        let until = ktime() + HELD_AT_MOST.as_nanos() as u64;
        let paced = self.paced_of(slot)?;
        self.set_paced(slot, devices, until, paced.untold_until)
    }

    fn paced_of(&self, slot: u32) -> anyhow::Result<Paced> {
        self.paced
            .get(&slot, 0)
            .with_context(|| format!("devices of slot {slot}"))
    }

    fn set_paced(
        &mut self,
        slot: u32,
        devices: &[u32],
        held_until: u64,
        untold_until: u64,
    ) -> anyhow::Result<()> {
        let mut paced = Paced {
            held_until,
            untold_until,
            ..Paced::default()
        };
        for (place, device) in paced.devices.iter_mut().zip(devices) {
            *place = *device;
        }
        for key in self.more.remove(&slot).unwrap_or_default() {
            // Not being there is what is wanted.
            let _ = self.more_paced.remove(&key);
        }
        let mut full = Ok(());
        for device in devices.iter().skip(paced.devices.len()) {
            let key = more_paced(slot, *device);
            match self.more_paced.insert(key, 1, 0) {
                Ok(()) => self.more.entry(slot).or_default().push(key),
                Err(error) => {
                    full = Err(error).with_context(|| format!("it is policed on device {device}"));
                }
            }
            paced.more = 1;
        }
        self.paced
            .set(slot, paced, 0)
            .with_context(|| format!("devices of slot {slot}"))
            .and(full)
    }

    /// The last device that packets of a slot left by without being paced, if there was one since
    /// [`Self::pace`].
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn unpaced_device(&self, slot: u32) -> anyhow::Result<Option<u32>> {
        let paced = self.paced_of(slot)?;
        Ok((paced.other != 0).then_some(paced.other))
    }

    /// What a limit does now.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn present(&self, cell: &Cell) -> anyhow::Result<Present> {
        let (limit, now) = (self.limit(cell)?, now());
        let debt = limit.debt(now).unwrap_or(0);
        let landed = now.wrapping_sub(limit.landing.since);
        Ok(Present {
            delay: Duration::from_nanos(debt / TICKS_PER_NANOSECOND),
            // A sample tells of the second before.
            settling: limit.landing.since != 0 && landed < landing::LASTS + TICKS_PER_SECOND,
            worked: Duration::from_nanos(limit.work / TICKS_PER_NANOSECOND),
        })
    }

    /// What a limit did since it came into force.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn enforced(&self, cell: &Cell) -> anyhow::Result<Enforced> {
        self.enforced
            .get(&cell.index, 0)
            .with_context(|| format!("limit {}", cell.index))
    }
}

/// The present on the clock that `bpf_ktime_get_ns` reads.
fn now() -> clock::Ticks {
    clock::from_nanoseconds(ktime())
}

/// The same in nanoseconds of `CLOCK_MONOTONIC`.
fn ktime() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests;
