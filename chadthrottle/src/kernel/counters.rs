//! Reading the counters.

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray, PerCpuValues},
    util::nr_cpus,
};
use chadthrottle_common::{names::MAP_COUNTERS, traffic::Counters};

/// Counters by slot.
pub struct CounterMap {
    map: PerCpuArray<MapData, Counters>,
}

impl CounterMap {
    pub(super) fn take(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        let map = super::take_map(ebpf, MAP_COUNTERS)?;
        Ok(Self { map })
    }

    /// A slot's counters, all CPUs together.
    ///
    /// # Errors
    ///
    /// The kernel's, which does not happen for a slot in bounds.
    pub fn read(&self, slot: u32) -> anyhow::Result<Counters> {
        let values = self
            .map
            .get(&slot, 0)
            .with_context(|| format!("counters of slot {slot}"))?;
        Ok(values
            .iter()
            .fold(Counters::default(), |sum, cpu| sum.plus(*cpu)))
    }

    /// Sets a slot's counters to zero, for its next owner.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn clear(&mut self, slot: u32) -> anyhow::Result<()> {
        self.map
            .set(slot, zeros()?, 0)
            .with_context(|| format!("counters of slot {slot}"))
    }
}

/// A zero for every CPU.
pub(super) fn zeros<V: aya::Pod + Default>() -> anyhow::Result<PerCpuValues<V>> {
    let cpus = nr_cpus().map_err(|(file, error)| anyhow::anyhow!("{file}: {error}"))?;
    PerCpuValues::try_from(vec![V::default(); cpus]).context("a value for every CPU")
}
