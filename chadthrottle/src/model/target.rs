//! What a limit applies to.

use std::{fmt, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    pattern::Pattern,
    process::{Identity, Pid, ProcessId, ProcessKey},
    unit,
};

/// What of a process a program's pattern is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProgramField {
    /// Its name, or the name of its file.
    Name,
    /// The path of its file.
    Path,
    /// Its arguments, joined by spaces.
    CommandLine,
}

/// What a limit applies to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One process.
    Process(ProcessId),
    /// A process and its descendants, those that exist and those to come.
    Tree(ProcessId),
    /// Every process of a program.
    Program {
        /// What is compared.
        by: ProgramField,
        /// With what.
        pattern: Pattern,
    },
    /// Every process in a cgroup (an absolute path below the cgroup v2 mount) or below it.
    Cgroup(String),
    /// Every process of a systemd unit, wherever it is: one component of its cgroup's path. A
    /// container is known by the short name that is shown of it, too.
    Unit(String),
    /// Every process of a user.
    User {
        /// The user's id.
        uid: u32,
        /// The name under which it was asked for, for people.
        name: String,
    },
    /// What any of these applies to.
    Any(Vec<Target>),
}

/// `comm` in `/proc` is cut off after so many bytes (`TASK_COMM_LEN` in `linux/sched.h`, less the
/// NUL).
const NAME_LENGTH: usize = 15;

impl Target {
    /// Every process of the program with this name.
    pub fn program(name: &str) -> Self {
        Self::Program {
            by: ProgramField::Name,
            pattern: Pattern::exactly(name),
        }
    }

    /// Whether it is a program's name that is none of this process's, but that of the script which it runs, as an
    /// interpreter does.
    pub fn names_script_of(&self, process: &Identity) -> bool {
        let Self::Program {
            by: ProgramField::Name,
            pattern,
        } = self
        else {
            return false;
        };
        let mut words = process.command_line.split(' ').skip(1);
        !name_matches(pattern, process)
            && words.any(|word| pattern.matches(word.rsplit('/').next().unwrap_or(word)))
    }

    /// Whether a process is meant. `descends` tells whether it is a descendant of the process in a
    /// [`Target::Tree`].
    pub fn matches(&self, process: &Identity, descends: &mut dyn FnMut(ProcessId) -> bool) -> bool {
        match self {
            Self::Process(id) => id.is(process.key),
            Self::Tree(root) => root.is(process.key) || descends(*root),
            Self::Program { by, pattern } => match by {
                ProgramField::Name => name_matches(pattern, process),
                ProgramField::Path => {
                    let of = |path: &str| !path.is_empty() && pattern.matches(path);
                    of(&process.exe) || of(path_of(process))
                }
                ProgramField::CommandLine => {
                    !process.command_line.is_empty() && pattern.matches(&process.command_line)
                }
            },
            Self::Cgroup(path) => {
                !process.cgroup.is_empty() && Path::new(&*process.cgroup).starts_with(path)
            }
            Self::Unit(name) => {
                let mut parts = process.cgroup.split('/');
                parts.any(|part| unit::is_called(part, name))
            }
            Self::User { uid, .. } => process.uid == Some(*uid),
            Self::Any(targets) => targets
                .iter()
                .any(|target| target.matches(process, descends)),
        }
    }

    /// Whether a process is meant for what the kernel knows of it when it makes its first socket (see
    /// [`chadthrottle_common::newcomer::Kind`]), so that all of its kind are. `in_tree` tells whether
    /// it belongs to the target's tree.
    pub fn matches_kind(&self, process: &Identity, in_tree: bool) -> bool {
        match self {
            Self::Process(_) => false,
            Self::Tree(_) => in_tree,
            Self::Program { .. } => self.may_be_named(&process.name),
            Self::Cgroup(_) | Self::Unit(_) | Self::User { .. } => {
                self.matches(process, &mut |_| false)
            }
            Self::Any(targets) => targets
                .iter()
                .any(|target| target.matches_kind(process, in_tree)),
        }
    }

    /// Whether what the kernel knows as `name` may be meant for that alone.
    pub fn may_be_named(&self, name: &str) -> bool {
        match self {
            Self::Program { by, pattern } => match by {
                ProgramField::Name => short_name_matches(pattern, name),
                ProgramField::Path => file_of(pattern).is_some_and(|file| short(file) == name),
                ProgramField::CommandLine => false,
            },
            Self::Any(targets) => targets.iter().any(|target| target.may_be_named(name)),
            _ => false,
        }
    }

    /// The names for which that is certain to be so, as the kernel knows them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.parts().iter().filter_map(|target| match target {
            Self::Program { by, pattern } => match by {
                ProgramField::Name => pattern.exact().map(short),
                ProgramField::Path => file_of(pattern).map(short),
                ProgramField::CommandLine => None,
            },
            _ => None,
        });
        // The kernel may keep a part of a character.
        names.filter(|name| self.may_be_named(name))
    }

    /// The users all of whose processes are meant.
    pub fn users(&self) -> impl Iterator<Item = u32> {
        self.parts().iter().filter_map(|target| match target {
            Self::User { uid, .. } => Some(*uid),
            _ => None,
        })
    }

    /// How narrowly it aims: of two limits set by hand, the one with the lower number counts.
    pub fn breadth(&self) -> u8 {
        match self {
            Self::Process(_) => 0,
            Self::Tree(_) => 1,
            Self::Program { .. } => 2,
            Self::Unit(_) => 3,
            Self::Cgroup(_) => 4,
            Self::User { .. } => 5,
            Self::Any(targets) => targets.iter().map(Self::breadth).max().unwrap_or(0),
        }
    }

    /// The target itself, or those it is any of.
    pub fn parts(&self) -> &[Self] {
        match self {
            Self::Any(targets) => targets,
            target => std::slice::from_ref(target),
        }
    }

    /// The processes that it names by their ids.
    pub fn processes(&self) -> Vec<ProcessId> {
        let process = |target: &Self| match target {
            Self::Process(id) | Self::Tree(id) => Some(*id),
            _ => None,
        };
        self.parts().iter().filter_map(process).collect()
    }

    /// The processes whose descendants are meant, too.
    pub fn roots(&self) -> Vec<ProcessId> {
        let root = |target: &Self| match target {
            Self::Tree(id) => Some(*id),
            _ => None,
        };
        self.parts().iter().filter_map(root).collect()
    }

    /// The same with other processes in the place of those that it names: the same ones known for
    /// good, for example.
    ///
    /// # Errors
    ///
    /// The first process that `resolve` can't find.
    pub fn resolved<P: Into<ProcessId>, E>(
        self,
        resolve: &impl Fn(ProcessId) -> Result<P, E>,
    ) -> Result<Self, E> {
        Ok(match self {
            Self::Process(id) => Self::Process(resolve(id)?.into()),
            Self::Tree(id) => Self::Tree(resolve(id)?.into()),
            Self::Any(targets) => {
                let targets = targets.into_iter().map(|target| target.resolved(resolve));
                Self::Any(targets.collect::<Result<_, E>>()?)
            }
            other => other,
        })
    }

    /// Takes a process out that has ended. Returns whether nothing is left that could match.
    pub fn forget(&mut self, key: ProcessKey) -> bool {
        let gone = |target: &Self| matches!(target, Self::Process(id) if id.is(key));
        match self {
            Self::Any(targets) if targets.len() > 1 => {
                targets.retain(|target| !gone(target));
                targets.is_empty()
            }
            target => target.parts().iter().all(gone),
        }
    }
}

fn name_matches(pattern: &Pattern, process: &Identity) -> bool {
    let file = Path::new(path_of(process)).file_name();
    let file = file.and_then(|name| name.to_str()).unwrap_or("");
    short_name_matches(pattern, &process.name) || (!file.is_empty() && pattern.matches(file))
}

/// The path that a process was started by. The kernel marks it if the file was replaced since, as by
/// an upgrade.
fn path_of(process: &Identity) -> &str {
    let path = &*process.exe;
    path.strip_suffix(" (deleted)").unwrap_or(path)
}

/// The name of the one file that a path's pattern is for.
fn file_of(pattern: &Pattern) -> Option<&str> {
    Path::new(pattern.exact()?).file_name()?.to_str()
}

/// As much of a program's name as the kernel keeps.
fn short(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_LENGTH)]
}

/// The same for a name that the kernel may have cut off.
fn short_name_matches(pattern: &Pattern, name: &str) -> bool {
    let cut = name.len() == NAME_LENGTH
        && pattern
            .exact()
            .is_some_and(|text| text.len() > NAME_LENGTH && text.starts_with(name));
    pattern.matches(name) || cut
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(id) => write!(f, "process {}", id.pid),
            Self::Tree(id) => write!(f, "process {} and its descendants", id.pid),
            Self::Program { by, pattern } => match by {
                ProgramField::Name => write!(f, "program {pattern}"),
                ProgramField::Path => write!(f, "program file {pattern}"),
                ProgramField::CommandLine => write!(f, "command line {pattern}"),
            },
            Self::Cgroup(path) => write!(f, "cgroup {path}"),
            Self::Unit(unit) => write!(f, "unit {unit}"),
            Self::User { name, .. } => write!(f, "user {name}"),
            Self::Any(targets) => {
                for (index, target) in targets.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    target.fmt(f)?;
                }
                Ok(())
            }
        }
    }
}

impl From<ProcessKey> for Target {
    fn from(key: ProcessKey) -> Self {
        Self::Process(key.into())
    }
}

impl From<Pid> for Target {
    fn from(pid: Pid) -> Self {
        Self::Process(pid.into())
    }
}

#[cfg(test)]
mod tests;
