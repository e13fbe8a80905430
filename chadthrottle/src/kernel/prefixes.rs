//! Which networks are this machine's own, told to the programs.

use std::collections::BTreeSet;

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{
        MapData,
        lpm_trie::{Key, LpmTrie},
    },
};
use chadthrottle_common::{address::MAX_PREFIXES, names::MAP_LOCAL_PREFIXES};

use crate::model::prefix::Prefix;

/// The prefixes that are local beside those that are so by themselves.
pub struct LocalPrefixes {
    map: LpmTrie<MapData, [u8; 16], u32>,
    /// What is in that map.
    known: BTreeSet<Prefix>,
}

impl LocalPrefixes {
    pub(super) fn take(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        Ok(Self {
            map: super::take_map(ebpf, MAP_LOCAL_PREFIXES)?,
            known: BTreeSet::new(),
        })
    }

    /// Lets these be local, and no others.
    ///
    /// # Errors
    ///
    /// The kernel's. There are too many: those that are known already stay.
    pub fn set(&mut self, prefixes: &BTreeSet<Prefix>) -> anyhow::Result<()> {
        for gone in self.known.difference(prefixes) {
            // Not being there is what is wanted.
            let _ = self.map.remove(&key(*gone));
        }
        self.known.retain(|prefix| prefixes.contains(prefix));
        for prefix in prefixes {
            if !self.known.contains(prefix) {
                self.map.insert(&key(*prefix), 1, 0).with_context(|| {
                    format!("addresses in own networks count as internet ({MAX_PREFIXES} are known at most)")
                })?;
                self.known.insert(*prefix);
            }
        }
        Ok(())
    }
}

fn key(prefix: Prefix) -> Key<[u8; 16]> {
    Key::new(prefix.length().into(), prefix.octets())
}
