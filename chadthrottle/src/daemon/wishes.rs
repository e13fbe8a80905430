//! How often and of what clients want samples. The engine makes the same for all, so everybody gets
//! what somebody wants.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::INTERVAL;
use crate::model::connections::Watch;

/// The wishes of all clients; each ends with its client.
pub struct Wishes<Client> {
    /// Who said last what to watch comes last.
    all: Vec<Wish<Client>>,
}

struct Wish<Client> {
    client: Weak<Client>,
    interval: Option<Duration>,
    watch: Watch,
}

impl<Client> Default for Wishes<Client> {
    fn default() -> Self {
        Self { all: Vec::new() }
    }
}

impl<Client> Wishes<Client> {
    /// A client wants samples so often.
    pub fn set_interval(&mut self, client: &Arc<Client>, interval: Duration) {
        let place = self.place(client);
        self.all[place].interval = Some(interval);
    }

    /// A client wants this in samples.
    pub fn watch(&mut self, client: &Arc<Client>, watch: Watch) {
        let place = self.place(client);
        let mut wish = self.all.remove(place);
        wish.watch = watch;
        self.all.push(wish);
    }

    fn place(&mut self, client: &Arc<Client>) -> usize {
        let client = Arc::downgrade(client);
        let known = self.all.iter().position(|wish| wish.client.ptr_eq(&client));
        known.unwrap_or_else(|| {
            self.all.push(Wish {
                client,
                interval: None,
                watch: Watch::default(),
            });
            self.all.len() - 1
        })
    }

    /// Forgets the wishes of clients that have gone, and says whether there were any.
    pub fn forget_gone(&mut self) -> bool {
        let before = self.all.len();
        self.all.retain(|wish| wish.client.strong_count() > 0);
        self.all.len() != before
    }

    /// The shortest time that somebody wants between samples.
    pub fn interval(&self) -> Duration {
        let wanted = self.all.iter().filter_map(|wish| wish.interval).min();
        wanted.unwrap_or(INTERVAL)
    }

    /// What somebody wants in samples. The connections of one process are read at a time: of the
    /// one that was asked for last.
    pub fn watched(&self) -> Watch {
        Watch {
            process: self.all.iter().rev().find_map(|wish| wish.watch.process),
            ports: self.all.iter().any(|wish| wish.watch.ports),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::process::{Pid, ProcessKey};

    #[test]
    fn everybody_gets_what_somebody_wants_until_they_go() {
        let process = |pid| {
            Some(ProcessKey {
                pid: Pid(pid),
                start_time: 1,
            })
        };
        let watch = |process, ports| Watch { process, ports };
        let (one, other) = (Arc::new("one"), Arc::new("other"));
        let mut wishes = Wishes::default();
        assert_eq!(
            (wishes.interval(), wishes.watched()),
            (INTERVAL, Watch::default())
        );
        wishes.set_interval(&one, INTERVAL / 4);
        wishes.watch(&one, watch(process(1), true));
        wishes.set_interval(&other, INTERVAL * 5);
        wishes.watch(&other, watch(process(2), false));
        assert_eq!(wishes.interval(), INTERVAL / 4);
        assert_eq!(wishes.watched(), watch(process(2), true));
        wishes.watch(&one, watch(process(3), true));
        assert_eq!(wishes.watched(), watch(process(3), true));
        wishes.watch(&one, watch(None, false));
        assert_eq!(wishes.watched(), watch(process(2), false));
        assert!(!wishes.forget_gone());
        drop(one);
        assert!(wishes.forget_gone());
        assert_eq!(wishes.interval(), INTERVAL * 5);
        drop(other);
        assert!(wishes.forget_gone());
        assert_eq!(
            (wishes.interval(), wishes.watched()),
            (INTERVAL, Watch::default())
        );
    }
}
