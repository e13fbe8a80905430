//! Reading the counters.

use std::collections::BTreeSet;

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray, PerCpuValues},
};
use chadthrottle_common::{
    names::{MAP_COUNTERS, MAP_DEVICES},
    traffic::{Counters, DeviceBytes, device_entry},
};

use crate::model::direction::PerDirection;

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

    /// The devices that a slot's packets left by last, one for each CPU.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn devices(&self, slot: u32) -> anyhow::Result<BTreeSet<u32>> {
        let values = self
            .map
            .get(&slot, 0)
            .with_context(|| format!("counters of slot {slot}"))?;
        let devices = values.iter().map(|cpu| cpu.device as u32);
        Ok(devices.filter(|device| *device != 0).collect())
    }

    /// Sets a slot's counters to zero, for its next owner.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn clear(&mut self, slot: u32) -> anyhow::Result<()> {
        let zeros = PerCpuValues::try_from(vec![Counters::default(); super::cpus()?])
            .context("a value for every CPU")?;
        self.map
            .set(slot, zeros, 0)
            .with_context(|| format!("counters of slot {slot}"))
    }
}

/// What sockets moved by a device, in bytes on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceTraffic {
    /// All of it.
    pub seen: PerDirection<u64>,
    /// What of it is background traffic.
    pub background: PerDirection<u64>,
    /// Packets of background traffic that were lost, or marked by a queue.
    pub congested: PerDirection<u64>,
    /// Payload bytes of background traffic that were acknowledged.
    pub acknowledged: u64,
}

impl DeviceTraffic {
    /// Takes in what sockets moved by another device.
    pub fn see(&mut self, moved: PerDirection<u64>) {
        self.seen = PerDirection::of(|direction| {
            (self.seen.get(direction)).wrapping_add(*moved.get(direction))
        });
    }

    /// What came since an earlier reading.
    pub fn since(&self, before: &Self) -> Self {
        let difference = |now: &PerDirection<u64>, before: &PerDirection<u64>| {
            PerDirection::of(|direction| now.get(direction).wrapping_sub(*before.get(direction)))
        };
        Self {
            seen: difference(&self.seen, &before.seen),
            background: difference(&self.background, &before.background),
            congested: difference(&self.congested, &before.congested),
            acknowledged: self.acknowledged.wrapping_sub(before.acknowledged),
        }
    }
}

/// What sockets sent and received by devices.
pub struct DeviceMap {
    map: PerCpuArray<MapData, DeviceBytes>,
}

impl DeviceMap {
    pub(super) fn take(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        let map = super::take_map(ebpf, MAP_DEVICES)?;
        Ok(Self { map })
    }

    /// The bytes on the wire that sockets moved by a device of this program's network namespace, all CPUs together.
    ///
    /// # Errors
    ///
    /// The kernel's; the index is not below [`MAX_DEVICES`](chadthrottle_common::traffic::MAX_DEVICES).
    pub fn read(&self, index: u32) -> anyhow::Result<PerDirection<u64>> {
        Ok(self.traffic(device_entry(0, index))?.seen)
    }

    /// The same by the device of an [entry](device_entry), and what of it is background traffic.
    ///
    /// # Errors
    ///
    /// The kernel's; there is no such entry.
    pub fn traffic(&self, entry: u32) -> anyhow::Result<DeviceTraffic> {
        let values =
            (self.map.get(&entry, 0)).with_context(|| format!("bytes of device {entry}"))?;
        let sum =
            |of: &dyn Fn(&DeviceBytes) -> u64| values.iter().map(of).fold(0, u64::wrapping_add);
        Ok(DeviceTraffic {
            seen: PerDirection::of(|direction| sum(&|cpu| cpu.seen[direction.index()])),
            background: PerDirection::of(|direction| sum(&|cpu| cpu.background[direction.index()])),
            congested: PerDirection::of(|direction| sum(&|cpu| cpu.congested[direction.index()])),
            acknowledged: sum(&|cpu| cpu.acknowledged),
        })
    }
}
