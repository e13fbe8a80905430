//! The rules file: what it says.

pub mod document;
pub mod mistake;
mod read;
pub mod store;

use std::{net::SocketAddr, path::Path, sync::Arc};

pub use read::{listen_address, read};
use serde::Serialize;

use super::{
    quota::{Quota, Then},
    schedule::Schedule,
};
use crate::{
    model::{
        direction::{Limits, PerDirection},
        link::LinkSpeed,
        pattern::Pattern,
        priority::Priority,
        rule::{Scope, Sharing},
        target::{ProgramField, Target},
        terms::{Terms, Word},
        unit,
    },
    process::identity,
    rate::Rate,
};

/// Where the rules are unless another file is named.
pub const DEFAULT: &str = "/etc/chadthrottle/rules.toml";

/// The most rules that a file may have: each can take two of the kernel's cells, and every new
/// process is compared with all of them.
pub const MOST_RULES: usize = 1000;

/// The longest name of a rule, in characters.
const LONGEST_NAME: usize = 64;

/// A rules file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RulesFile {
    /// The rules, those that come first first.
    pub rules: Vec<FileRule>,
    /// Where metrics are served, if they are.
    pub metrics: Option<SocketAddr>,
    /// How fast the link is, as far as the file says.
    pub link: LinkSpeed,
}

impl RulesFile {
    /// The rule with this name.
    pub fn rule(&self, name: &str) -> Option<&FileRule> {
        self.rules.iter().find(|rule| &*rule.name == name)
    }
}

/// Whom a rule of the file is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileTarget {
    /// Every process of a program.
    Program(ProgramField, Pattern),
    /// Every process in a cgroup or below it.
    Cgroup(String),
    /// Every process of a systemd unit.
    Unit(String),
    /// Every process of a user, by name or number. Who that is, is asked when the rule is put in
    /// force: the user may be made later.
    User(String),
}

impl FileTarget {
    /// The key of the file that says it, and its value.
    pub fn key_and_value(&self) -> (&'static str, &str) {
        match self {
            Self::Program(ProgramField::Name, pattern) => ("program", pattern.as_str()),
            Self::Program(ProgramField::Path, pattern) => ("path", pattern.as_str()),
            Self::Program(ProgramField::CommandLine, pattern) => ("command", pattern.as_str()),
            Self::Cgroup(path) => ("cgroup", path),
            Self::Unit(unit) => ("unit", unit),
            Self::User(user) => ("user", user),
        }
    }

    /// What a key of the file and its value mean.
    ///
    /// # Errors
    ///
    /// What is expected instead.
    pub fn from_key(key: &str, value: &str) -> Result<Self, String> {
        let program = |field| {
            let pattern = value.parse().map_err(|error| format!("{error}"))?;
            Ok(Self::Program(field, pattern))
        };
        if value.is_empty() {
            return Err(format!("'{key}' is empty"));
        }
        match key {
            "program" if value.contains('/') && !value.starts_with("re:") => {
                Err("a program's name has no '/'; 'path' means its file".to_owned())
            }
            "program" => program(ProgramField::Name),
            "path" => program(ProgramField::Path),
            "command" => program(ProgramField::CommandLine),
            "cgroup" => cgroup(value).map(Self::Cgroup),
            "unit" => unit_name(value).map(Self::Unit),
            "user" => Ok(Self::User(value.to_owned())),
            _ => Err(format!("'{key}' is no target")),
        }
    }

    /// The target itself; nothing for a user that doesn't exist (yet).
    pub fn resolve(&self, users: &dyn Users) -> Option<Target> {
        Some(match self {
            Self::Program(by, pattern) => Target::Program {
                by: *by,
                pattern: pattern.clone(),
            },
            Self::Cgroup(path) => Target::Cgroup(path.clone()),
            Self::Unit(unit) => Target::Unit(unit.clone()),
            Self::User(name) => Target::User {
                uid: users.uid(name)?,
                name: name.clone(),
            },
        })
    }
}

/// Knows the users of this machine.
pub trait Users {
    /// The number of a user, given by name or by number.
    fn uid(&self, name: &str) -> Option<u32>;
}

/// The users that the system knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemUsers;

impl Users for SystemUsers {
    fn uid(&self, name: &str) -> Option<u32> {
        // A number needs no entry: containers' users have none.
        identity::user(name).map(|(uid, _)| uid)
    }
}

/// A unit's name, if it can be one (systemd.unit(5)), or a container's as it is shown.
fn unit_name(name: &str) -> Result<String, String> {
    if name.contains('/') {
        return Err("a unit's name has no '/'; 'cgroup' means a path".to_owned());
    }
    let strange = |c: &char| !c.is_ascii_alphanumeric() && !":-_.\\@".contains(*c);
    if let Some(strange) = name.chars().find(strange) {
        return Err(format!(
            "a unit's name has letters, digits and :-_.\\@, and no {strange:?}; `systemctl status` \
             shows the units there are, and `systemd-escape` how a path or text becomes a name"
        ));
    }
    if !name.contains('.') && !unit::is_of_container(name) {
        return Err(format!(
            "a unit's name ends in its kind; write \"{name}.service\", \"{name}.slice\" or \
             \"{name}.scope\""
        ));
    }
    Ok(name.to_owned())
}

/// A cgroup's path as the kernel writes it.
fn cgroup(path: &str) -> Result<String, String> {
    let below_mount = path.strip_prefix("/sys/fs/cgroup");
    if let Some(rest) = below_mount.filter(|rest| rest.starts_with('/')) {
        let rest = rest.strip_prefix("/unified").unwrap_or(rest);
        return Err(format!(
            "a cgroup's path begins below the mount: write {rest:?}"
        ));
    }
    if !path.starts_with('/')
        || Path::new(path)
            .components()
            .any(|part| part.as_os_str() == "..")
    {
        return Err(format!(
            "a cgroup is a path from the root of the hierarchy, as in /proc/PID/cgroup, for \
             example \"/system.slice\"; this is {path:?}"
        ));
    }
    Ok(match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    })
}

/// A rule of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRule {
    /// Its name, by which commands and logs mean it.
    pub name: Arc<str>,
    /// Whether it counts at all.
    pub enabled: bool,
    /// Whom it is about.
    pub target: FileTarget,
    /// Which of their traffic.
    pub scope: Scope,
    /// Their limits.
    pub limits: Limits,
    /// How important their traffic is, in place of limits.
    pub priority: Priority,
    /// What they have of the link before everybody else.
    pub at_least: Limits,
    /// How they share them.
    pub sharing: Sharing,
    /// When it is in force.
    pub schedule: Schedule,
    /// How much they may move before it limits.
    pub quota: Option<Quota>,
}

impl FileRule {
    /// A rule that does nothing yet.
    pub fn new(name: &str, target: FileTarget) -> Self {
        Self {
            name: name.into(),
            enabled: true,
            target,
            scope: Scope::default(),
            limits: Limits::default(),
            priority: Priority::default(),
            at_least: Limits::default(),
            sharing: Sharing::default(),
            schedule: Schedule::default(),
            quota: None,
        }
    }

    /// What its processes may have.
    pub fn terms(&self) -> Terms {
        Terms {
            limits: self.limits,
            priority: self.priority,
            at_least: self.at_least,
        }
    }

    /// Whether it makes sense as a whole.
    ///
    /// # Errors
    ///
    /// The key to blame, and what to do.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        check_name(&self.name).map_err(|error| ("name", error))?;
        self.terms().check().map_err(|(word, why)| {
            let key = match word {
                Word::Priority => "priority",
                Word::AtLeast => "at_least",
            };
            (key, format!("{why}; leave out one of the two"))
        })?;
        let does_nothing = !self.terms().says_anything();
        match &self.quota {
            None if does_nothing => Err((
                "name",
                format!(
                    "rule '{}' limits nothing; add download, upload, block, priority, at_least or quota",
                    self.name
                ),
            )),
            Some(quota) if quota.then == Then::Limit && does_nothing => Err((
                "quota",
                "the quota is to limit, but to what? Add download, upload or priority, or write then = \
                 \"block\" or \"notify\""
                    .to_owned(),
            )),
            _ => Ok(()),
        }
    }
}

/// Whether a rule can have this name.
///
/// # Errors
///
/// What is expected.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.trim().is_empty() {
        return Err("a rule needs a name".to_owned());
    }
    if name.chars().count() > LONGEST_NAME {
        return Err(format!("a name has at most {LONGEST_NAME} characters"));
    }
    if name.trim() != name || name.chars().any(char::is_control) {
        return Err("a name has no line ends, tabs or outer spaces".to_owned());
    }
    Ok(())
}

/// Which directions are limited to nothing.
pub fn blocked(limits: Limits) -> PerDirection<bool> {
    limits.map(|limit| limit == Some(Rate::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_written() {
        for (key, value) in [
            ("program", "curl"),
            ("program", "re:^/x"),
            ("path", "/usr/bin/*"),
            ("command", "re:--backup"),
            ("cgroup", "/system.slice"),
            ("cgroup", "/"),
            ("unit", "sshd.service"),
            ("unit", "-.slice"),
            ("unit", "dev-disk\\x2dby.swap"),
            ("unit", "user@1000.service"),
            ("user", "alice"),
        ] {
            let target = FileTarget::from_key(key, value).unwrap();
            assert_eq!(target.key_and_value(), (key, value));
        }
        for (key, value, message) in [
            ("program", "/usr/bin/curl", "'path' means its file"),
            ("program", "", "'program' is empty"),
            ("path", "re:(", "regular expression can't be understood"),
            ("cgroup", "system.slice", "for example \"/system.slice\""),
            ("cgroup", "/a/../b", "a path from the root"),
            (
                "cgroup",
                "/sys/fs/cgroup/system.slice",
                "write \"/system.slice\"",
            ),
            ("unit", "bad unit", "and no ' '"),
            ("unit", "nginx*.service", "and no '*'"),
            ("unit", "sshd", "write \"sshd.service\""),
            ("unit", "/system.slice/a.service", "'cgroup' means a path"),
        ] {
            let error = FileTarget::from_key(key, value).unwrap_err();
            assert!(error.contains(message), "{key} {value}: {error}");
        }
        let slashes = FileTarget::from_key("cgroup", "/a/").unwrap();
        assert_eq!(slashes, FileTarget::Cgroup("/a".into()));
    }

    #[test]
    fn a_user_is_asked_for_late() {
        struct Nobody;
        impl Users for Nobody {
            fn uid(&self, _: &str) -> Option<u32> {
                None
            }
        }
        let target = FileTarget::User("root".into());
        assert_eq!(target.resolve(&Nobody), None);
        let resolved = target.resolve(&SystemUsers).unwrap();
        assert_eq!(resolved.to_string(), "user root");
        assert_eq!(SystemUsers.uid("4000000"), Some(4_000_000));
        assert_eq!(SystemUsers.uid("no such user"), None);
    }

    #[test]
    fn names() {
        for name in ["", "  ", " a", "a\nb", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("Backups at night").is_ok());
    }
}
