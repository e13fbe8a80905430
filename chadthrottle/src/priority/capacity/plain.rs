//! Whether all wait in one queue, which then tells of everybody else, or flows are served in turn.

use std::time::Duration;

use super::{FILLED, phase::Seen};

/// If a queue is filled for so long, and a round trip, without a loss, flows are not served in turn there: CoDel (RFC 8289),
/// which every queue with turns has, would lose or mark some of it...
const AFTER: Duration = Duration::from_millis(300);

/// ... and that is known for so long.
const HOLDS: Duration = Duration::from_secs(60);

/// What is known of that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Plain {
    /// Since when the queue is filled and loses nothing.
    filled: Option<Duration>,
    /// When that was so for long enough.
    known: Option<Duration>,
}

impl Plain {
    /// A queue that was heard of.
    pub(super) fn look(&mut self, seen: Seen, is_lossless: bool, round_trip: Duration) {
        if seen.queue < FILLED || !is_lossless {
            self.filled = None;
            return;
        }
        let begun = seen.now.saturating_sub(seen.period);
        let since = *self.filled.get_or_insert(begun);
        if seen.now >= since + AFTER + round_trip {
            self.known = Some(seen.now);
        }
    }

    /// Whether it is known that all wait in one queue.
    pub(super) fn is_known(self, now: Duration) -> bool {
        self.known.is_some_and(|known| now < known + HOLDS)
    }
}
