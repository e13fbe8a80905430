//! What comes before everybody else: which processes that are, and whether they use the link, so that everybody else is held.

use std::{collections::HashMap, time::Duration};

use chadthrottle_common::{address::TrafficClass, traffic::Counters};

use super::Engine;
use crate::model::rule::Scope;

/// How often it is found out which processes they are.
const PROCESSES_AGAIN: Duration = Duration::from_millis(500);

/// Of no more of them is it read at once what they moved; of more, each has its turn.
const AT_ONCE: usize = 32;

/// What was moved counts for so long, less and less...
const LATELY: Duration = Duration::from_millis(500);

/// ... and so many bytes of it are more than a connection needs that is only kept open...
const ENOUGH: f64 = 300.0;

/// Who uses the link again within so long finds it without a queue: a page is read, and the next one is asked for.
const PAUSE: Duration = Duration::from_secs(10);

/// What is known of the processes that come before everybody else.
#[derive(Default)]
pub struct Importance {
    /// Their slots, and when they were found out.
    slots: Vec<u32>,
    found: Option<Duration>,
    /// Whose turn is next.
    next: usize,
    /// What each had moved when it was read last.
    moved: HashMap<u32, u64>,
    use_of_link: Use,
}

impl Importance {
    /// Whether everybody else is held now.
    pub fn holds_others(&self) -> bool {
        self.use_of_link.last.is_some()
    }
}

/// Whether they use the link.
#[derive(Debug, Default, PartialEq)]
struct Use {
    /// What they moved lately, in bytes, less and less.
    lately: f64,
    looked: Option<Duration>,
    /// When they did last; nothing if that was too long ago.
    last: Option<Duration>,
}

impl Use {
    /// So many bytes were moved since the last time.
    fn add(&mut self, now: Duration, bytes: u64) {
        let before = self.looked.replace(now).unwrap_or(now);
        let passed = now.saturating_sub(before).as_secs_f64();
        self.lately = self.lately * (-passed / LATELY.as_secs_f64()).exp() + bytes as f64;
        if self.lately >= ENOUGH {
            self.last = Some(now);
        } else {
            self.last = self.last.filter(|last| now < *last + PAUSE);
        }
    }
}

/// What was moved of the traffic that a rule is about.
fn moved(counters: &Counters, scope: Scope) -> u64 {
    let by_class = counters.admitted.iter();
    by_class
        .flat_map(|by| TrafficClass::BOTH.map(|class| (class, by[class.index()])))
        .filter(|(class, _)| scope.covers(*class))
        .fold(0, |sum, (_, bytes)| sum.wrapping_add(bytes))
}

impl Engine {
    /// Finds out whether those who come before everybody else use the link, so that everybody else is held.
    pub(super) fn look_at_importance(&mut self, now: Duration) -> anyhow::Result<bool> {
        let Some(everybody_else) = self.rules.everybody_else() else {
            self.importance = Importance::default();
            return Ok(false);
        };
        let scope = everybody_else.rule.scope;
        let importance = &mut self.importance;
        let is_due = (importance.found).is_none_or(|found| now >= found + PROCESSES_AGAIN);
        if is_due {
            importance.found = Some(now);
            let rules = &self.rules;
            let important = self.owners.iter().filter(|owner| {
                let limited = owner.enforcement.as_ref();
                limited.is_some_and(|limit| rules.is_important(&limit.choice))
            });
            importance.slots = important.map(|owner| owner.tag.slot).collect();
            let slots = &importance.slots;
            importance.moved.retain(|slot, _| slots.contains(slot));
        }
        let mut bytes = 0;
        for _ in 0..importance.slots.len().min(AT_ONCE) {
            importance.next = (importance.next + 1) % importance.slots.len();
            let slot = importance.slots[importance.next];
            let now = moved(&self.kernel.counters.read(slot)?, scope);
            let before = importance.moved.insert(slot, now);
            // What a slot moved before it was important says nothing.
            bytes += before.map_or(0, |before| now.saturating_sub(before));
        }
        let before = importance.holds_others();
        importance.use_of_link.add(now, bytes);
        let holds = importance.holds_others();
        if holds != before {
            log::debug!(
                "everybody else is {}",
                if holds { "held" } else { "let go" }
            );
        }
        Ok(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_kept_open_holds_nobody() {
        let ms = Duration::from_millis;
        let mut link = Use::default();
        // A hundred bytes now and then.
        for second in 0..100 {
            link.add(ms(second * 1000), 150);
            assert_eq!(link.last, None);
        }
        // A call: 200 bytes fifty times a second.
        for step in 0..50 {
            link.add(ms(100_000 + step * 20), 200);
        }
        assert!(link.last.is_some());
        // It pauses, and goes on with little.
        for step in 0..90 {
            link.add(ms(101_000 + step * 100), 0);
            assert!(link.last.is_some(), "{step}");
        }
        link.add(ms(110_000), 400);
        assert_eq!(link.last, Some(ms(110_000)));
        for step in 0..200 {
            link.add(ms(110_000 + step * 100), 0);
        }
        assert_eq!(link.last, None);
    }
}
