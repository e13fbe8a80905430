//! Which network namespaces the processes are in, by the numbers that the kernel half counts their devices by.

use std::collections::{HashMap, HashSet};

use chadthrottle_common::traffic::MAX_NAMESPACES;

use super::{Engine, owners::Owners};
use crate::{
    model::process::Pid,
    process::network::{self, NamespaceId},
};

/// Where a process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Namespace {
    /// It had ended before that was looked at. It is counted where most are, in this program's own.
    #[default]
    Unknown,
    /// Where this program is.
    Own,
    /// In another one that has this number, from 1 on.
    Other(u32),
}

impl Namespace {
    /// As the kernel half counts it.
    pub fn number(self) -> u32 {
        match self {
            Self::Unknown | Self::Own => 0,
            Self::Other(number) => number,
        }
    }
}

/// The last number is that of all those for which no other is left.
const SHARED: u32 = MAX_NAMESPACES - 1;

/// The numbers there are.
pub struct Namespaces {
    own: Option<NamespaceId>,
    others: HashMap<NamespaceId, u32>,
}

impl Default for Namespaces {
    fn default() -> Self {
        Self {
            own: network::namespace_number(Pid(std::process::id())),
            others: HashMap::new(),
        }
    }
}

impl Namespaces {
    /// The one of a process that is taken in, beside those that have slots.
    fn of(&mut self, pid: Pid, owners: &Owners) -> Namespace {
        let used = || (owners.iter().map(|owner| owner.namespace.number())).collect();
        match network::namespace_number(pid) {
            None => Namespace::Unknown,
            its if its == self.own => Namespace::Own,
            Some(its) => Namespace::Other(self.number(its, used)),
        }
    }

    fn number(&mut self, namespace: NamespaceId, used: impl Fn() -> HashSet<u32>) -> u32 {
        if let Some(number) = self.others.get(&namespace) {
            return *number;
        }
        if self.others.len() as u32 >= SHARED - 1 {
            let used = used();
            self.others.retain(|_, number| used.contains(number));
        }
        let taken: HashSet<u32> = self.others.values().copied().collect();
        match (1..SHARED).find(|number| !taken.contains(number)) {
            Some(free) => {
                self.others.insert(namespace, free);
                free
            }
            None => SHARED,
        }
    }
}

impl Engine {
    /// Lets the kernel half count what a process does by the devices of its network namespace.
    pub(super) fn find_namespace(&mut self, slot: u32, pid: Pid) {
        let namespace = self.namespaces.of(pid, &self.owners);
        let Some(owner) = self.owners.of_slot_mut(slot) else {
            return;
        };
        owner.namespace = namespace;
        // A slot begins with this program's own.
        if let Namespace::Other(number) = namespace
            && let Err(error) = self.kernel.slots.set_namespace(owner.tag, number)
        {
            log::warn!("process {pid} counts as if it used this network's devices: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_number_and_those_that_come_too_late_have_one_together() {
        let mut namespaces = Namespaces {
            own: Some(1),
            others: HashMap::new(),
        };
        let all = || (1..SHARED).collect();
        let numbers: HashSet<u32> = (100..100 + u64::from(SHARED) - 1)
            .map(|namespace| namespaces.number(namespace, all))
            .collect();
        assert_eq!(numbers, all());
        assert_eq!(namespaces.number(100, all), namespaces.number(100, all));
        assert_eq!(namespaces.number(7, all), SHARED);
        assert_eq!(namespaces.number(8, all), SHARED);
        // What nobody is in any more goes to the next ones.
        let third = HashSet::from([3]);
        assert_ne!(namespaces.number(7, || third.clone()), SHARED);
        assert_ne!(namespaces.number(8, all), namespaces.number(7, all));
        assert!(![7, 8].map(|it| namespaces.number(it, all)).contains(&3));
    }

    #[test]
    fn this_program_is_in_its_own() {
        let mut namespaces = Namespaces::default();
        let mut of = |pid| namespaces.of(Pid(pid), &Owners::default());
        assert_eq!(of(std::process::id()), Namespace::Own);
        assert_eq!(of(5_000_000), Namespace::Unknown);
    }
}
