//! What a receiver got, over time.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::moment::Moment;

/// A limit is judged from this long after it came into force…
pub const JUDGED_AFTER: Duration = Duration::from_secs(1);
/// …and for this long.
pub const JUDGED_FOR: Duration = Duration::from_secs(10);

/// Bytes that arrived up to each of a row of moments.
#[derive(Clone, Debug, Default)]
pub struct Arrivals(Vec<(Moment, u64)>);

impl Arrivals {
    /// From a row in the order of time.
    pub fn new(row: Vec<(Moment, u64)>) -> Self {
        Self(row)
    }

    /// All that arrived.
    pub fn total(&self) -> u64 {
        self.0.last().map_or(0, |(_, bytes)| *bytes)
    }

    /// The last moment that is known of.
    pub fn until(&self) -> Option<Moment> {
        self.0.last().map(|(moment, _)| *moment)
    }

    /// Bytes a second between two moments.
    pub fn rate(&self, from: Moment, to: Moment) -> Result<f64> {
        Ok(self.between(from, to)? / to.seconds_since(from))
    }

    /// Bytes a second in each of the windows of that length between two moments.
    pub fn rates(&self, from: Moment, to: Moment, window: Duration) -> Result<Vec<f64>> {
        let mut rates = Vec::new();
        let mut start = from;
        while start + window <= to {
            rates.push(self.rate(start, start + window)?);
            start = start + window;
        }
        Ok(rates)
    }

    /// Bytes between two moments.
    pub fn between(&self, from: Moment, to: Moment) -> Result<f64> {
        ensure!(
            // Before the first byte there was none.
            self.0
                .first()
                .is_some_and(|(first, bytes)| *first <= from || *bytes == 0)
                && self.until().is_some_and(|last| last >= to),
            "the receiver's samples don't cover the window"
        );
        Ok(self.at(to) - self.at(from))
    }

    /// The lowest and the highest rate of all stretches of that length between two moments, in
    /// bytes a second.
    pub fn extremes(&self, from: Moment, to: Moment, length: Duration) -> Result<(f64, f64)> {
        let starts = (self.0.iter().map(|(moment, _)| *moment))
            .filter(|moment| *moment >= from && *moment + length <= to);
        let rates = starts.map(|start| self.rate(start, start + length).map(|rate| (rate, rate)));
        let extremes = rates.reduce(|extremes, rate| {
            let ((low, high), (rate, _)) = (extremes?, rate?);
            Ok((low.min(rate), high.max(rate)))
        });
        extremes.context("no stretch of that length")?
    }

    /// Goodput while a limit that came into force at that moment is judged.
    pub fn judged(&self, applied: Moment) -> Result<f64> {
        let from = applied + JUDGED_AFTER;
        self.rate(from, from + JUDGED_FOR)
    }

    /// The moment from which, up to the end, no stretch of any length carried more than
    /// `burst + rate × length`: from when on a limit is kept.
    pub fn kept_from(&self, rate: f64, burst: f64) -> Option<Moment> {
        let origin = self.0.first()?.0;
        let level = |(at, bytes): &(Moment, u64)| *bytes as f64 - rate * at.seconds_since(origin);
        let mut highest_later = f64::NEG_INFINITY;
        let mut kept = None;
        for sample in self.0.iter().rev() {
            highest_later = highest_later.max(level(sample));
            if highest_later > level(sample) + burst {
                break;
            }
            kept = Some(sample.0);
        }
        kept
    }

    /// The first moment after `start` from which on a stretch of that length was faster than
    /// `rate`.
    pub fn faster_from(&self, start: Moment, length: Duration, rate: f64) -> Option<Moment> {
        let last = self.until()?;
        self.0
            .iter()
            .map(|(moment, _)| *moment)
            .filter(|moment| *moment >= start)
            .take_while(|moment| *moment + length <= last)
            .find(|moment| {
                let bytes = self.at(*moment + length) - self.at(*moment);
                bytes / length.as_secs_f64() > rate
            })
    }

    /// Bytes that had arrived at that moment, on the line between the samples around it.
    fn at(&self, moment: Moment) -> f64 {
        let after = self.0.partition_point(|(at, _)| *at < moment);
        let before = after.checked_sub(1).and_then(|index| self.0.get(index));
        match (before, self.0.get(after)) {
            (Some((t0, b0)), Some((t1, b1))) => {
                let part = moment.seconds_since(*t0) / t1.seconds_since(*t0);
                *b0 as f64 + (*b1 - *b0) as f64 * part
            }
            (_, Some((_, bytes))) | (Some((_, bytes)), _) => *bytes as f64,
            (None, None) => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment::from_nanoseconds(milliseconds * 1_000_000)
    }

    /// 1 MB/s for a second, then 100 kB/s for four.
    fn slowed_down() -> Arrivals {
        Arrivals::new(
            (0..=500)
                .map(|i| {
                    let fast = i.min(100) * 10_000;
                    let slow = i.max(100) * 1000 - 100_000;
                    (at(i * 10), fast + slow)
                })
                .collect(),
        )
    }

    #[test]
    fn a_rate_is_bytes_over_time() {
        let rate = slowed_down().rate(at(505), at(1500)).unwrap();
        assert!((rate - 545_000.0 / 0.995).abs() < 1.0, "{rate}");
        assert!(slowed_down().rate(at(0), at(5001)).is_err());
    }

    #[test]
    fn extremes_are_of_whole_stretches() {
        let stretch = Duration::from_millis(100);
        let extremes = |from, to| slowed_down().extremes(at(from), at(to), stretch);
        let (low, high) = extremes(0, 5000).unwrap();
        assert!((low - 100_000.0).abs() < 1.0 && (high - 1e6).abs() < 1.0);
        let (low, high) = extremes(950, 1050).unwrap();
        assert!(low == high && (low - 550_000.0).abs() < 1.0, "{low} {high}");
        assert!(extremes(950, 1049).is_err());
    }

    #[test]
    fn windows_follow_each_other() {
        let windows = slowed_down().rates(at(500), at(1999), Duration::from_millis(500));
        let expected = [1e6, 1e5];
        for (window, expected) in windows.unwrap().iter().zip(expected) {
            assert!(
                (window - expected).abs() < 1.0,
                "{window} is not {expected}"
            );
        }
    }

    #[test]
    fn a_limit_is_kept_from_when_the_fast_part_is_over() {
        assert_eq!(slowed_down().kept_from(100_001.0, 0.0), Some(at(1000)));
        let with_burst = slowed_down().kept_from(100_001.0, 90_000.0).unwrap();
        assert_eq!(with_burst, at(900));
        assert_eq!(slowed_down().kept_from(50_000.0, 10.0), Some(at(5000)));
    }

    #[test]
    fn fast_again_is_found() {
        let row = slowed_down();
        let window = Duration::from_millis(100);
        assert_eq!(row.faster_from(at(200), window, 500_000.0), Some(at(200)));
        assert_eq!(row.faster_from(at(1000), window, 500_000.0), None);
    }
}
