//! Time, on the clock that all processes of the machine share.

use std::{
    ops::{Add, Sub},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use rustix::time::{ClockId, clock_gettime};

/// A point in time of `CLOCK_MONOTONIC`, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        Self(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
    }

    /// The moment with that many nanoseconds on the clock.
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds on the clock.
    pub const fn nanoseconds(self) -> u64 {
        self.0
    }

    /// Seconds since an earlier moment; negative when that one is later.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.0 as f64 / 1e9 - earlier.0 as f64 / 1e9
    }

    /// Sleeps until then; not at all if it has passed.
    pub fn wait(self) {
        let now = Self::now();
        if self > now {
            thread::sleep(self - now);
        }
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Sub for Moment {
    type Output = Duration;

    /// Zero when the other moment is later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Asks until the answer is yes.
pub fn until(
    what: &str,
    patience: Duration,
    mut answer: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    while !answer()? {
        if start.elapsed() > patience {
            bail!("waited {patience:?} in vain: {what}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
