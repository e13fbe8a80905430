//! Rates and amounts: newtypes, how people type them and how they are shown.
//!
//! One spelling everywhere: decimal bytes (`500K`, `1.5M`, `2MB/s`), binary bytes (`1MiB`), bits
//! (`8mbit`, `1.5Gbit`). What a rate is shown as can be typed again.

use std::{fmt, str::FromStr, time::Duration};

use byte_unit::{Byte, Unit, rust_decimal::Decimal};
use serde::{Deserialize, Serialize};

mod units;

pub use units::Units;

/// Payload bytes a second.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Rate(u64);

/// An amount of payload, in bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(u64);

/// Why a text is not a rate; the message says what to type instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Nothing was typed.
    #[error("type a rate, for example 500K, 1.5M, 1MiB or 8mbit")]
    Empty,
    /// Below zero.
    #[error("a rate can't be negative")]
    Negative,
    /// No digits where they were expected.
    #[error("'{0}' is not a number; type for example 500K, 1.5M, 1MiB or 8mbit")]
    NotANumber(String),
    /// A unit that is read as bits by some and as bytes by others.
    #[error("'{typed}' can mean bits or bytes; type {bytes} for bytes or {bits} for bits a second")]
    Ambiguous {
        /// What was typed.
        typed: String,
        /// The same as bytes.
        bytes: String,
        /// The same as bits.
        bits: String,
    },
    /// No unit that is known.
    #[error("'{0}' is not a unit; use K, M, G (bytes), KiB, MiB, GiB, or kbit, mbit, gbit")]
    UnknownUnit(String),
    /// More than there is.
    #[error("that is more than any network carries; the most is 1000G")]
    TooLarge,
    /// Below a byte a second but not zero.
    #[error("that is less than one byte a second; type 0 to block")]
    TooSmall,
}

impl Rate {
    /// No payload at all: blocked.
    pub const ZERO: Self = Self(0);

    /// The largest rate that can be typed: 1 TB/s.
    pub const MAX: Self = Self(1_000_000_000_000);

    /// So many payload bytes a second.
    pub const fn from_bytes_per_second(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many payload bytes in a time, rounded.
    pub fn over(bytes: u64, time: Duration) -> Self {
        let seconds = time.as_secs_f64();
        if seconds <= 0.0 {
            return Self::ZERO;
        }
        Self((bytes as f64 / seconds).round() as u64)
    }

    /// Payload bytes a second.
    pub const fn bytes_per_second(self) -> u64 {
        self.0
    }

    /// The shortest text that is exactly this rate, for editing it: `1.5M`, `1234567`.
    pub fn exact(self) -> String {
        for (size, suffix) in [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "K")] {
            if self.0 >= size {
                let number = Decimal::from(self.0) / Decimal::from(size);
                return format!("{}{suffix}", number.normalize());
            }
        }
        self.0.to_string()
    }
}

impl Bytes {
    /// So many bytes.
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// How many bytes.
    pub const fn count(self) -> u64 {
        self.0
    }
}

/// What is shown of [`Rate::MAX`] is less than this above it, in all [`Units`].
const ROUNDED: u64 = Rate::MAX.0 / 1000;

/// The units that can be typed, in lower case without a trailing `/s`.
const UNITS: &[(&str, Unit)] = &[
    ("", Unit::B),
    ("byte", Unit::B),
    ("bytes", Unit::B),
    ("k", Unit::KB),
    ("kb", Unit::KB),
    ("m", Unit::MB),
    ("mb", Unit::MB),
    ("g", Unit::GB),
    ("gb", Unit::GB),
    ("t", Unit::TB),
    ("tb", Unit::TB),
    ("ki", Unit::KiB),
    ("kib", Unit::KiB),
    ("mi", Unit::MiB),
    ("mib", Unit::MiB),
    ("gi", Unit::GiB),
    ("gib", Unit::GiB),
    ("ti", Unit::TiB),
    ("tib", Unit::TiB),
    ("bit", Unit::Bit),
    ("kbit", Unit::Kbit),
    ("mbit", Unit::Mbit),
    ("gbit", Unit::Gbit),
    ("tbit", Unit::Tbit),
    ("kibit", Unit::Kibit),
    ("mibit", Unit::Mibit),
    ("gibit", Unit::Gibit),
    ("tibit", Unit::Tibit),
];

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(RateError::Empty);
        }
        let split = text
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '_' | '-' | '+')))
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        if number.starts_with('-') {
            return Err(RateError::Negative);
        }
        if number.is_empty() {
            return Err(RateError::NotANumber(text.to_owned()));
        }
        let unit = parse_unit(number, unit.trim())?;
        let number = Decimal::from_str(&number.replace('_', "")).map_err(|_| {
            if number.bytes().all(|b| b.is_ascii_digit()) {
                RateError::TooLarge
            } else {
                RateError::NotANumber(number.to_owned())
            }
        })?;
        let bytes = Byte::from_decimal_with_unit(number, unit)
            .map(|bytes| bytes.as_u64())
            .ok_or(RateError::TooLarge)?;
        // byte-unit rounds fractions of a byte up; what is under one byte is told apart here.
        if number > Decimal::ZERO && number * unit_size(unit) < Decimal::ONE {
            return Err(RateError::TooSmall);
        }
        // Three digits of the largest rate are more than it in some units: 7.28 tibit/s.
        if bytes >= Self::MAX.0 + ROUNDED {
            return Err(RateError::TooLarge);
        }
        Ok(Self(bytes.min(Self::MAX.0)))
    }
}

/// Bytes in a unit; an eighth for bits.
fn unit_size(unit: Unit) -> Decimal {
    Decimal::from(unit.as_bits_u128() as u64) / Decimal::from(8)
}

fn parse_unit(number: &str, typed: &str) -> Result<Unit, RateError> {
    let unit = typed.strip_suffix("/s").unwrap_or(typed);
    let lower = unit.to_ascii_lowercase();
    // Mb, kb, b: a small b after nothing or a decimal prefix. With a capital B it is bytes.
    let small_b = unit
        .strip_suffix('b')
        .is_some_and(|prefix| matches!(&*prefix.to_ascii_lowercase(), "" | "k" | "m" | "g" | "t"));
    let per_second = ["bps", "kbps", "mbps", "gbps", "tbps"].contains(&&*lower);
    if small_b || per_second {
        let prefix = match lower.as_bytes().first() {
            Some(b'b') | None => String::new(),
            Some(letter) => char::from(*letter).to_string(),
        };
        return Err(RateError::Ambiguous {
            typed: typed.to_owned(),
            bytes: format!("{number}{}B", prefix.to_ascii_uppercase()),
            bits: format!("{number}{prefix}bit"),
        });
    }
    let lower = if lower == "b" { "" } else { &lower };
    UNITS
        .iter()
        .find(|(name, _)| *name == lower)
        .map(|(_, unit)| *unit)
        .ok_or_else(|| RateError::UnknownUnit(typed.to_owned()))
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&Units::default().amount(*self))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&Units::default().rate(*self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_type() {
        for (text, bytes) in [
            ("0", 0),
            ("500K", 500_000),
            ("500k", 500_000),
            ("1.5M", 1_500_000),
            (" 2MB/s ", 2_000_000),
            ("2 MB/s", 2_000_000),
            ("1MiB", 1_048_576),
            ("1MiB/s", 1_048_576),
            ("8mbit", 1_000_000),
            ("8Mbit/s", 1_000_000),
            ("1.5Gbit", 187_500_000),
            ("1234567", 1_234_567),
            ("12 B", 12),
            ("1_000", 1_000),
            ("1000G", 1_000_000_000_000),
            (".5M", 500_000),
        ] {
            assert_eq!(text.parse(), Ok(Rate(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_refused() {
        use RateError as E;
        for (text, error) in [
            ("", E::Empty),
            ("   ", E::Empty),
            ("-1M", E::Negative),
            ("-0.5K", E::Negative),
            ("NaN", E::NotANumber("NaN".into())),
            ("inf", E::NotANumber("inf".into())),
            ("M", E::NotANumber("M".into())),
            ("1.2.3M", E::NotANumber("1.2.3".into())),
            ("1-2", E::NotANumber("1-2".into())),
            ("5 apples", E::UnknownUnit("apples".into())),
            ("1e9", E::UnknownUnit("e9".into())),
            ("1001G", E::TooLarge),
            ("99999999999999999999999999999999999", E::TooLarge),
            ("99999999999999999999999999G", E::TooLarge),
            ("0.1", E::TooSmall),
            ("1bit", E::TooSmall),
        ] {
            assert_eq!(text.parse::<Rate>(), Err(error), "{text}");
        }
        for text in ["8bps", "8Mbps", "8mbps/s", "8Mb", "8kb", "8b"] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(matches!(error, E::Ambiguous { .. }), "{text}: {error}");
        }
        assert_eq!(
            "8Mbps".parse::<Rate>().unwrap_err().to_string(),
            "'Mbps' can mean bits or bytes; type 8MB for bytes or 8mbit for bits a second"
        );
    }

    #[test]
    fn what_is_shown_is_padded() {
        assert_eq!(format!("{:>12}", Rate(1500)), "   1.50 KB/s");
        assert_eq!(format!("{:>9}", Bytes(1500)), "  1.50 KB");
    }

    proptest! {
        #[test]
        fn the_exact_text_is_exact(bytes in 0..=Rate::MAX.0) {
            prop_assert_eq!(Rate(bytes).exact().parse(), Ok(Rate(bytes)));
        }

        #[test]
        fn nothing_typed_panics(text in "\\PC{0,24}") {
            let _ = text.parse::<Rate>();
        }
    }
}
