//! What the person should know: the engine's notices and the screen's own, in one list.

use std::time::{Duration, SystemTime};

use crate::model::{
    notice::{Notice, Severity},
    snapshot::Snapshot,
};

/// How long the newest notice is shown on the main screen; the log pane keeps it.
pub const SHOWN_FOR: Duration = Duration::from_secs(8);

/// How many are kept.
const KEPT: usize = 500;

/// All notices that are kept.
#[derive(Clone, Debug, Default)]
pub struct Notices {
    /// Oldest first.
    list: Vec<Entry>,
    /// The first of the engine's that has not been taken.
    next_id: u64,
}

/// A notice, and when it came to the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it happened.
    pub time: SystemTime,
    /// When the screen learned of it.
    pub arrived: SystemTime,
    /// How serious.
    pub severity: Severity,
    /// What, in one line.
    pub text: String,
}

impl Notices {
    /// Adds one of the screen's own.
    pub fn add(&mut self, severity: Severity, text: String, now: SystemTime) {
        self.push(Entry {
            time: now,
            arrived: now,
            severity,
            text,
        });
    }

    /// Takes those of the engine's that are new.
    pub fn take_from(&mut self, snapshot: &Snapshot, now: SystemTime) {
        for Notice {
            id,
            time,
            severity,
            text,
        } in &snapshot.notices
        {
            if *id >= self.next_id {
                self.next_id = id.saturating_add(1);
                self.push(Entry {
                    time: *time,
                    arrived: now,
                    severity: *severity,
                    text: text.clone(),
                });
            }
        }
    }

    fn push(&mut self, entry: Entry) {
        if self.list.len() == KEPT {
            self.list.remove(0);
        }
        self.list.push(entry);
    }

    /// All that are kept, oldest first.
    pub fn all(&self) -> &[Entry] {
        &self.list
    }

    /// The newest, until it has faded.
    pub fn fresh(&self, now: SystemTime) -> Option<&Entry> {
        let newest = self.list.last()?;
        remaining(newest, now).map(|_| newest)
    }

    /// How long until the shown one fades.
    pub fn fades_in(&self, now: SystemTime) -> Option<Duration> {
        remaining(self.list.last()?, now)
    }
}

/// A clock that was set back makes a notice fade at once rather than stay for hours.
fn remaining(entry: &Entry, now: SystemTime) -> Option<Duration> {
    let age = now.duration_since(entry.arrived).ok()?;
    SHOWN_FOR.checked_sub(age).filter(|left| !left.is_zero())
}
