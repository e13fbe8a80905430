//! What comes before everybody else: which processes that are, and whether they use the link, so that everybody else is held.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use chadthrottle_common::{address::TrafficClass, traffic::Direction};

use super::{Engine, cells::LimitCell, owners::Owner};
use crate::{
    model::{direction::PerDirection, limit::LimitId, rule::Scope},
    policy::active::ActiveRules,
    priority::guarantee::{Guarantee, Kept},
};

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

/// What those claim of a direction of the link who come before everybody else.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Claim {
    /// Nothing now.
    #[default]
    Nothing,
    /// What they ask for, whatever it is.
    All,
    /// A part of it.
    Part {
        /// So many bytes of payload they had since the last time.
        had: u64,
        /// And this is kept for them, of payload.
        kept: Kept,
    },
}

impl Claim {
    /// This one, too.
    fn add(&mut self, bytes: u64, more: Kept) {
        *self = match *self {
            Self::All => Self::All,
            Self::Nothing => Self::Part {
                had: bytes,
                kept: more,
            },
            Self::Part { had, kept } => Self::Part {
                had: had + bytes,
                kept: kept.and(more),
            },
        };
    }
}

/// What is known of the processes that come before everybody else.
#[derive(Default)]
pub struct Importance {
    /// Who they are, and when that was found out.
    processes: Vec<Important>,
    found: Option<Duration>,
    /// Whose turn is next.
    next: usize,
    /// What each had moved when it was read last.
    moved: HashMap<u32, Admitted>,
    use_of_link: Use,
    guarantees: HashMap<Guaranteed, (Activity, Guarantee)>,
    /// Whether they claim anything now.
    claims_any: bool,
}

/// As [`Counters::admitted`](chadthrottle_common::traffic::Counters::admitted).
type Admitted = [[u64; 2]; 2];

/// Who is guaranteed a part in a direction: the processes of a rule together, or one of them, by its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Guaranteed {
    rule: LimitId,
    slot: Option<u32>,
    direction: Direction,
}

/// One of the processes that come before everybody else.
struct Important {
    slot: u32,
    /// Whether it has what it asks for.
    has_all: bool,
    /// By which rules it is guaranteed a part, and of which traffic.
    guaranteed: Vec<(Guaranteed, Scope)>,
}

/// Whether somebody uses the link.
#[derive(Debug, Default, PartialEq)]
struct Activity {
    /// What they moved lately, in bytes, less and less.
    lately: f64,
    looked: Option<Duration>,
}

impl Activity {
    /// So many bytes were moved since the last time. Returns whether that is more than connections need that are only kept
    /// open.
    fn add(&mut self, now: Duration, bytes: u64) -> bool {
        let before = self.looked.replace(now).unwrap_or(now);
        let passed = now.saturating_sub(before).as_secs_f64();
        self.lately = self.lately * (-passed / LATELY.as_secs_f64()).exp() + bytes as f64;
        self.lately >= ENOUGH
    }
}

/// Whether somebody uses the link, or did not long ago.
#[derive(Debug, Default, PartialEq)]
struct Use {
    activity: Activity,
    /// When they did last; nothing if that was too long ago.
    last: Option<Duration>,
}

impl Use {
    /// So many bytes were moved since the last time.
    fn add(&mut self, now: Duration, bytes: u64) {
        if self.activity.add(now, bytes) {
            self.last = Some(now);
        } else {
            self.last = self.last.filter(|last| now < *last + PAUSE);
        }
    }
}

/// What was moved of a direction's traffic that a rule is about.
fn moved(admitted: &Admitted, direction: Direction, scope: Scope) -> u64 {
    let classes = TrafficClass::BOTH.into_iter();
    let covered = classes.filter(|class| scope.covers(*class));
    covered.fold(0, |sum: u64, class| {
        sum.wrapping_add(admitted[direction.index()][class.index()])
    })
}

/// What was moved since `before`.
fn since(before: &Admitted, now: &Admitted) -> Admitted {
    [0, 1].map(|direction: usize| {
        [0, 1].map(|class: usize| now[direction][class].saturating_sub(before[direction][class]))
    })
}

impl Important {
    /// A process that comes before everybody else; nothing if it does not.
    fn of(owner: &Owner, rules: &ActiveRules) -> Option<Self> {
        let choice = &owner.enforcement.as_ref()?.choice;
        if !rules.is_important(choice) {
            return None;
        }
        let slot = owner.tag.slot;
        let mut it = Self {
            slot,
            has_all: false,
            guaranteed: Vec::new(),
        };
        for (direction, id) in choice.limits.parts() {
            let Some(active) = rules.get(id) else {
                continue;
            };
            it.has_all |= active.rule.is_high();
            if active.rule.at_least.get(direction).is_some() {
                let guaranteed = Guaranteed {
                    rule: id,
                    slot: active.is_each().then_some(slot),
                    direction,
                };
                it.guaranteed.push((guaranteed, active.rule.scope));
            }
        }
        Some(it)
    }
}

impl Importance {
    /// Forgets whom it is not about any more, and begins with those who are new.
    fn find(&mut self, processes: Vec<Important>, rules: &ActiveRules) {
        let slots: HashSet<u32> = processes.iter().map(|process| process.slot).collect();
        self.moved.retain(|slot, _| slots.contains(slot));
        let mut before = std::mem::take(&mut self.guarantees);
        for (key, _) in processes.iter().flat_map(|process| &process.guaranteed) {
            let part = rules.get(key.rule).and_then(|active| {
                let at_least = &active.rule.at_least;
                *at_least.get(key.direction)
            });
            let part = part.map_or(0.0, |rate| rate.bytes_per_second() as f64);
            let known = before.remove(key);
            let new = || known.unwrap_or_else(|| (Activity::default(), Guarantee::new(part)));
            let (_, guarantee) = self.guarantees.entry(*key).or_insert_with(new);
            guarantee.change(part);
        }
        self.processes = processes;
    }
}

impl Engine {
    /// Finds out what those who come before everybody else claim of the link.
    pub(super) fn look_at_importance(
        &mut self,
        now: Duration,
    ) -> anyhow::Result<PerDirection<Claim>> {
        let Some(everybody_else) = self.rules.everybody_else() else {
            self.importance = Importance::default();
            return Ok(PerDirection::default());
        };
        let (rest, scope) = (everybody_else.id, everybody_else.rule.scope);
        let importance = &mut self.importance;
        let is_due = (importance.found).is_none_or(|found| now >= found + PROCESSES_AGAIN);
        if is_due {
            importance.found = Some(now);
            let rules = &self.rules;
            let processes = self.owners.iter();
            let important = processes.filter_map(|owner| Important::of(owner, rules));
            importance.find(important.collect(), rules);
        }
        let mut of_all = 0;
        let mut of_guaranteed: HashMap<Guaranteed, u64> = HashMap::new();
        for _ in 0..importance.processes.len().min(AT_ONCE) {
            importance.next = (importance.next + 1) % importance.processes.len();
            let process = &importance.processes[importance.next];
            let now = self.kernel.counters.read(process.slot)?.admitted;
            // What a slot moved before it was important says nothing.
            let Some(before) = importance.moved.insert(process.slot, now) else {
                continue;
            };
            let since = since(&before, &now);
            if process.has_all {
                let both = Direction::BOTH.into_iter();
                of_all += both
                    .map(|direction| moved(&since, direction, scope))
                    .sum::<u64>();
            }
            for (guaranteed, scope) in &process.guaranteed {
                *of_guaranteed.entry(*guaranteed).or_default() +=
                    moved(&since, guaranteed.direction, *scope);
            }
        }
        let mut claims = PerDirection::<Claim>::default();
        importance.use_of_link.add(now, of_all);
        if importance.use_of_link.last.is_some() {
            claims = PerDirection::of(|_| Claim::All);
        }
        for (key, (activity, guarantee)) in &mut importance.guarantees {
            let bytes = of_guaranteed.remove(key).unwrap_or_default();
            let is_active = activity.add(now, bytes);
            let cell = self.cells.shared(rest, key.direction);
            guarantee.look(now, bytes, is_active, cell.is_some_and(LimitCell::is_held));
            if let Some(kept) = guarantee.kept(now) {
                claims.get_mut(key.direction).add(bytes, kept);
            }
        }
        let any = claims != PerDirection::default();
        if any != std::mem::replace(&mut importance.claims_any, any) {
            let word = if any { "held" } else { "let go" };
            log::debug!("everybody else is {word}");
        }
        Ok(claims)
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
