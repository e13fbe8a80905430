//! What a limit may apply to, seen from a row; and which limits apply to a row.

use super::text::{counted, subject as named};
use crate::{
    listing::rows::Subject,
    model::{
        limit::LimitRow,
        rule::{Rule, Sharing},
        snapshot::ProcessRow,
        target::Target,
        unit,
    },
};

/// Something that a limit may apply to.
#[derive(Clone, Debug, PartialEq)]
pub struct Reach {
    /// In a word, for a choice among several: `program`.
    pub word: &'static str,
    /// In words: `the program curl`.
    pub words: String,
    /// The targets; several only if each was tagged.
    pub targets: Vec<Target>,
}

impl Reach {
    /// One target. A process's name is not in the target: it comes with the row.
    fn of(target: Target, row: &ProcessRow) -> Self {
        let (word, words) = match &target {
            Target::Process(_) => ("process", named(row)),
            Target::Tree(_) => ("tree", format!("{} and its descendants", named(row))),
            _ => (word(&target), words(&target)),
        };
        Self {
            word,
            words,
            targets: vec![target],
        }
    }

    /// What the dialog of a row may limit, the first unless something else is chosen.
    pub fn of_row(subject: &Subject, lead: &ProcessRow) -> Vec<Self> {
        let cgroup = || (lead.cgroup.len() > 1).then(|| Target::Cgroup(lead.cgroup.to_string()));
        let unit = || unit::of(&lead.cgroup).map(|unit| Target::Unit(unit.to_owned()));
        let targets = match subject {
            Subject::Process(key) => vec![
                Some((*key).into()),
                Some(Target::Tree((*key).into())),
                Subject::Program(lead.name.clone()).target(lead),
                unit(),
                cgroup(),
                Subject::User(lead.user.clone()).target(lead),
            ],
            Subject::Unit(_) => vec![unit(), cgroup()],
            Subject::Program(_) | Subject::User(_) => vec![subject.target(lead)],
        };
        let targets = targets.into_iter().flatten();
        targets.map(|target| Self::of(target, lead)).collect()
    }

    /// What was tagged.
    pub fn of_tagged(targets: Vec<Target>, processes: bool) -> Self {
        let words = match processes {
            true => counted(targets.len(), "tagged process", "tagged processes"),
            false => counted(targets.len(), "tagged group", "tagged groups"),
        };
        Self {
            word: "tagged",
            words,
            targets,
        }
    }

    /// What a rule applies to. `rows` may have the name of a process.
    pub fn of_rule(rule: &Rule, rows: &[ProcessRow]) -> Self {
        let process = rule.target.processes();
        let row = process.first().and_then(|id| {
            let mut rows = rows.iter();
            rows.find(|row| id.is(row.key))
        });
        match (&rule.target, row) {
            (Target::Process(_) | Target::Tree(_), Some(row)) => Self::of(rule.target.clone(), row),
            (target, _) => Self {
                word: word(target),
                words: words(target),
                targets: vec![target.clone()],
            },
        }
    }

    /// Whether its processes may share a limit.
    pub fn shares(&self) -> bool {
        !matches!(self.targets.as_slice(), [Target::Process(_)])
    }

    /// How its processes have a limit unless something else is chosen: what belongs together has
    /// it together.
    pub fn usual_sharing(&self) -> Sharing {
        match self.targets.as_slice() {
            [Target::Process(_)] => Sharing::Each,
            [_] => Sharing::Shared,
            _ => Sharing::Each,
        }
    }

    /// Whom a limit applies to, to begin a sentence with.
    pub fn whom(&self, sharing: Sharing) -> String {
        let words = &self.words;
        match (self.targets.as_slice(), sharing) {
            ([Target::Process(_)], _) => words.clone(),
            ([Target::Tree(_) | Target::Any(_)], Sharing::Shared) => format!("{words} together"),
            ([Target::Tree(_) | Target::Any(_)], Sharing::Each) => format!("Each of {words}"),
            ([_], Sharing::Shared) => format!("All processes of {words} together"),
            ([_], Sharing::Each) => format!("Each process of {words}"),
            (_, Sharing::Shared) => format!("The {words} together"),
            (_, Sharing::Each) => format!("Each of the {words}"),
        }
    }

    /// Whether the table can tell which processes it has: descendants and command lines are not in
    /// it.
    pub fn is_countable(&self) -> bool {
        let told = |target: &Target| {
            !matches!(
                target,
                Target::Tree(_)
                    | Target::Program {
                        by: crate::model::target::ProgramField::CommandLine,
                        ..
                    }
            )
        };
        let parts = self.targets.iter().flat_map(Target::parts);
        self.shares() && parts.into_iter().all(told)
    }

    /// Whether a process is meant, as far as the table can tell.
    pub fn holds(&self, row: &ProcessRow) -> bool {
        let identity = row.identity();
        let mut targets = self.targets.iter();
        targets.any(|target| target.matches(&identity, &mut |_| false))
    }
}

impl Subject {
    /// The one target that stands for all of it; nothing when there is none.
    pub fn target(&self, lead: &ProcessRow) -> Option<Target> {
        Some(match self {
            Self::Process(key) => (*key).into(),
            Self::Program(name) if name.is_empty() => return None,
            Self::Program(name) => Target::program(name),
            Self::Unit(cgroup) => match unit::of(cgroup) {
                Some(unit) => Target::Unit(unit.to_owned()),
                None if cgroup.len() > 1 => Target::Cgroup(cgroup.to_string()),
                None => return None,
            },
            Self::User(name) => Target::User {
                uid: lead.uid?,
                name: name.to_string(),
            },
        })
    }
}

fn word(target: &Target) -> &'static str {
    match target {
        Target::Process(_) => "process",
        Target::Tree(_) => "tree",
        Target::Program { .. } => "program",
        Target::Cgroup(_) => "cgroup",
        Target::Unit(_) => "unit",
        Target::User { .. } => "user",
        Target::Any(_) => "several",
    }
}

/// A target in words: `the program curl`.
fn words(target: &Target) -> String {
    match target {
        Target::Program { .. } | Target::Cgroup(_) | Target::Unit(_) | Target::User { .. } => {
            format!("the {target}")
        }
        Target::Process(_) | Target::Tree(_) => target.to_string(),
        Target::Any(parts) if parts.iter().all(|part| matches!(part, Target::Process(_))) => {
            let ids: Vec<String> = target
                .processes()
                .iter()
                .map(|id| id.pid.to_string())
                .collect();
            format!("the processes {}", ids.join(", "))
        }
        Target::Any(_) => target.to_string(),
    }
}

/// The limits that count for a process, each once, in the order of the list.
pub fn limits_of<'a>(row: &ProcessRow, limits: &'a [LimitRow]) -> Vec<&'a LimitRow> {
    let ids = row.limits.ids();
    limits
        .iter()
        .filter(|limit| ids.contains(&limit.id))
        .collect()
}
