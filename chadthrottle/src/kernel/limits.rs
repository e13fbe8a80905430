//! Writing limits.

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use chadthrottle_common::{
    clock::{self, TICKS_PER_SECOND},
    limit::{Enforced, Limit},
    names::{MAP_ENFORCED, MAP_LIMITS},
    traffic::Direction,
};

use crate::rate::Rate;

/// How far policing lets the clock run ahead: well above TCP's minimum retransmission timeout of
/// 200 ms, so that a flow that lost packets finds credit when it tries again.
const DEBT_BOUND: u64 = 350 * TICKS_PER_SECOND / 1000;

/// The cell of a slot's limit in a direction. Cells 0 and 1 would be slot 0's, which is nobody's,
/// so 0 can mean unlimited.
pub(super) const fn cell(slot: u32, direction: Direction) -> u32 {
    2 * slot + direction.index() as u32
}

/// The limit cells and what was enforced.
pub struct LimitCells {
    limits: Array<MapData, Limit>,
    enforced: Array<MapData, Enforced>,
}

impl LimitCells {
    pub(super) fn take(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        Ok(Self {
            limits: super::take_map(ebpf, MAP_LIMITS)?,
            enforced: super::take_map(ebpf, MAP_ENFORCED)?,
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
            clock::rescale(owed, old.rate, rate).min(DEBT_BOUND)
        };
        let limit = Limit {
            rate,
            debt_bound: DEBT_BOUND,
            start: now.wrapping_add(debt),
            work: 0,
        };
        self.limits
            .set(index, limit, 0)
            .with_context(|| format!("limit {index}"))
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
