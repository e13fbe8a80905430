//! Processes and limits in words.

use std::time::SystemTime;

use chadthrottle_common::traffic::Direction;

use crate::{
    model::{direction::Limits, snapshot::ProcessRow, terms::Terms},
    rate::{Rate, Units},
};

/// A process in words: `curl (4242)`.
pub fn subject(row: &ProcessRow) -> String {
    format!("{} ({})", row.name, row.pid())
}

/// A count and its noun: `1 process`, `3 processes`.
pub fn counted(count: usize, one: &str, more: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {more}"),
    }
}

/// Limits in words, to follow the name of a process: ` to 500 KB/s down; upload unlimited`.
pub fn terms(terms: Terms, units: Units) -> String {
    let limits = &terms.limits;
    if terms.is_background() {
        return format!(": has what others leave{}", at_present(limits, units));
    }
    if let Some(guaranteed) = guaranteed(&terms, units) {
        let limited = match limits.is_unlimited() {
            true => String::new(),
            false => format!(", limited{}", self::terms(Terms::limits(*limits), units)),
        };
        return format!(": {guaranteed} before everybody else{limited}");
    }
    if terms.is_high() && limits.is_unlimited() {
        return ": comes before everybody else".to_owned();
    }
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

/// What background traffic has now, as far as that is known: `, 1.20 MB/s down and 300 KB/s up now`.
fn at_present(limits: &Limits, units: Units) -> String {
    match (limits.download, limits.upload) {
        (Some(down), Some(up)) => {
            format!(", {} down and {} up now", units.rate(down), units.rate(up))
        }
        _ => String::new(),
    }
}

/// What limits leave to those that have them: `may download 500 KB/s`.
pub fn may(terms: Terms, units: Units) -> String {
    let limits = &terms.limits;
    let rate = |rate: Rate| units.rate(rate);
    if terms.is_background() {
        return format!("may have what others leave{}", at_present(limits, units));
    }
    if let Some(guaranteed) = guaranteed(&terms, units) {
        let may = may(Terms::limits(*limits), units);
        return format!("may have {guaranteed} before everybody else, {may}");
    }
    if terms.is_high() && limits.is_unlimited() {
        return "may have what it wants, before everybody else".to_owned();
    }
    match (limits.download, limits.upload) {
        (None, None) => "may download and upload what they like".into(),
        (Some(Rate::ZERO), Some(Rate::ZERO)) => "may neither download nor upload".into(),
        (Some(Rate::ZERO), None) => "may not download".into(),
        (None, Some(Rate::ZERO)) => "may not upload".into(),
        (Some(Rate::ZERO), Some(up)) => format!("may upload {} and not download", rate(up)),
        (Some(down), Some(Rate::ZERO)) => format!("may download {} and not upload", rate(down)),
        (Some(down), None) => format!("may download {}", rate(down)),
        (None, Some(up)) => format!("may upload {}", rate(up)),
        (Some(down), Some(up)) => {
            format!("may download {} and upload {}", rate(down), rate(up))
        }
    }
}

/// What is guaranteed, if anything is: `at least 2.00 MB/s down`.
fn guaranteed(terms: &Terms, units: Units) -> Option<String> {
    let rates: Vec<String> = [
        (terms.at_least.download, "down"),
        (terms.at_least.upload, "up"),
    ]
    .into_iter()
    .filter_map(|(rate, way)| Some(format!("{} {way}", units.rate(rate?))))
    .collect();
    (!rates.is_empty()).then(|| format!("at least {}", rates.join(" and ")))
}

/// How long ago something was, in a few letters: `5 s`, `12 min`, `3 h`, `8 d`.
pub fn age(since: SystemTime, now: SystemTime) -> String {
    let seconds = now.duration_since(since).unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::priority::Priority;

    #[test]
    fn ages() {
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        for (seconds, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3600, "1 h"),
            (172_800, "2 d"),
        ] {
            assert_eq!(
                age(now - std::time::Duration::from_secs(seconds), now),
                words
            );
        }
        // A clock that was set back.
        assert_eq!(age(now, SystemTime::UNIX_EPOCH), "0 s");
    }

    #[test]
    fn background_in_words() {
        let units = Units::default();
        let mut background = Terms {
            priority: Priority::Background,
            ..Terms::default()
        };
        assert_eq!(may(background, units), "may have what others leave");
        background.limits = Limits::of(|_| Some(Rate::from_bytes_per_second(500_000)));
        assert_eq!(
            terms(background, units),
            ": has what others leave, 500 KB/s down and 500 KB/s up now"
        );
    }

    #[test]
    fn a_guarantee_in_words() {
        let units = Units::default();
        let rate = |bytes| Some(Rate::from_bytes_per_second(bytes));
        let mut guaranteed = Terms {
            at_least: Limits {
                download: rate(2_000_000),
                upload: None,
            },
            ..Terms::default()
        };
        let least = "at least 2.00 MB/s down before everybody else";
        assert_eq!(terms(guaranteed, units), format!(": {least}"));
        guaranteed.limits.download = rate(5_000_000);
        assert_eq!(
            terms(guaranteed, units),
            format!(": {least}, limited to 5.00 MB/s down; upload unlimited")
        );
        assert_eq!(
            may(guaranteed, units),
            format!("may have {least}, may download 5.00 MB/s")
        );
    }

    #[test]
    fn limits_in_words() {
        let rate = |bytes| Some(Rate::from_bytes_per_second(bytes));
        for (download, upload, words) in [
            (
                rate(500_000),
                rate(0),
                "may download 500 KB/s and not upload",
            ),
            (
                rate(0),
                rate(500_000),
                "may upload 500 KB/s and not download",
            ),
            (
                rate(1_000),
                rate(2_000),
                "may download 1.00 KB/s and upload 2.00 KB/s",
            ),
            (None, rate(0), "may not upload"),
        ] {
            assert_eq!(
                may(Terms::limits(Limits { download, upload }), Units::default()),
                words
            );
        }
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
            assert_eq!(
                terms(Terms::limits(Limits { download, upload }), Units::default()),
                words
            );
        }
    }
}
