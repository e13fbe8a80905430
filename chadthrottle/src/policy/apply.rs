//! What commands change of the rules in force.

use std::time::SystemTime;

use super::active::ActiveRules;
use crate::model::{
    command::{Command, CommandError},
    limit::LimitId,
    process::{ProcessId, ProcessKey},
    rule::{Origin, Rule},
};

/// What a command changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Rules that came into force, or changed.
    pub set: Vec<LimitId>,
    /// Rules that are not in force any more.
    pub removed: Vec<LimitId>,
}

impl ActiveRules {
    /// The rules as they are after a command, and what it changes. All of it happens or nothing: these
    /// rules stay as they are. `resolve` tells which process has an id now.
    ///
    /// # Errors
    ///
    /// A process can't be found, or there is no such limit.
    pub fn after(
        &self,
        command: &Command,
        now: SystemTime,
        resolve: &impl Fn(ProcessId) -> Result<ProcessKey, CommandError>,
    ) -> Result<(Self, Changes), CommandError> {
        let mut rules = self.clone();
        let mut changes = Changes::default();
        match command {
            Command::Set(rule) => {
                let rule = Rule::clone(rule);
                changes
                    .set
                    .extend(rules.set(rule, now, resolve, &mut changes.removed)?);
            }
            Command::SetFile(file) => {
                changes.removed = self.not_in(file);
                for id in &changes.removed {
                    rules.remove(*id);
                }
                for rule in file {
                    let rule = rule.clone();
                    changes
                        .set
                        .extend(rules.set(rule, now, resolve, &mut changes.removed)?);
                }
                rules.order(&changes.set);
            }
            Command::Remove(id) => {
                rules.remove(*id).ok_or(CommandError::NoSuchLimit)?;
                changes.removed.push(*id);
            }
            Command::RemoveAll => {
                changes.removed = self.ids();
                rules.clear();
            }
            Command::Watch(_) | Command::SetInterval(_) | Command::SetLinkSpeed(_) => {}
        }
        rules.see_to_everybody_else();
        Ok((rules, changes))
    }

    /// Puts a rule in force, in place of the one it replaces, if it limits or counts anything.
    fn set(
        &mut self,
        mut rule: Rule,
        now: SystemTime,
        resolve: &impl Fn(ProcessId) -> Result<ProcessKey, CommandError>,
        removed: &mut Vec<LimitId>,
    ) -> Result<Option<LimitId>, CommandError> {
        rule.target = rule.target.resolved(resolve)?;
        let replaced = self.replaced_by(&rule);
        if !rule.says_anything() && !rule.metered {
            if let Some(id) = replaced {
                self.remove(id);
                removed.push(id);
            }
            return Ok(None);
        }
        Ok(Some(match replaced.and_then(|id| self.get_mut(id)) {
            Some(active) => {
                if rule.is_background() && active.rule.is_background() {
                    rule.limits = active.rule.limits;
                }
                active.rule = rule;
                active.id
            }
            None => self.insert(rule, now),
        }))
    }

    /// The rules of a file that are in force and not in this one.
    fn not_in(&self, file: &[Rule]) -> Vec<LimitId> {
        let stays = |old: &Rule| {
            let from_file = matches!(old.origin, Origin::File(_));
            !from_file || file.iter().any(|rule| rule.replaces(old))
        };
        let gone = self.iter().filter(|active| !stays(&active.rule));
        gone.map(|active| active.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use chadthrottle_common::traffic::Direction;

    use super::*;
    use crate::{
        model::{
            direction::Limits, priority::Priority, process::Pid, target::Target, terms::Terms,
        },
        policy::fixtures::{file, limits},
    };

    /// The process 9 has ended.
    fn resolve(process: ProcessId) -> Result<ProcessKey, CommandError> {
        match process.pid {
            Pid(9) => Err(CommandError::NoSuchProcess(process.pid)),
            pid => Ok(ProcessKey { pid, start_time: 1 }),
        }
    }

    fn apply(rules: &mut ActiveRules, command: Command) -> Result<Changes, CommandError> {
        let (after, changes) = rules.after(&command, UNIX_EPOCH, &resolve)?;
        *rules = after;
        Ok(changes)
    }

    #[test]
    fn background_traffic_keeps_what_it_has_when_its_rule_is_set_again() {
        let mut rules = ActiveRules::default();
        let set = || Command::Set(Box::new(Rule::in_background(Pid(1))));
        let [id] = apply(&mut rules, set()).unwrap().set[..] else {
            panic!()
        };
        rules.set_background(|_| limits(3, 4));
        apply(&mut rules, set()).unwrap();
        assert_eq!(rules.get(id).unwrap().rule.limits, limits(3, 4));
        // A number besides.
        let terms = Terms {
            priority: Priority::Background,
            ..Terms::limits(limits(1, 2))
        };
        let besides = Rule::by_hand(Pid(1), Limits::default()).with(terms);
        apply(&mut rules, Command::Set(Box::new(besides))).unwrap();
        let rule = &rules.get(id).unwrap().rule;
        assert_eq!((rule.limits, rule.ceiling), (limits(3, 4), limits(1, 2)));
        assert_eq!(rules.without_ceiling(Direction::Upload), 0);
        // A number in its place.
        apply(&mut rules, Command::limit(Pid(1), limits(1, 1))).unwrap();
        let rule = &rules.get(id).unwrap().rule;
        assert_eq!((rule.limits, rule.is_background()), (limits(1, 1), false));
        apply(&mut rules, set()).unwrap();
        assert_eq!(rules.get(id).unwrap().rule.limits, Limits::default());
    }

    #[test]
    fn a_rule_takes_the_place_of_the_one_it_replaces() {
        let mut rules = ActiveRules::default();
        let first = apply(&mut rules, Command::limit(Pid(1), limits(1, 1))).unwrap();
        let [id] = first.set[..] else { panic!() };
        let later = UNIX_EPOCH + Duration::from_secs(9);
        let command = Command::limit(Pid(1), limits(2, 2));
        let (rules, changes) = rules.after(&command, later, &resolve).unwrap();
        assert_eq!(changes, first);
        let rule = rules.get(id).unwrap();
        assert_eq!((rule.rule.limits, rule.since), (limits(2, 2), UNIX_EPOCH));
        // Its process is known for good.
        assert_eq!(rule.rule.target.processes()[0].start_time, Some(1));
        // Without limits it ends.
        let command = Command::limit(Pid(1), Limits::default());
        let (rules, changes) = rules.after(&command, later, &resolve).unwrap();
        assert_eq!((rules.ids(), changes.removed), (vec![], vec![id]));
        assert_eq!(changes.set, []);
    }

    #[test]
    fn a_number_is_used_once_also_after_all_were_removed() {
        let mut rules = ActiveRules::default();
        let set = |rules: &mut _| apply(rules, Command::limit(Pid(1), limits(1, 1)));
        let first = set(&mut rules).unwrap().set;
        let changes = apply(&mut rules, Command::RemoveAll).unwrap();
        assert_eq!(changes.removed, first);
        assert!(rules.ids().is_empty());
        let second = set(&mut rules).unwrap().set;
        assert!(second[0] > first[0]);
        let gone = apply(&mut rules, Command::Remove(first[0]));
        assert!(matches!(gone, Err(CommandError::NoSuchLimit)));
        apply(&mut rules, Command::Remove(second[0])).unwrap();
        assert!(rules.ids().is_empty());
    }

    #[test]
    fn a_file_takes_the_place_of_the_one_before() {
        let mut rules = ActiveRules::default();
        let rule = |name, rate| file(name, Target::program(name), limits(rate, 0));
        let all = Command::SetFile(vec![rule("a", 1), rule("b", 1)]);
        let [a, b] = apply(&mut rules, all).unwrap().set[..] else {
            panic!()
        };
        let hand = apply(&mut rules, Command::limit(Pid(1), limits(1, 0)));
        let hand = hand.unwrap().set[0];
        assert_eq!(rules.ids(), [hand, a, b]);
        let others = vec![rule("c", 1), rule("b", 2), rule("d", 0)];
        let changes = apply(&mut rules, Command::SetFile(others)).unwrap();
        let c = changes.set[0];
        assert_eq!(changes.set, [c, b]);
        assert_eq!(changes.removed, [a]);
        assert_eq!(rules.ids(), [hand, c, b], "in the file's order");
        assert_eq!(rules.get(b).unwrap().rule.limits, limits(2, 0));
    }

    #[test]
    fn a_command_that_fails_changes_nothing() {
        let mut rules = ActiveRules::default();
        let rule = |name, target| file(name, target, limits(1, 0));
        let first = vec![rule("a", Target::program("a"))];
        apply(&mut rules, Command::SetFile(first)).unwrap();
        let before = rules.ids();
        let bad = vec![
            rule("b", Target::program("b")),
            rule("c", Pid(9).into()),
            rule("d", Target::program("d")),
        ];
        let failed = apply(&mut rules, Command::SetFile(bad));
        assert!(matches!(failed, Err(CommandError::NoSuchProcess(Pid(9)))));
        assert_eq!(rules.ids(), before);
        let failed = apply(&mut rules, Command::limit(Pid(9), limits(1, 1)));
        assert!(matches!(failed, Err(CommandError::NoSuchProcess(Pid(9)))));
        assert_eq!(rules.ids(), before);
    }
}
