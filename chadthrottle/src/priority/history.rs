//! What passed a link lately.

use std::{collections::VecDeque, time::Duration};

/// What passed until some time, since the one before.
#[derive(Clone, Copy, Debug)]
struct Passed {
    at: Duration,
    bytes: Bytes,
}

/// Bytes that passed, by whose they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// What the link is shared out to.
    pub background: u64,
    /// Processes that are guaranteed a part of it, as far as that holds the others.
    pub guaranteed: u64,
    /// All else of this machine.
    pub others: u64,
}

/// The latest of it.
#[derive(Clone, Debug)]
pub struct History {
    passed: VecDeque<Passed>,
    keep: Duration,
}

impl History {
    /// Nothing passed yet; it will be asked for as long back as `keep`.
    pub fn new(keep: Duration) -> Self {
        Self {
            passed: VecDeque::new(),
            keep,
        }
    }

    /// So much passed since the last time.
    pub fn add(&mut self, at: Duration, bytes: Bytes) {
        self.passed.push_back(Passed { at, bytes });
        while (self.passed.front()).is_some_and(|passed| passed.at + self.keep < at) {
            self.passed.pop_front();
        }
    }

    /// Whether it is known what passed since then.
    pub fn is_since(&self, since: Duration) -> bool {
        (self.passed.front()).is_some_and(|passed| passed.at <= since)
    }

    /// This machine's other traffic in the last period, in bytes a second.
    pub fn others(&self, now: Duration, period: Duration) -> f64 {
        self.rate(now, period, |bytes| bytes.others)
    }

    /// What the link was shared out to had of it.
    pub fn background(&self, now: Duration, period: Duration) -> f64 {
        self.rate(now, period, |bytes| bytes.background)
    }

    /// What those had who are guaranteed a part.
    pub fn guaranteed(&self, now: Duration, period: Duration) -> f64 {
        self.rate(now, period, |bytes| bytes.guaranteed)
    }

    /// All of it.
    pub fn all(&self, now: Duration, period: Duration) -> f64 {
        self.rate(now, period, |bytes| {
            bytes.background + bytes.guaranteed + bytes.others
        })
    }

    /// In the last period, or a little longer: what was noted together is not taken apart.
    fn rate(&self, now: Duration, period: Duration, of: impl Fn(&Bytes) -> u64) -> f64 {
        let mut bytes = 0;
        for passed in self.passed.iter().rev() {
            // It lasted from the time before on.
            if passed.at + period <= now {
                return bytes as f64 / (now - passed.at).as_secs_f64();
            }
            bytes += of(&passed.bytes);
        }
        bytes as f64 / period.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_whole_steps() {
        let ms = Duration::from_millis;
        let mut history = History::new(ms(1000));
        for step in 1..=100 {
            let bytes = Bytes {
                background: 4_000,
                guaranteed: 1_000,
                others: 1_000,
            };
            history.add(ms(step * 50), bytes);
        }
        // Of a period that ends within a step, the whole step.
        for period in [100, 101, 149, 150] {
            assert_eq!(history.all(ms(5000), ms(period)), 120_000.0, "{period} ms");
        }
        assert_eq!(history.others(ms(5000), ms(500)), 20_000.0);
        assert!(history.passed.len() <= 21);
    }
}
