//! The link by which background traffic goes, and what has been found out about it.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::direction::PerDirection;
use crate::rate::Rate;

/// The link by which background traffic goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// The device's name.
    pub device: Arc<str>,
    /// Both directions of it.
    pub directions: PerDirection<LinkDirection>,
}

/// What is known of one direction of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkDirection {
    /// What it carries; nothing while that is not known.
    pub carries: Option<Rate>,
    /// What others of this machine use of it.
    pub others: Rate,
    /// What background traffic may have.
    pub background: Rate,
    /// How long packets wait in the queue of the link.
    pub queue: Duration,
    /// The round trip without that; nothing while background traffic tells none.
    pub round_trip: Option<Duration>,
    /// Why background traffic has what it has.
    pub why: Why,
}

/// Why background traffic has what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It is being found out how fast the link is.
    Seeks,
    /// It has what others of this machine leave.
    Shares,
    /// Others of this machine fill the link.
    GivesWay,
    /// Packets wait, and there is less until they do not.
    Drains,
    /// Somebody behind the same link needs it.
    Yields,
}

impl LinkDirection {
    /// In words, with rates as `rate` writes them; nothing if background traffic does not use this direction.
    pub fn words(&self, rate: impl Fn(Rate) -> String) -> Option<String> {
        self.round_trip?;
        let waits = self.queue.as_millis();
        let why = match self.why {
            Why::Seeks => "finds out how fast the link is".to_owned(),
            Why::Shares if self.others == Rate::ZERO => {
                "nobody else of this machine uses it".to_owned()
            }
            Why::Shares => format!("others of this machine use {}", rate(self.others)),
            Why::GivesWay => format!("others of this machine fill it, packets wait {waits} ms"),
            Why::Drains => format!("packets wait {waits} ms, takes less until they do not"),
            Why::Yields if waits == 0 => "gives way to somebody else behind it".to_owned(),
            Why::Yields => {
                format!("gives way to somebody else behind it, packets wait {waits} ms")
            }
        };
        Some(match self.carries {
            Some(carries) => format!("the link carries some {}: {why}", rate(carries)),
            None => why,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_words() {
        let rate = Rate::from_bytes_per_second;
        let shares = LinkDirection {
            carries: Some(rate(1_250_000)),
            others: rate(200_000),
            background: rate(1_000_000),
            queue: Duration::from_millis(18),
            round_trip: Some(Duration::from_millis(40)),
            why: Why::Shares,
        };
        let cases = [
            (
                shares,
                "the link carries some 1.25 MB/s: others of this machine use 200 KB/s",
            ),
            (
                LinkDirection {
                    why: Why::Yields,
                    ..shares
                },
                "the link carries some 1.25 MB/s: gives way to somebody else behind it, packets wait 18 ms",
            ),
            (
                LinkDirection {
                    why: Why::Seeks,
                    carries: None,
                    ..shares
                },
                "finds out how fast the link is",
            ),
        ];
        for (direction, words) in cases {
            assert_eq!(direction.words(|rate| rate.to_string()).unwrap(), words);
        }
        let unused = LinkDirection {
            round_trip: None,
            ..shares
        };
        assert_eq!(unused.words(|rate| rate.to_string()), None);
    }
}
