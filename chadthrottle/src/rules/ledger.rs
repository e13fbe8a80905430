//! What rules with a quota have moved, kept over restarts.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{
    file::store::{self, StoreError},
    quota::{Period, Quota},
};
use crate::model::{direction::PerDirection, limit::LimitId, rule::Origin, snapshot::Snapshot};

/// How many periods of a rule are remembered, for a clock that jumps there and back.
const REMEMBERED: usize = 4;

/// An account of a rule that is no longer there is closed after so many days.
const KEPT_DAYS: i32 = 62;

/// How much each rule with a quota has moved in its period.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    accounts: BTreeMap<Arc<str>, Account>,
}

/// Of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Account {
    period: Period,
    /// The one that is counted in now last.
    counts: Vec<Counted>,
}

/// In one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Counted {
    /// Its first day.
    from: Date,
    bytes: PerDirection<u64>,
    /// It has been said that the quota is used up.
    said: bool,
}

impl Account {
    /// The place of the count for a period. A clock that shows a time before all that is known is
    /// not believed: a machine without a battery begins in 1970.
    fn place(&self, from: Date) -> Option<usize> {
        let known = self.counts.iter().position(|count| count.from == from);
        let impossible = || {
            let oldest = self.counts.iter().map(|count| count.from).min()?;
            (from < oldest).then(|| self.counts.len() - 1)
        };
        known.or_else(impossible)
    }
}

impl Ledger {
    /// What a rule has moved in the period in which `today` is.
    pub fn used(&self, name: &str, quota: &Quota, today: Date) -> u64 {
        self.count(name, quota.period, today)
            .map_or(0, |count| quota.count.of(count.bytes))
    }

    /// Whether it is to be said now that a quota is used up: once a period, and again when a
    /// larger one is.
    pub fn is_news(&mut self, name: &str, quota: &Quota, today: Date) -> bool {
        let used_up = self.used(name, quota, today) >= quota.amount.count();
        let Some(count) = self.count_mut(name, quota.period, today) else {
            return false;
        };
        let news = used_up && !count.said;
        count.said = used_up;
        news
    }

    /// Adds what a rule has moved.
    pub fn add(&mut self, name: &Arc<str>, period: Period, today: Date, moved: PerDirection<u64>) {
        let from = period.start(today);
        let account = self.accounts.entry(Arc::clone(name)).or_insert(Account {
            period,
            counts: Vec::new(),
        });
        if account.period != period {
            account.period = period;
            account.counts.clear();
        }
        let mut count = match account.place(from) {
            Some(place) => account.counts.remove(place),
            None => Counted {
                from,
                bytes: PerDirection::default(),
                said: false,
            },
        };
        count.bytes = PerDirection::of(|direction| {
            let before = *count.bytes.get(direction);
            before.saturating_add(*moved.get(direction))
        });
        account.counts.push(count);
        let surplus = account.counts.len().saturating_sub(REMEMBERED);
        account.counts.drain(..surplus);
    }

    fn count(&self, name: &str, period: Period, today: Date) -> Option<&Counted> {
        let account = self.accounts.get(name)?;
        let same = Some(account).filter(|account| account.period == period)?;
        same.counts.get(same.place(period.start(today))?)
    }

    fn count_mut(&mut self, name: &str, period: Period, today: Date) -> Option<&mut Counted> {
        let account = self.accounts.get_mut(name)?;
        let same = Some(account).filter(|account| account.period == period)?;
        let place = same.place(period.start(today))?;
        same.counts.get_mut(place)
    }

    /// Closes the accounts of rules that are gone for long. Those of rules that were taken out
    /// lately stay: they may come back.
    pub fn close_old(&mut self, names: impl Fn(&str) -> bool, today: Date) {
        let long_ago = |date: Date| {
            today
                .since(date)
                .is_ok_and(|since| since.get_days() > KEPT_DAYS)
        };
        self.accounts.retain(|name, account| {
            let last = account.counts.iter().map(|count| count.from).max();
            names(name) || !last.is_none_or(long_ago)
        });
    }

    /// Reads what was written; an empty one if there is no file.
    ///
    /// # Errors
    ///
    /// The file can't be trusted, or makes no sense.
    pub fn read(path: &Path) -> Result<Self, LedgerError> {
        match store::read(path) {
            Ok(text) => Ok(serde_json::from_str(&text)?),
            Err(StoreError::Missing(_)) => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    ///
    /// As [`store::update`]: a full disk, say.
    pub fn write(&self, path: &Path) -> Result<(), LedgerError> {
        store::update(path, |_| Ok(serde_json::to_string(self)?))
    }
}

/// Why what was moved is not known, or not written down.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It makes no sense.
    #[error("it makes no sense: {0}")]
    Nonsense(#[from] serde_json::Error),
}

/// Reads from snapshots what rules have moved since the one before.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    last: HashMap<Arc<str>, (LimitId, PerDirection<u64>)>,
}

impl Meter {
    /// What each metered rule of the file has moved.
    pub fn read(&mut self, snapshot: &Snapshot) -> Vec<(Arc<str>, PerDirection<u64>)> {
        let mut moved = Vec::new();
        let mut now = HashMap::new();
        for row in snapshot.limits.iter().filter(|row| row.rule.metered) {
            let Origin::File(name) = &row.rule.origin else {
                continue;
            };
            let bytes = row.bytes.map(crate::rate::Bytes::count);
            // A number that is new was not in force before.
            let before = match self.last.get(name) {
                Some((id, before)) if *id == row.id => *before,
                _ => PerDirection::default(),
            };
            let more = PerDirection::of(|direction| {
                bytes.get(direction).saturating_sub(*before.get(direction))
            });
            if more != PerDirection::default() {
                moved.push((Arc::clone(name), more));
            }
            now.insert(Arc::clone(name), (row.id, bytes));
        }
        self.last = now;
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        rate::Bytes,
        rules::quota::{Count, Then},
    };

    fn quota(amount: u64, period: Period) -> Quota {
        Quota {
            amount: Bytes::new(amount),
            period,
            then: Then::Limit,
            count: Count::Both,
        }
    }

    fn moved(download: u64, upload: u64) -> PerDirection<u64> {
        PerDirection { download, upload }
    }

    fn day(text: &str) -> Date {
        text.parse().unwrap()
    }

    #[test]
    fn a_count_begins_anew_with_its_period() {
        let name: Arc<str> = "a".into();
        for (period, counts) in [
            (Period::Day, [3, 1, 1, 1]),
            (Period::Week, [3, 4, 1, 2]),
            (Period::Month, [3, 4, 5, 1]),
        ] {
            let quota = quota(100, period);
            let mut ledger = Ledger::default();
            ledger.add(&name, period, day("2026-11-21"), moved(1, 1));
            let mut seen = Vec::new();
            for today in ["2026-11-21", "2026-11-22", "2026-11-30", "2026-12-01"] {
                ledger.add(&name, period, day(today), moved(0, 1));
                seen.push(ledger.used("a", &quota, day(today)));
            }
            assert_eq!(seen, counts, "{period:?}");
        }
    }

    #[test]
    fn a_quota_can_be_of_one_direction() {
        let mut ledger = Ledger::default();
        let today = day("2026-11-22");
        ledger.add(&"a".into(), Period::Day, today, moved(5, 7));
        for (count, used) in [(Count::Both, 12), (Count::Download, 5), (Count::Upload, 7)] {
            let quota = Quota {
                count,
                ..quota(1, Period::Day)
            };
            assert_eq!(ledger.used("a", &quota, today), used);
        }
        let monthly = quota(1, Period::Month);
        assert_eq!(ledger.used("a", &monthly, today), 0);
        assert_eq!(ledger.used("b", &monthly, today), 0);
    }

    #[test]
    fn a_clock_that_jumps_loses_nothing() {
        let name: Arc<str> = "a".into();
        let quota = quota(100, Period::Day);
        let mut ledger = Ledger::default();
        let mut expect = |today: &str, bytes, used| {
            ledger.add(&name, Period::Day, day(today), moved(bytes, 0));
            assert_eq!(ledger.used("a", &quota, day(today)), used, "{today}");
        };
        expect("2026-11-22", 10, 10);
        // Before the clock is set at the start: counted where it would have been.
        expect("1970-01-01", 1, 11);
        expect("2026-11-22", 1, 12);
        // Far ahead by mistake, and back.
        expect("2040-01-01", 5, 5);
        expect("2026-11-22", 1, 13);
        expect("2026-11-23", 2, 2);
        // A day back over midnight, and on.
        expect("2026-11-22", 1, 14);
        expect("2026-11-23", 1, 3);
    }

    #[test]
    fn it_is_said_once_that_a_quota_is_used_up() {
        let name: Arc<str> = "a".into();
        let mut ledger = Ledger::default();
        let today = day("2026-11-22");
        let small = quota(10, Period::Day);
        assert!(!ledger.is_news("a", &small, today));
        ledger.add(&name, Period::Day, today, moved(9, 0));
        assert!(!ledger.is_news("a", &small, today));
        ledger.add(&name, Period::Day, today, moved(1, 0));
        assert!(ledger.is_news("a", &small, today));
        assert!(!ledger.is_news("a", &small, today));
        let large = quota(20, Period::Day);
        assert!(!ledger.is_news("a", &large, today));
        ledger.add(&name, Period::Day, today, moved(10, 0));
        assert!(ledger.is_news("a", &large, today));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quotas.json");
        assert_eq!(Ledger::read(&path).unwrap(), Ledger::default());
        let mut ledger = Ledger::default();
        ledger.add(&"a".into(), Period::Week, day("2026-11-22"), moved(5, 7));
        ledger.write(&path).unwrap();
        assert_eq!(Ledger::read(&path).unwrap(), ledger);
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(Ledger::read(&path), Err(LedgerError::Nonsense(_))));
    }

    #[test]
    fn accounts_of_rules_that_are_long_gone_are_closed() {
        let mut ledger = Ledger::default();
        for (name, today) in [
            ("old", "2026-01-01"),
            ("kept", "2026-01-01"),
            ("new", "2026-11-01"),
        ] {
            ledger.add(&name.into(), Period::Day, day(today), moved(1, 0));
        }
        ledger.close_old(|name| name == "kept", day("2026-11-22"));
        let left: Vec<&str> = ledger.accounts.keys().map(|name| &**name).collect();
        assert_eq!(left, ["kept", "new"]);
    }
}
