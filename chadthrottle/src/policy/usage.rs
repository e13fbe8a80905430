//! What the processes of each rule moved.

use std::{collections::HashMap, time::Duration};

use chadthrottle_common::{address::TrafficClass, traffic::Direction};

use super::{active::ActiveRules, choose::Choice};
use crate::{
    model::{
        direction::{PerClass, PerDirection},
        limit::LimitId,
    },
    rate::{Bytes, Rate},
};

/// What a rule's processes moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Since it came into force.
    pub bytes: PerDirection<Bytes>,
    /// A second, in the last interval.
    pub achieved: PerDirection<Rate>,
}

/// What was moved under each rule in force.
#[derive(Clone, Debug, Default)]
pub struct Usage(HashMap<LimitId, Used>);

impl Usage {
    /// What was moved under a rule.
    pub fn of(&self, id: LimitId) -> Used {
        self.0.get(&id).copied().unwrap_or_default()
    }

    /// Adds an interval: what counts for each process, and the payload it moved, by direction and
    /// class. A rule that limits and counts has it once. Forgets rules that are not in force any more.
    pub fn add<'a>(
        &mut self,
        rules: &ActiveRules,
        processes: impl Iterator<Item = (&'a Choice, PerDirection<PerClass<u64>>)>,
        interval: Duration,
    ) {
        let mut moved: HashMap<LimitId, PerDirection<u64>> = HashMap::new();
        for (choice, bytes) in processes {
            for direction in Direction::BOTH {
                for class in TrafficClass::BOTH {
                    let counts = |id: &LimitId| {
                        let active = rules.get(*id);
                        active.is_some_and(|active| active.rule.scope.covers(class))
                    };
                    let meters = choice.meters.iter().copied().filter(counts);
                    let limit = *choice.limits.get(direction).get(class);
                    let limit = limit.filter(|id| !choice.meters.contains(id));
                    for id in meters.chain(limit) {
                        *moved.entry(id).or_default().get_mut(direction) +=
                            bytes.get(direction).get(class);
                    }
                }
            }
        }
        let used = rules.iter().map(|active| {
            let moved = moved.remove(&active.id).unwrap_or_default();
            let before = self.of(active.id).bytes;
            let used = Used {
                bytes: PerDirection::of(|direction| {
                    Bytes::new(before.get(direction).count() + moved.get(direction))
                }),
                achieved: moved.map(|bytes| Rate::over(bytes, interval)),
            };
            (active.id, used)
        });
        self.0 = used.collect();
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::{
        model::{
            rule::{Rule, Scope},
            target::Target,
        },
        policy::fixtures::{file, limits, process},
    };

    #[test]
    fn what_is_moved_counts_for_the_rule_that_limits_it_and_for_those_that_count_it() {
        let mut rules = ActiveRules::default();
        let curl = || Target::program("curl");
        let limit = Rule {
            scope: Scope::Local,
            ..Rule::by_hand(curl(), limits(1, 0))
        };
        let limit = rules.insert(limit, UNIX_EPOCH);
        let meter = Rule {
            metered: true,
            scope: Scope::Internet,
            ..file("a", curl(), limits(0, 5))
        };
        let meter = rules.insert(meter, UNIX_EPOCH);
        let choice = rules.choose(&process(1, "curl"), Vec::new);
        let of = |internet, local| PerClass { internet, local };
        let bytes = PerDirection {
            download: of(10, 20),
            upload: of(30, 40),
        };
        let mut usage = Usage::default();
        let interval = Duration::from_secs(2);
        for _ in 0..2 {
            usage.add(&rules, [(&choice, bytes); 2].into_iter(), interval);
        }
        let moved = |id| {
            let used = usage.of(id);
            let bytes = used.bytes.map(Bytes::count);
            let achieved = used.achieved.map(Rate::bytes_per_second);
            (
                bytes.download,
                bytes.upload,
                achieved.download,
                achieved.upload,
            )
        };
        assert_eq!(moved(limit), (80, 0, 20, 0));
        assert_eq!(moved(meter), (40, 120, 10, 30));
        rules.remove(limit);
        usage.add(&rules, std::iter::empty(), interval);
        assert_eq!(usage.of(limit), Used::default());
        assert_eq!(usage.of(meter).bytes.upload.count(), 120);
        assert_eq!(usage.of(meter).achieved.upload, Rate::ZERO);
    }
}
