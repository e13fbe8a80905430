//! How much may be moved in a day, a week or a month, and what then.

use std::{fmt, str::FromStr};

use byte_unit::Byte;
use jiff::civil::{Date, Weekday};
use serde::{Deserialize, Serialize};

use crate::{
    model::direction::PerDirection,
    rate::{Bytes, Rate},
};

/// An amount of payload a day, week or month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// How much.
    pub amount: Bytes,
    /// In which time.
    pub period: Period,
    /// What is done when it has been moved.
    pub then: Then,
    /// Of which direction.
    pub count: Count,
}

/// How much, and in which time: `5GB/day`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// How much.
    pub amount: Bytes,
    /// In which time.
    pub period: Period,
}

/// A stretch of the calendar, in local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// From midnight.
    Day,
    /// From midnight before a Monday.
    Week,
    /// From midnight before the first.
    Month,
}

/// What is done when a quota has been moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// The rule's limits come into force.
    #[default]
    Limit,
    /// Nothing passes any more.
    Block,
    /// It is said, and no more.
    Notify,
}

/// Which traffic counts for a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Count {
    /// Both directions together.
    #[default]
    Both,
    /// What is received.
    Download,
    /// What is sent.
    Upload,
}

impl Count {
    /// What counts of the traffic of both directions.
    pub fn of(self, bytes: PerDirection<u64>) -> u64 {
        match self {
            Self::Both => bytes.download.saturating_add(bytes.upload),
            Self::Download => bytes.download,
            Self::Upload => bytes.upload,
        }
    }
}

impl Period {
    /// All of them, as they are written.
    pub const NAMES: [&str; 3] = ["day", "week", "month"];

    /// The first day of the one in which a day is.
    pub fn start(self, day: Date) -> Date {
        match self {
            Self::Day => day,
            Self::Week => {
                let since_monday = day.weekday().since(Weekday::Monday);
                day.checked_sub(jiff::Span::new().days(since_monday))
                    .unwrap_or(day)
            }
            Self::Month => day.first_of_month(),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        })
    }
}

impl FromStr for Allowance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "write for example \"500MB/day\", \"20GB/week\" or \"1TB/month\"";
        let split = text.split_once('/').or_else(|| text.split_once(" per "));
        let Some((amount, period)) = split.or_else(|| text.split_once(" a ")) else {
            return Err(format!(
                "a quota is an amount a day, week or month; {example}"
            ));
        };
        let period = match period.trim().to_lowercase().as_str() {
            "day" | "d" => Period::Day,
            "week" | "w" => Period::Week,
            "month" => Period::Month,
            other => {
                let hint = super::file::mistake::did_you_mean(other, &Period::NAMES);
                return Err(format!("'{other}' is no period{hint}"));
            }
        };
        let amount = amount.trim();
        // A quota in bits would be read as bytes by the next person.
        let bytes = Some(amount)
            .filter(|amount| !amount.to_lowercase().contains("bit"))
            .and_then(|amount| Byte::parse_str(amount, true).ok())
            .ok_or_else(|| format!("'{amount}' is no amount of bytes; {example}"))?;
        match bytes.as_u64() {
            0 => Err("a quota of nothing is a block; write block = true instead".to_owned()),
            amount => Ok(Self {
                amount: Bytes::new(amount),
                period,
            }),
        }
    }
}

impl fmt::Display for Allowance {
    /// As it can be read again, exactly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = Rate::from_bytes_per_second(self.amount.count()).exact();
        write!(f, "{amount}B/{}", self.period)
    }
}

impl Quota {
    /// How much in which time.
    pub fn allowance(&self) -> Allowance {
        Allowance {
            amount: self.amount,
            period: self.period,
        }
    }
}

impl fmt::Display for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Limit => "limit",
            Self::Block => "block",
            Self::Notify => "notify",
        })
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Both => "both",
            Self::Download => "download",
            Self::Upload => "upload",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_write() {
        for (text, amount, period) in [
            ("5GB/day", 5_000_000_000, Period::Day),
            ("500 MB / week", 500_000_000, Period::Week),
            ("1.5GiB/month", 1_610_612_736, Period::Month),
            ("2G per day", 2_000_000_000, Period::Day),
            ("1tb a month", 1_000_000_000_000, Period::Month),
            ("1234567B/day", 1_234_567, Period::Day),
        ] {
            let expected = Allowance {
                amount: Bytes::new(amount),
                period,
            };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for (text, message) in [
            ("5GB", "\"500MB/day\""),
            ("5GB/dya", "did you mean 'day'?"),
            ("5GB/year", "'year' is no period"),
            ("five/day", "'five' is no amount"),
            ("8mbit/day", "'8mbit' is no amount of bytes"),
            ("0/day", "block = true"),
            ("-1GB/day", "no amount"),
        ] {
            let error = text.parse::<Allowance>().unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn where_periods_begin() {
        for (period, day, start) in [
            (Period::Day, "2026-11-22", "2026-11-22"),
            (Period::Week, "2026-11-22", "2026-11-16"),
            (Period::Week, "2026-11-23", "2026-11-23"),
            (Period::Week, "2027-01-01", "2026-12-28"),
            (Period::Month, "2026-11-22", "2026-11-01"),
        ] {
            let day: Date = day.parse().unwrap();
            assert_eq!(period.start(day).to_string(), start, "{period:?} {day}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(amount in 1..u64::MAX / 16) {
            let quota = Allowance { amount: Bytes::new(amount), period: Period::Week };
            prop_assert_eq!(quota.to_string().parse(), Ok(quota));
        }

        #[test]
        fn nothing_typed_panics(text in "\\PC{0,24}") {
            let _ = text.parse::<Allowance>();
        }
    }
}
