//! Which rules count for a process, and what is shown of them.

use std::{cell::OnceCell, collections::BTreeSet};

use chadthrottle_common::traffic::Direction;

use super::active::{ActiveRule, ActiveRules};
use crate::model::{
    direction::{Limits, PerClass, PerDirection},
    limit::{Effect, EffectiveLimits, LimitId, LimitState},
    priority::Priority,
    process::{Identity, Pid, ProcessId},
    rule::{Rule, Scope, Sharing},
    terms::Terms,
};

/// What counts for a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The limits.
    pub limits: EffectiveLimits,
    /// The rules that count its traffic.
    pub meters: Vec<LimitId>,
}

impl Choice {
    /// Whether nothing does.
    pub fn is_empty(&self) -> bool {
        self.limits == EffectiveLimits::default() && self.meters.is_empty()
    }

    /// Whether any traffic of a direction is limited.
    pub fn limits(&self, direction: Direction) -> bool {
        let by = self.limits.get(direction);
        by.internet.is_some() || by.local.is_some()
    }

    /// A rule matches that comes after those that were added before.
    fn add(&mut self, active: &ActiveRule) {
        if active.rule.metered {
            self.meters.push(active.id);
        }
        for direction in Direction::BOTH {
            if active.rule.decides(direction) {
                self.add_to(direction, active);
            }
        }
    }

    /// It counts for traffic of a direction for which none does yet.
    fn add_to(&mut self, direction: Direction, active: &ActiveRule) {
        let by = self.limits.get_mut(direction);
        *by = PerClass::of(|class| {
            let covers = active.rule.scope.covers(class);
            by.get(class).or(covers.then_some(active.id))
        });
    }

    /// All of them, each once.
    pub fn ids(&self) -> BTreeSet<LimitId> {
        let mut ids = self.limits.ids();
        ids.extend(&self.meters);
        ids
    }

    /// The same without those of which `gone` says so.
    pub fn without(&self, gone: impl Fn(LimitId) -> bool) -> Self {
        let stays = |id: &LimitId| !gone(*id);
        let meters = self.meters.iter().copied().filter(stays);
        Self {
            limits: self.limits.map(|by| by.map(|id| id.filter(stays))),
            meters: meters.collect(),
        }
    }
}

impl ActiveRules {
    /// What counts for a process of which no more is known than which rules it `matches`.
    pub fn choose_by(&self, matches: impl Fn(&ActiveRule) -> bool) -> Choice {
        let mut choice = Choice::default();
        for active in self.rules.iter().filter(|rule| matches(rule)) {
            choice.add(active);
        }
        choice
    }

    /// What counts for a process: in each direction and class the first rule that limits it.
    /// `parents` are its ancestors' ids, the nearest first; they are asked for only if they matter.
    pub fn choose(&mut self, process: &Identity, parents: impl Fn() -> Vec<Pid>) -> Choice {
        let mut choice = Choice::default();
        let known = OnceCell::new();
        let parents = || known.get_or_init(&parents);
        for active in &mut self.rules {
            let members = &mut active.members;
            let mut descends = |root: ProcessId| {
                let member = members.contains(&process.key.pid)
                    || parents().iter().any(|parent| members.contains(parent));
                // A root whose id went to another process since has no children any more.
                if member && root.pid != process.key.pid {
                    members.insert(process.key.pid);
                }
                member && root.pid != process.key.pid
            };
            if !active.rule.target.matches(process, &mut descends) {
                continue;
            }
            choice.add(active);
        }
        if let Some(everybody_else) = &self.everybody_else {
            for direction in Direction::BOTH {
                choice.add_to(direction, everybody_else);
            }
        }
        choice
    }

    /// What a process's row shows of its limits: of all traffic where the same count for both classes,
    /// else of internet traffic and of local. `effect` tells what they do to a part.
    pub fn states(
        &self,
        limits: &EffectiveLimits,
        mut effect: impl FnMut(Scope, PerDirection<Option<LimitId>>) -> Effect,
    ) -> [Option<LimitState>; 2] {
        let (internet, local) = (limits.about(Scope::Internet), limits.about(Scope::Local));
        let mut state = |scope, by| self.state(by, scope, |scope| effect(scope, by));
        if internet == local {
            [state(Scope::All, internet), None]
        } else {
            [state(Scope::Internet, internet), state(Scope::Local, local)]
        }
    }

    fn state(
        &self,
        by: PerDirection<Option<LimitId>>,
        scope: Scope,
        effect: impl FnOnce(Scope) -> Effect,
    ) -> Option<LimitState> {
        let rule = by.map(|id| self.get(id?).map(|active| &active.rule));
        let limits = Limits::of(|direction| *(*rule.get(direction))?.limits.get(direction));
        let any =
            |is: fn(&Rule) -> bool| [rule.download, rule.upload].into_iter().flatten().any(is);
        let priority = match (any(Rule::is_background), any(Rule::is_high)) {
            (true, _) => Priority::Background,
            (_, true) => Priority::High,
            _ => Priority::Normal,
        };
        let at_least = Limits::of(|direction| *(*rule.get(direction))?.at_least.get(direction));
        let terms = Terms {
            limits,
            priority,
            at_least,
        };
        terms.says_anything().then(|| LimitState {
            limits,
            priority,
            at_least,
            scope,
            sharing: match any(|rule| rule.sharing == Sharing::Shared) {
                true => Sharing::Shared,
                false => Sharing::Each,
            },
            effect: effect(scope),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::{
        model::{
            command::{Command, CommandError},
            limit::Mechanism,
            target::Target,
        },
        policy::fixtures::{file, limits, process},
    };

    fn chosen(rules: &mut ActiveRules, process: &Identity) -> [[Option<LimitId>; 2]; 2] {
        let limits = rules.choose(process, Vec::new).limits;
        [limits.download, limits.upload].map(|by| [by.internet, by.local])
    }

    fn shown(rules: &ActiveRules, choice: &Choice) -> [Option<LimitState>; 2] {
        rules.states(&choice.limits, |_, _| Effect::none(Mechanism::Pacing))
    }

    #[test]
    fn the_first_rule_that_limits_a_direction_counts_in_it() {
        let mut rules = ActiveRules::default();
        let curl = rules.insert(file("a", Target::program("curl"), limits(1, 0)), UNIX_EPOCH);
        let user = Target::User {
            uid: 1000,
            name: "u".into(),
        };
        let user = rules.insert(file("b", user, limits(2, 2)), UNIX_EPOCH);
        rules.order(&[curl, user]);
        let both = |id| [Some(id); 2];
        assert_eq!(
            chosen(&mut rules, &process(1, "curl")),
            [both(curl), both(user)]
        );
        assert_eq!(
            chosen(&mut rules, &process(2, "wget")),
            [both(user), both(user)]
        );
        rules.order(&[user, curl]);
        assert_eq!(
            chosen(&mut rules, &process(1, "curl")),
            [both(user), both(user)]
        );
    }

    #[test]
    fn a_rule_about_one_class_leaves_the_other_to_the_next() {
        let mut rules = ActiveRules::default();
        let internet = Rule {
            scope: Scope::Internet,
            ..file("a", Target::program("curl"), limits(1, 0))
        };
        let internet = rules.insert(internet, UNIX_EPOCH);
        let all = rules.insert(file("b", Target::program("curl"), limits(2, 0)), UNIX_EPOCH);
        rules.order(&[internet, all]);
        assert_eq!(
            chosen(&mut rules, &process(1, "curl")),
            [[Some(internet), Some(all)], [None, None]]
        );
    }

    #[test]
    fn what_was_set_by_hand_comes_first_and_the_newest_of_it() {
        let mut rules = ActiveRules::default();
        let from_file = rules.insert(file("a", Target::program("curl"), limits(1, 1)), UNIX_EPOCH);
        rules.order(&[from_file]);
        let older = rules.insert(
            Rule::by_hand(Target::program("curl"), limits(2, 2)),
            UNIX_EPOCH,
        );
        assert_eq!(chosen(&mut rules, &process(1, "curl"))[0][0], Some(older));
        let glob = Target::Program {
            by: crate::model::target::ProgramField::Name,
            pattern: "c*".parse().unwrap(),
        };
        let newer = rules.insert(Rule::by_hand(glob, limits(3, 3)), UNIX_EPOCH);
        assert_eq!(chosen(&mut rules, &process(1, "curl"))[0][0], Some(newer));
        let narrow = rules.insert(Rule::by_hand(Pid(1), limits(4, 4)), UNIX_EPOCH);
        rules.insert(
            Rule::by_hand(Target::program("wget"), limits(5, 5)),
            UNIX_EPOCH,
        );
        assert_eq!(chosen(&mut rules, &process(1, "curl"))[0][0], Some(narrow));
        rules.remove(narrow).unwrap();
        assert_eq!(chosen(&mut rules, &process(1, "curl"))[0][0], Some(newer));
    }

    #[test]
    fn a_rule_that_only_counts_leaves_limits_to_others() {
        let mut rules = ActiveRules::default();
        let meter = rules.insert(
            Rule {
                metered: true,
                ..file("a", Target::program("curl"), limits(0, 0))
            },
            UNIX_EPOCH,
        );
        let limit = rules.insert(file("b", Target::program("curl"), limits(1, 1)), UNIX_EPOCH);
        let choice = rules.choose(&process(1, "curl"), Vec::new);
        let by = PerClass::of(|_| Some(limit));
        assert_eq!(choice.limits, PerDirection::of(|_| by));
        assert_eq!(choice.meters, [meter]);
        assert_eq!(choice.ids(), BTreeSet::from([meter, limit]));
    }

    #[test]
    fn background_traffic_is_limited_both_ways_though_no_rate_was_given() {
        let mut rules = ActiveRules::default();
        let rule = Rule::in_background(Target::program("rclone"));
        let id = rules.insert(rule, UNIX_EPOCH);
        let choice = rules.choose(&process(1, "rclone"), Vec::new);
        assert_eq!(
            choice.limits,
            PerDirection::of(|_| PerClass::of(|_| Some(id)))
        );
        assert!(rules.have_background());
        assert!(!rules.get(id).unwrap().is_each());
        // Before it is known what it has.
        let [all, local] = shown(&rules, &choice);
        let all = all.unwrap();
        assert_eq!(
            (all.priority, all.sharing),
            (Priority::Background, Sharing::Shared)
        );
        assert_eq!((all.limits, local), (Limits::default(), None));
        rules.set_background(|_| limits(3, 4));
        let [all, _] = shown(&rules, &choice);
        assert_eq!(all.unwrap().limits, limits(3, 4));
    }

    #[test]
    fn beside_what_is_important_there_is_a_limit_for_everybody_else() {
        let command = |rule| Command::Set(Box::new(rule));
        let set = |rules: &ActiveRules, rule| {
            let resolve = |_| Err(CommandError::NoSuchLimit);
            let (rules, changes) = rules.after(&command(rule), UNIX_EPOCH, &resolve).unwrap();
            (rules, changes.set[0])
        };
        let slow = Rule::by_hand(Target::program("rsync"), limits(1, 1));
        let (rules, slow) = set(&ActiveRules::default(), slow);
        assert!(rules.everybody_else().is_none());
        let call = Rule::with_high_priority(Target::program("call"));
        let (mut rules, call) = set(&rules, call);
        let rest = rules.everybody_else().unwrap().id;
        for (name, internet, local) in [
            ("call", Some(call), None),
            ("rsync", Some(slow), Some(slow)),
            ("curl", Some(rest), None),
        ] {
            let by = [internet, local];
            assert_eq!(chosen(&mut rules, &process(1, name)), [by; 2], "{name}");
        }
        // It is shown while it holds anybody.
        let curl = rules.choose(&process(1, "curl"), Vec::new);
        assert_eq!(shown(&rules, &curl), [None, None]);
        rules.hold_everybody_else(limits(3, 4));
        assert_eq!(
            shown(&rules, &curl)[0].as_ref().unwrap().limits,
            limits(3, 4)
        );
        let important = rules.choose(&process(1, "call"), Vec::new);
        let state = shown(&rules, &important)[0].clone().unwrap();
        assert_eq!(
            (state.priority, state.limits),
            (Priority::High, Limits::default())
        );
        // Another one that is about all traffic.
        let all = Rule {
            scope: Scope::All,
            ..Rule::with_high_priority(Target::program("game"))
        };
        let (mut rules, game) = set(&rules, all);
        assert_eq!(
            chosen(&mut rules, &process(1, "curl")),
            [[Some(rest); 2]; 2]
        );
        rules.remove(game);
        assert!(rules.everybody_else().is_some());
        rules.remove(call);
        assert!(rules.everybody_else().is_none());
        assert_eq!(chosen(&mut rules, &process(1, "curl")), [[None; 2]; 2]);
    }

    #[test]
    fn what_is_shown_is_of_all_traffic_where_the_same_counts_for_both_classes() {
        let mut rules = ActiveRules::default();
        let download = Rule::by_hand(Target::program("curl"), limits(1, 0));
        rules.insert(download, UNIX_EPOCH);
        let upload = Rule {
            sharing: Sharing::Shared,
            ..file("a", Target::program("curl"), limits(5, 2))
        };
        rules.insert(upload, UNIX_EPOCH);
        let choice = rules.choose(&process(1, "curl"), Vec::new);
        let [all, local] = shown(&rules, &choice);
        let all = all.unwrap();
        assert_eq!((all.limits, all.scope), (limits(1, 2), Scope::All));
        assert_eq!((all.sharing, local), (Sharing::Shared, None));
        assert_eq!(shown(&rules, &Choice::default()), [None, None]);
    }

    #[test]
    fn a_local_limit_that_differs_only_in_upload_is_shown() {
        let mut rules = ActiveRules::default();
        let local = Rule {
            scope: Scope::Local,
            ..Rule::by_hand(Target::program("curl"), limits(0, 2))
        };
        rules.insert(local, UNIX_EPOCH);
        let all = file("a", Target::program("curl"), limits(1, 1));
        rules.insert(all, UNIX_EPOCH);
        let choice = rules.choose(&process(1, "curl"), Vec::new);
        let [internet, local] = shown(&rules, &choice).map(Option::unwrap);
        assert_eq!(
            (internet.limits, internet.scope),
            (limits(1, 1), Scope::Internet)
        );
        assert_eq!((local.limits, local.scope), (limits(1, 2), Scope::Local));
    }

    #[test]
    fn a_limit_of_local_traffic_alone_is_shown() {
        let mut rules = ActiveRules::default();
        let local = Rule {
            scope: Scope::Local,
            ..Rule::by_hand(Target::program("curl"), limits(1, 0))
        };
        rules.insert(local, UNIX_EPOCH);
        let choice = rules.choose(&process(1, "curl"), Vec::new);
        let [internet, local] = shown(&rules, &choice);
        assert_eq!(internet, None);
        assert_eq!(local.unwrap().limits, limits(1, 0));
    }
}
