//! What rates and amounts are shown in.

use serde::{Deserialize, Serialize};

use super::{Bytes, Rate};

/// Bytes or bits, in thousands or in 1024s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Units {
    /// 500 KB
    #[default]
    DecimalBytes,
    /// 488 KiB
    BinaryBytes,
    /// 4.00 mbit
    DecimalBits,
    /// 3.81 mibit
    BinaryBits,
}

impl Units {
    /// All of them, in the order in which a key goes through them.
    pub const ALL: [Self; 4] = [
        Self::DecimalBytes,
        Self::BinaryBytes,
        Self::DecimalBits,
        Self::BinaryBits,
    ];

    /// The one after this.
    pub fn next(self) -> Self {
        let at = Self::ALL.iter().position(|units| *units == self);
        Self::ALL[at.map_or(0, |at| (at + 1) % Self::ALL.len())]
    }

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DecimalBytes => "bytes, in thousands (KB, MB)",
            Self::BinaryBytes => "bytes, in 1024s (KiB, MiB)",
            Self::DecimalBits => "bits, in thousands (kbit, mbit)",
            Self::BinaryBits => "bits, in 1024s (kibit, mibit)",
        }
    }

    /// Columns of the widest amount; a rate's `/s` comes on top.
    pub const fn width(self) -> u16 {
        match self {
            Self::DecimalBytes => 7,
            Self::BinaryBytes => 8,
            Self::DecimalBits => 9,
            Self::BinaryBits => 10,
        }
    }

    const fn scale(self) -> (f64, f64, [&'static str; 7]) {
        match self {
            Self::DecimalBytes => (1.0, 1000.0, ["B", "KB", "MB", "GB", "TB", "PB", "EB"]),
            Self::BinaryBytes => (1.0, 1024.0, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]),
            Self::DecimalBits => (
                8.0,
                1000.0,
                ["bit", "kbit", "mbit", "gbit", "tbit", "pbit", "ebit"],
            ),
            Self::BinaryBits => (
                8.0,
                1024.0,
                ["bit", "kibit", "mibit", "gibit", "tibit", "pibit", "eibit"],
            ),
        }
    }

    /// An amount with three significant digits: `999 B`, `1.23 MB`, `9.88 mbit`.
    pub fn amount(self, bytes: Bytes) -> String {
        self.number(bytes.count())
    }

    /// A rate where `/s` is in sight already.
    pub fn figure(self, rate: Rate) -> String {
        self.number(rate.bytes_per_second())
    }

    /// A rate: `1.23 MB/s`.
    pub fn rate(self, rate: Rate) -> String {
        format!("{}/s", self.figure(rate))
    }

    fn number(self, bytes: u64) -> String {
        let (factor, base, names) = self.scale();
        let mut value = bytes as f64 * factor;
        let mut names = names.into_iter();
        let mut name = names.next().unwrap_or_default();
        if value < base {
            return format!("{value} {name}");
        }
        // What would be rounded to a full thousand is shown as one of the next.
        while value >= base - 0.5 {
            let Some(next) = names.next() else { break };
            (value, name) = (value / base, next);
        }
        let digits = match value {
            0.0..9.995 => 2,
            9.995..99.95 => 1,
            _ => 0,
        };
        format!("{value:.digits$} {name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_shown() {
        use Units::*;
        for (units, bytes, text) in [
            (DecimalBytes, 0, "0 B"),
            (DecimalBytes, 999, "999 B"),
            (DecimalBytes, 1_000, "1.00 KB"),
            (DecimalBytes, 1_234_567, "1.23 MB"),
            (DecimalBytes, 12_345_678, "12.3 MB"),
            (DecimalBytes, 123_456_789, "123 MB"),
            (DecimalBytes, 999_960, "1.00 MB"),
            (DecimalBytes, 99_960, "100 KB"),
            (DecimalBytes, 1_000_000_000_000, "1.00 TB"),
            (BinaryBytes, 1_023, "1023 B"),
            (BinaryBytes, 1_048_576, "1.00 MiB"),
            (BinaryBytes, 1_048_000, "1023 KiB"),
            (BinaryBytes, 1_048_500, "1.00 MiB"),
            (DecimalBits, 100, "800 bit"),
            (DecimalBits, 1_000_000, "8.00 mbit"),
            (BinaryBits, 131_072, "1.00 mibit"),
        ] {
            assert_eq!(units.amount(Bytes::new(bytes)), text, "{units:?}");
        }
        assert_eq!(
            DecimalBytes.rate(Rate::from_bytes_per_second(1500)),
            "1.50 KB/s"
        );
        assert_eq!(BinaryBits.next(), DecimalBytes);
    }

    #[test]
    fn the_largest_rate_can_be_typed_as_it_is_shown() {
        for units in Units::ALL {
            let shown = units.rate(Rate::MAX);
            let typed: Rate = shown.parse().expect(&shown);
            assert!(typed <= Rate::MAX, "{shown}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_its_column(bytes in any::<u64>(), which in 0..4_usize) {
            let units = Units::ALL[which];
            let shown = units.amount(Bytes::new(bytes));
            prop_assert!(shown.len() <= usize::from(units.width()), "{shown}");
        }

        #[test]
        fn what_is_shown_can_be_typed(bytes in 0..=Rate::MAX.bytes_per_second(), which in 0..4_usize) {
            let shown = Units::ALL[which].rate(Rate::from_bytes_per_second(bytes));
            let typed: Rate = shown.parse().unwrap();
            let error = typed.bytes_per_second().abs_diff(bytes) as f64;
            prop_assert!(error <= bytes as f64 * 0.0051 + 1.0, "{bytes} {shown}");
        }
    }
}
