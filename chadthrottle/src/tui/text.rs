//! Processes and limits in words.

use chadthrottle_common::traffic::Direction;

use crate::{
    engine::snapshot::{Limits, ProcessRow},
    rate::{Rate, Units},
};

/// A process in words: `curl (4242)`.
pub fn subject(row: &ProcessRow) -> String {
    format!("{} ({})", row.name, row.pid())
}

/// `it` or `them`.
pub const fn their(several: bool) -> &'static str {
    if several { "them" } else { "it" }
}

/// A count and its noun: `1 process`, `3 processes`.
pub fn counted(count: usize, one: &str, more: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {more}"),
    }
}

/// Limits in words, to follow the name of a process: ` to 500 KB/s down; upload unlimited`.
pub fn terms(limits: &Limits, units: Units) -> String {
    let (mut rates, mut others) = (Vec::new(), Vec::new());
    for (direction, way, noun) in [
        (Direction::Download, "down", "download"),
        (Direction::Upload, "up", "upload"),
    ] {
        match *limits.get(direction) {
            Some(Rate::ZERO) => others.push(format!("{noun} blocked")),
            Some(rate) => rates.push(format!("{} {way}", units.rate(rate))),
            None => others.push(format!("{noun} unlimited")),
        }
    }
    let rates = match rates.is_empty() {
        true => String::new(),
        false => format!(" to {}", rates.join(" and ")),
    };
    match (rates.is_empty(), others.is_empty()) {
        (_, true) => rates,
        (true, false) => format!(": {}", others.join("; ")),
        (false, false) => format!("{rates}; {}", others.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_in_words() {
        let rate = |bytes| Some(Rate::from_bytes_per_second(bytes));
        for (download, upload, words) in [
            (rate(500_000), None, " to 500 KB/s down; upload unlimited"),
            (None, rate(500_000), " to 500 KB/s up; download unlimited"),
            (
                rate(1_500_000),
                rate(1_000),
                " to 1.50 MB/s down and 1.00 KB/s up",
            ),
            (rate(0), rate(1_000), " to 1.00 KB/s up; download blocked"),
            (rate(0), rate(0), ": download blocked; upload blocked"),
            (rate(0), None, ": download blocked; upload unlimited"),
            (None, None, ": download unlimited; upload unlimited"),
        ] {
            assert_eq!(terms(&Limits { download, upload }, Units::default()), words);
        }
    }
}
