//! What is around the made-up world.

use std::{net::IpAddr, path::PathBuf};

use crate::{
    model::process::ProcessKey,
    tui::{LogTail, Surroundings, preferences::Preferences},
};

/// Made-up names, and nothing is kept.
#[derive(Clone, Debug, Default)]
pub struct MadeUpSurroundings {
    /// The process that the terminal is said to hang on.
    pub carrier: Option<ProcessKey>,
}

impl Surroundings for MadeUpSurroundings {
    fn name_of(&self, address: IpAddr) -> Option<String> {
        let last = match address {
            IpAddr::V4(address) => u16::from(address.octets()[3]),
            IpAddr::V6(address) => address.segments()[7],
        };
        // Not every address has a name.
        (last % 5 != 0).then(|| format!("host-{last}.example.net"))
    }

    fn carriers(&self) -> Vec<ProcessKey> {
        self.carrier.into_iter().collect()
    }

    fn remember(&self, _: &Preferences) {}
}

/// A log with a line in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct MadeUpLog;

impl LogTail for MadeUpLog {
    fn lines(&self, most: usize) -> Vec<String> {
        let line = "[2026-01-01T00:00:00.000Z INFO  chadthrottle] a made-up log line".to_owned();
        std::iter::once(line).take(most).collect()
    }

    fn path(&self) -> Option<PathBuf> {
        Some("/var/log/chadthrottle/chadthrottle.log".into())
    }
}
