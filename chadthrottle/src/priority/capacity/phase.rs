//! What a [`Capacity`](super::Capacity) is about, and what it decides by.

use std::time::Duration;

/// A way that has become longer is longer by the same, to within this or that part of it.
pub(super) const STEADY: Duration = Duration::from_millis(4);
pub(super) const STEADY_PART: f64 = 0.1;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    /// Twice as much each period until packets wait.
    Begin,
    /// Along the curve, from that time on.
    Curve { since: Duration },
    /// A trickle since then, until what others of this machine have put into the queue is gone.
    GiveWay { since: Duration, range: Range },
    /// Less, until nothing waits any more.
    Drain(Drain),
    /// A trickle, since then. The queue is short since `clear`, if it is.
    Yield {
        since: Duration,
        clear: Option<Duration>,
        range: Range,
    },
    /// As much as the link carries, since then, though somebody else fills the queue: normal traffic gives way to nobody.
    Insist { since: Duration },
    /// What the link carries without the part that is guaranteed to others of this machine, who have it and fill the queue.
    Keep,
    /// A part, since then, until it is heard how long packets wait.
    Listen { since: Duration },
    /// A small part, since then: somebody may have the rest, in a queue of his own.
    Polite { since: Duration },
    /// Somewhat more than the link carried, since then, to find out.
    Look { since: Duration },
    /// Somewhat more than a trickle, since then; the queue was `before`.
    Try {
        since: Duration,
        before: Duration,
        range: Range,
    },
}

/// Between which lengths a queue was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range {
    pub(super) shortest: Duration,
    pub(super) longest: Duration,
}

impl Range {
    pub(super) const NONE: Self = Self {
        shortest: Duration::MAX,
        longest: Duration::ZERO,
    };

    pub(super) fn with(self, queue: Duration) -> Self {
        Self {
            shortest: self.shortest.min(queue),
            longest: self.longest.max(queue),
        }
    }

    /// A longer way is always the same, and a queue is not, even if it is full.
    pub(super) fn is_steady(self) -> bool {
        self.shortest <= self.longest
            && self.longest.saturating_sub(self.shortest)
                <= STEADY.max(self.longest.mul_f64(STEADY_PART))
    }
}

/// A queue that is waited out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Drain {
    /// Since when, and how long it was then; and at first.
    pub(super) since: Duration,
    pub(super) from: Duration,
    pub(super) first: Duration,
    /// How often something was done about it.
    pub(super) times: u32,
    /// When it began, and what the link carried then, and while packets waited.
    pub(super) began: Duration,
    pub(super) carried: f64,
    /// By how much that may be wrong: packets come whole.
    pub(super) error: f64,
    /// Whether that was less than it was let.
    pub(super) lacked: bool,
    /// Whether packets waited; without that, some are lost by chance.
    pub(super) waited: bool,
    /// By how much it can have grown at the most by what was on its way; nothing is known of that while the link was
    /// sought.
    pub(super) excess: Option<Duration>,
}

/// What a decision is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) now: Duration,
    pub(super) period: Duration,
    /// As it was heard of last.
    pub(super) queue: Duration,
    /// Whether that was in this period. While nothing is heard nothing is known, and nothing becomes more.
    pub(super) heard: bool,
    /// Whether the queue is longer than it is to be.
    pub(super) waits: bool,
    /// Whether that may be a moment's chance: it is short, and was not there the last time.
    pub(super) may_be_chance: bool,
    /// Whether packets were lost or marked.
    pub(super) congested: bool,
}

impl Seen {
    pub(super) fn waits_certainly(self) -> bool {
        self.waits && !self.may_be_chance
    }

    pub(super) fn is_signal(self) -> bool {
        self.waits || self.congested
    }
}
