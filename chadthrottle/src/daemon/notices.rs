//! One list of notices out of two: those in snapshots, and others.

use std::{collections::VecDeque, sync::Arc, time::SystemTime};

use crate::model::{
    notice::{Notice, Severity},
    snapshot::Snapshot,
};

/// How many are kept.
const KEPT: usize = 64;

/// The notices of snapshots and others, numbered anew.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    latest: VecDeque<Notice>,
    /// The number of the next.
    next: u64,
    /// The first in snapshots that was not taken yet.
    next_in_snapshots: u64,
}

impl Merged {
    /// Adds one that is in no snapshot.
    pub fn add(&mut self, severity: Severity, text: impl Into<String>) {
        self.push(SystemTime::now(), severity, text.into());
    }

    /// The snapshot with all notices.
    pub fn merge(&mut self, snapshot: &Snapshot) -> Arc<Snapshot> {
        for notice in &snapshot.notices {
            if notice.id >= self.next_in_snapshots {
                self.next_in_snapshots = notice.id.saturating_add(1);
                self.push(notice.time, notice.severity, notice.text.clone());
            }
        }
        Arc::new(Snapshot {
            notices: self.latest.iter().cloned().collect(),
            ..snapshot.clone()
        })
    }

    fn push(&mut self, time: SystemTime, severity: Severity, text: String) {
        if self.latest.len() == KEPT {
            self.latest.pop_front();
        }
        self.latest.push_back(Notice {
            id: self.next,
            time,
            severity,
            text,
        });
        self.next += 1;
    }
}
