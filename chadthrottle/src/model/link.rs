//! The link by which background traffic goes, and what has been found out about it.

use std::{str::FromStr, sync::Arc, time::Duration};

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
    /// What somebody said that it carries.
    pub said: Option<Rate>,
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
        let measured = self.round_trip.is_some();
        if !measured && self.said.is_none() {
            return None;
        }
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
        Some(match (self.carries, self.said) {
            (_, Some(said)) if !measured => {
                format!(
                    "the link is said to carry {}, which nothing here measures: {why}",
                    rate(said)
                )
            }
            (Some(carries), Some(said)) => {
                let [carries, said] = [carries, said].map(rate);
                format!("the link carries some {carries}, and is said to carry {said}: {why}")
            }
            (Some(carries), None) => format!("the link carries some {}: {why}", rate(carries)),
            (None, _) => why,
        })
    }
}

/// How fast the link is, as somebody says who knows: on the wire, with all headers. Nothing was said of a direction
/// that has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSpeed(pub PerDirection<Option<Rate>>);

impl LinkSpeed {
    /// A speed of one direction, unless it is none.
    ///
    /// # Errors
    ///
    /// A link that carries nothing.
    pub fn checked(speed: Rate) -> Result<Rate, String> {
        match speed {
            Rate::ZERO => Err("a link carries something".to_owned()),
            _ => Ok(speed),
        }
    }
}

/// Two rates as `50mbit/10mbit`: download, upload. A rate may have a '/' itself: 5 MB/s.
pub(super) fn pair<T>(text: &str, rate: impl Fn(&str) -> Option<T>) -> Option<(T, T)> {
    text.match_indices('/').find_map(|(place, slash)| {
        let (download, upload) = (&text[..place], &text[place + slash.len()..]);
        Some((rate(download)?, rate(upload)?))
    })
}

/// As `50mbit/10mbit`: download, upload.
impl FromStr for LinkSpeed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((download, upload)) = pair(text, |rate| rate.parse().ok()) else {
            return Err("type what it carries down and up, for example 50mbit/10mbit".to_owned());
        };
        Ok(Self(PerDirection {
            download: Some(Self::checked(download)?),
            upload: Some(Self::checked(upload)?),
        }))
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
            said: None,
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
            (
                LinkDirection {
                    said: Some(rate(1_300_000)),
                    ..shares
                },
                "the link carries some 1.25 MB/s, and is said to carry 1.30 MB/s: others of this machine use 200 KB/s",
            ),
            (
                LinkDirection {
                    said: Some(rate(1_300_000)),
                    round_trip: None,
                    others: Rate::ZERO,
                    ..shares
                },
                "the link is said to carry 1.30 MB/s, which nothing here measures: nobody else of this machine uses it",
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

    #[test]
    fn a_speed_is_typed_for_both_directions() {
        let rate = |text: &str| Some(text.parse().unwrap());
        for (text, download, upload) in [
            ("50mbit/10mbit", "50mbit", "10mbit"),
            ("6 MB/s/1.5 MB/s", "6M", "1.5M"),
            ("6MB/s/500K", "6M", "500K"),
        ] {
            let (download, upload) = (rate(download), rate(upload));
            assert_eq!(
                text.parse(),
                Ok(LinkSpeed(PerDirection { download, upload }))
            );
        }
        for (text, error) in [
            ("50mbit", "50mbit/10mbit"),
            ("", "50mbit/10mbit"),
            ("50mbit/", "50mbit/10mbit"),
            ("/", "50mbit/10mbit"),
            ("caf\u{e9}/10mbit", "50mbit/10mbit"),
            ("0/10mbit", "carries something"),
        ] {
            let said = text.parse::<LinkSpeed>().unwrap_err();
            assert!(said.contains(error), "{text}: {said}");
        }
    }
}
