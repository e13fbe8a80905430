//! Notices: what happened that the person at the screen should know.

use crate::model::notice::{Notice, Severity};
use std::{collections::VecDeque, time::SystemTime};

/// How many are kept.
const KEPT: usize = 64;

/// The latest notices. Each goes to the log, too.
#[derive(Default)]
pub struct Notices {
    latest: VecDeque<Notice>,
    next: u64,
}

impl Notices {
    /// Something worth knowing.
    pub fn info(&mut self, text: impl Into<String>) {
        self.add(Severity::Info, text.into());
    }

    /// Something that does not work as asked.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.add(Severity::Warning, text.into());
    }

    fn add(&mut self, severity: Severity, text: String) {
        let level = match severity {
            Severity::Info => log::Level::Info,
            Severity::Warning => log::Level::Warn,
        };
        log::log!(level, "{text}");
        if self.latest.len() == KEPT {
            self.latest.pop_front();
        }
        self.latest.push_back(Notice {
            id: self.next,
            time: SystemTime::now(),
            severity,
            text,
        });
        self.next += 1;
    }

    /// The latest, oldest first.
    pub fn latest(&self) -> Vec<Notice> {
        self.latest.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept_and_numbered_on() {
        let mut notices = Notices::default();
        for n in 0..100 {
            notices.info(n.to_string());
        }
        let latest = notices.latest();
        assert_eq!(latest.len(), KEPT);
        assert_eq!((latest[0].id, &*latest[63].text), (36, "99"));
    }
}
