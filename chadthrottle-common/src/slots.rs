//! How many slots a machine has.

use crate::{
    limit::{Enforced, Limit, Paced},
    tag::{MAX_SLOTS, SlotState, Tag},
    traffic::Counters,
};

/// Slots may take this part of a machine's memory...
const PART: u64 = 1000;

/// ... and in any case so much for counters, in bytes, of which a slot has one for every CPU...
const COUNTERS_MEMORY: usize = 34 * 1024 * 1024;

/// ... but then no more slots than this...
const ENOUGH: u32 = 8192;

/// ... and no fewer.
const FEWEST: u32 = 1024;

/// What an entry of a hash map takes besides key and value, in bytes (`struct htab_elem` and its bucket).
const ENTRY: usize = 64;

/// How many slots a machine with so many CPUs and so many bytes of memory has.
pub const fn slots_for(cpus: usize, memory: u64) -> u32 {
    let cpus = if cpus == 0 { 1 } else { cpus };
    let counters = size_of::<Counters>() * cpus;
    let limits = 2 * (size_of::<Limit>() + size_of::<Enforced>());
    let each = counters
        + size_of::<SlotState>()
        + size_of::<Paced>()
        + limits
        // Free or a process's, and its family.
        + 2 * (ENTRY + size_of::<Tag>());
    let in_any_case = within(COUNTERS_MEMORY as u64 / counters as u64, FEWEST, ENOUGH);
    within(memory / PART / each as u64, in_any_case, MAX_SLOTS)
}

const fn within(count: u64, least: u32, most: u32) -> u32 {
    if count < least as u64 {
        least
    } else if count > most as u64 {
        most
    } else {
        count as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn slots_grow_with_memory_and_shrink_with_processors() {
        for (cpus, memory, slots) in [
            (2, 0, 8192..=8192),
            (2, GIB, 8192..=8192),
            (2, 16 * GIB, 16_000..=26_000),
            (8, 64 * GIB, 32_000..=50_000),
            (8, 512 * GIB, 65_536..=65_536),
            (64, 16 * GIB, 4096..=4096),
            (64, 256 * GIB, 20_000..=40_000),
            (1024, 16 * GIB, 1024..=1024),
            (0, u64::MAX, 65_536..=65_536),
        ] {
            let found = slots_for(cpus, memory);
            assert!(
                slots.contains(&found),
                "{cpus} CPUs, {memory} bytes: {found}"
            );
        }
    }
}
