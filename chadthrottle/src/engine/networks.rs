//! Which networks are local, because this machine has an address in them.

use std::{
    collections::{BTreeSet, HashSet},
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use super::Engine;
use crate::{
    model::{process::Pid, rule::Scope},
    process::{addresses, network},
};

/// How long it may take until an address that comes or goes is known.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What is known of them.
#[derive(Default)]
pub struct Networks {
    looked: Option<Instant>,
    /// Said once: not all could be known.
    said: bool,
}

impl Engine {
    /// Looks at the addresses that this machine and the limited processes have, if any rule is about a part of the
    /// traffic, now and then; at once if `now`.
    pub(super) fn look_at_networks(&mut self, now: bool) {
        let known = self.networks.looked;
        let is_due = known.is_none_or(|looked| looked.elapsed() >= LOOK_AGAIN);
        let matters = (self.rules.iter()).any(|active| active.rule.scope != Scope::All);
        if !matters || !(now || is_due) {
            return;
        }
        self.networks.looked = Some(Instant::now());
        let mut pids = vec![Pid(std::process::id())];
        let limited = self
            .owners
            .iter()
            .filter(|owner| owner.enforcement.is_some());
        pids.extend(limited.map(|owner| owner.pid()));
        let mut seen = HashSet::new();
        let mut prefixes = BTreeSet::new();
        for pid in pids {
            self.attend();
            // It may have ended, and its namespace with it.
            let Ok((namespace, number)) = network::namespace_of(pid) else {
                continue;
            };
            if seen.insert(number) {
                match addresses::own_networks(namespace.as_fd()) {
                    Ok(networks) => prefixes.extend(networks),
                    Err(error) => log::debug!("the addresses of process {pid}: {error}"),
                }
            }
        }
        if let Err(error) = self.kernel.local_prefixes.set(&prefixes)
            && !std::mem::replace(&mut self.networks.said, true)
        {
            self.notices.warn(format!("{error:#}"));
        }
    }
}
