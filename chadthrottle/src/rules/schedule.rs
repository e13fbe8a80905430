//! When a rule is in force: days of the week, and hours.
//!
//! All of it is about the clock on the wall, so that it stays true when the clock is put forward or
//! back: what is from 22:00 is from 22:00, in summer and in winter.

use std::fmt;

use jiff::civil::{DateTime, Time, Weekday};

/// Days of the week and hours; all of them by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// The days on which it begins; none is every day.
    pub days: Days,
    /// From when on each of them; from midnight if nothing is said.
    pub from: Option<Time>,
    /// Until when; until midnight if nothing is said, and on the next day if it is not after
    /// `from`.
    pub until: Option<Time>,
}

/// Days of the week; none of them stands for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Days(u8);

const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const LONG_NAMES: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

impl Days {
    /// Whether a day is one of them.
    pub fn contains(self, day: Weekday) -> bool {
        self.0 == 0 || self.0 & bit(day.to_monday_zero_offset()) != 0
    }

    /// Adds what a word means: `mon`, `friday`, `mon-fri`, `weekdays`, `weekends`.
    ///
    /// # Errors
    ///
    /// What is expected.
    pub fn add(&mut self, word: &str) -> Result<(), String> {
        let lower = word.trim().to_lowercase();
        let (first, last) = match &*lower {
            "weekday" | "weekdays" => (0, 4),
            "weekend" | "weekends" => (5, 6),
            "daily" | "all" => (0, 6),
            _ => match lower.split_once('-') {
                Some((first, last)) => (day(first.trim())?, day(last.trim())?),
                None => (day(&lower)?, day(&lower)?),
            },
        };
        let mut day = first;
        loop {
            self.0 |= bit(day);
            if day == last {
                return Ok(());
            }
            day = (day + 1) % 7;
        }
    }

    /// Their names; none if it is every day.
    pub fn names(self) -> Vec<&'static str> {
        let among = (0..7).filter(|day| self.0 & bit(*day) != 0);
        among.map(|day| NAMES[day as usize]).collect()
    }
}

fn bit(day: i8) -> u8 {
    1 << day
}

fn day(word: &str) -> Result<i8, String> {
    let place = |names: &[&str]| names.iter().position(|name| *name == word);
    let found = place(&NAMES).or_else(|| place(&LONG_NAMES));
    found.and_then(|day| i8::try_from(day).ok()).ok_or_else(|| {
        let hint = super::file::mistake::did_you_mean(word, &NAMES);
        format!("'{word}' is no day{hint}; for example \"mon-fri\" or \"sat\"")
    })
}

/// A time of day as people write it, to the minute: `9:00`, `22:30`; `24:00` is midnight.
///
/// # Errors
///
/// What is expected.
pub fn time(text: &str) -> Result<Time, String> {
    let read = || {
        let (hour, minute) = text.trim().split_once(':')?;
        let digits = |text: &str| {
            let two = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            two.then(|| text.parse().ok()).flatten()
        };
        match (digits(hour)?, digits(minute).filter(|_| minute.len() == 2)?) {
            (24, 0) => Some(Time::midnight()),
            (hour, minute) => Time::new(hour, minute, 0, 0).ok(),
        }
    };
    read().ok_or_else(|| {
        format!("'{text}' is no time of day; write for example \"09:00\" or \"22:30\"")
    })
}

impl Schedule {
    /// Whether it is always in force.
    pub fn is_always(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is in force at a time, of the clock on the wall.
    pub fn is_active(&self, now: DateTime) -> bool {
        let today = self.days.contains(now.weekday());
        let from = self.from.unwrap_or(Time::midnight());
        let begun = now.time() >= from;
        match self.until.filter(|until| *until != Time::midnight()) {
            None => today && begun,
            Some(until) if from < until => today && begun && now.time() < until,
            Some(until) => {
                let yesterday = self.days.contains(now.weekday().previous());
                (today && begun) || (yesterday && now.time() < until)
            }
        }
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    ///
    /// What to do.
    pub fn check(&self) -> Result<(), String> {
        match (self.from, self.until) {
            (Some(from), Some(until)) if from == until => Err(
                "'from' and 'until' are the same time; leave both out to mean the whole day"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }
}

/// A time to the minute, as [`time`] reads it.
pub fn shown(time: Time) -> String {
    format!("{:02}:{:02}", time.hour(), time.minute())
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_always() {
            return f.write_str("always");
        }
        let mut words = Vec::new();
        let days = self.days.names();
        if !days.is_empty() {
            words.push(days.join(","));
        }
        if let Some(from) = self.from {
            words.push(format!("from {}", shown(from)));
        }
        if let Some(until) = self.until {
            words.push(format!("until {}", shown(until)));
        }
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::{Timestamp, tz::TimeZone};

    fn schedule(days: &[&str], from: &str, until: &str) -> Schedule {
        let mut schedule = Schedule::default();
        for day in days {
            schedule.days.add(day).unwrap();
        }
        let at = |text: &str| (!text.is_empty()).then(|| time(text).unwrap());
        schedule.from = at(from);
        schedule.until = at(until);
        schedule.check().unwrap();
        schedule
    }

    #[test]
    fn words_for_days() {
        for (words, names) in [
            (&["mon-fri"][..], "mon tue wed thu fri"),
            (&["weekdays", "sun"], "mon tue wed thu fri sun"),
            (&["Fri-Mon"], "mon fri sat sun"),
            (&["Saturday"], "sat"),
            (&["weekends"], "sat sun"),
            (&["daily"], "mon tue wed thu fri sat sun"),
            (&[], ""),
        ] {
            let days = schedule(words, "", "").days;
            assert_eq!(days.names().join(" "), names, "{words:?}");
        }
        let error = Days::default().add("mno").unwrap_err();
        assert!(error.contains("did you mean 'mon'?"), "{error}");
        assert!(Days::default().add("mon-").is_err());
    }

    #[test]
    fn times_of_day() {
        for (text, expected) in [
            ("9:00", Some("09:00")),
            ("22:30", Some("22:30")),
            ("24:00", Some("00:00")),
            ("24:01", None),
            ("9", None),
            ("9:5", None),
            ("9:60", None),
            ("-1:00", None),
            ("9pm", None),
            ("", None),
        ] {
            assert_eq!(time(text).ok().map(shown).as_deref(), expected, "{text}");
        }
        let both = Schedule {
            from: Some(time("9:00").unwrap()),
            until: Some(time("9:00").unwrap()),
            ..Schedule::default()
        };
        assert!(both.check().is_err());
    }

    #[test]
    fn when_it_is_in_force() {
        // The 23rd of November 2026 is a Monday.
        for (days, from, until, now, active) in [
            (&[][..], "", "", "2026-11-23T12:00", true),
            (&["mon"], "", "", "2026-11-23T00:00", true),
            (&["mon"], "", "", "2026-11-23T23:59:59", true),
            (&["mon"], "", "", "2026-11-24T00:00", false),
            (&[], "09:00", "17:00", "2026-11-23T08:59:59.9", false),
            (&[], "09:00", "17:00", "2026-11-23T09:00", true),
            (&[], "09:00", "17:00", "2026-11-23T17:00", false),
            (&[], "09:00", "", "2026-11-23T23:59", true),
            (&[], "", "09:00", "2026-11-23T08:59", true),
            (&[], "", "09:00", "2026-11-23T09:00", false),
            (&["mon"], "22:00", "24:00", "2026-11-23T23:59", true),
            (&["mon"], "22:00", "24:00", "2026-11-24T00:00", false),
            // Over midnight: the day is that of the beginning.
            (&["mon"], "22:00", "06:00", "2026-11-23T21:59", false),
            (&["mon"], "22:00", "06:00", "2026-11-23T22:00", true),
            (&["mon"], "22:00", "06:00", "2026-11-24T05:59", true),
            (&["mon"], "22:00", "06:00", "2026-11-24T06:00", false),
            (&["mon"], "22:00", "06:00", "2026-11-23T05:59", false),
            (&["sun"], "22:00", "06:00", "2026-11-23T05:59", true),
        ] {
            let schedule = schedule(days, from, until);
            assert_eq!(
                schedule.is_active(now.parse().unwrap()),
                active,
                "{schedule} {now}"
            );
        }
    }

    /// Central European time is put forward at 2:00 on the 29th of March 2026, and back at 3:00
    /// on the 25th of October.
    #[test]
    fn when_the_clock_is_changed() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let night = schedule(&[], "22:00", "06:00");
        let early = schedule(&[], "02:00", "03:00");
        for (utc, night_active, early_active) in [
            // 1:59 in winter, then 3:00 in summer: there is no early hour.
            ("2026-03-29T00:59Z", true, false),
            ("2026-03-29T01:00Z", true, false),
            ("2026-03-29T03:59Z", true, false),
            ("2026-03-29T04:00Z", false, false),
            // 2:59 in summer, then 2:00 in winter: it is there twice.
            ("2026-10-25T00:30Z", true, true),
            ("2026-10-25T01:30Z", true, true),
            ("2026-10-25T02:00Z", true, false),
            ("2026-10-25T04:59Z", true, false),
            ("2026-10-25T05:00Z", false, false),
        ] {
            let utc: Timestamp = utc.parse().unwrap();
            let now = utc.to_zoned(zone.clone()).datetime();
            let active = [night, early].map(|schedule| schedule.is_active(now));
            assert_eq!(active, [night_active, early_active], "{now}");
        }
    }
}
