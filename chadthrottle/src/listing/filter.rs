//! What the person wants to see: words that all must hold.

use super::rows::limit_of;
use crate::model::{connections::Ports, snapshot::ProcessRow, unit};

/// A filter, as it was typed and as it was understood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    text: String,
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq)]
struct Term {
    not: bool,
    what: What,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Text(String),
    User(String),
    Program(String),
    Command(String),
    Unit(String),
    Pid(String),
    Port(Option<u16>),
    Limited,
    Blocked,
}

impl Filter {
    /// Understands a text. There is no wrong one: what is no key is looked for as it is.
    pub fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            terms: text.split_whitespace().filter_map(term).collect(),
        }
    }

    /// Understands a text that nobody types on at: what is not complete is a mistake.
    ///
    /// # Errors
    ///
    /// What is not, and what to type.
    pub fn complete(text: &str) -> Result<Self, String> {
        for word in text.split_whitespace() {
            match term(word) {
                None => {
                    return Err(format!(
                        "'{word}' says nothing yet; type for example user:ada, pid:42 or port:443"
                    ));
                }
                Some(term) if term.what == What::Port(None) => {
                    return Err(format!("'{word}' is no port; type for example port:443"));
                }
                Some(_) => {}
            }
        }
        Ok(Self::new(text))
    }

    /// As it was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether everything passes.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether ports must be known to apply it.
    pub fn needs_ports(&self) -> bool {
        let mut terms = self.terms.iter();
        terms.any(|term| matches!(term.what, What::Port(Some(_))))
    }

    /// Whether a process passes.
    pub fn matches(&self, row: &ProcessRow, ports: Option<&Ports>) -> bool {
        self.terms
            .iter()
            .all(|term| term.not != term.what.matches(row, ports))
    }
}

fn term(word: &str) -> Option<Term> {
    let (not, word) = match word.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, word),
    };
    let what = match (word, word.split_once(':')) {
        ("", _) => return None,
        ("limited", _) => What::Limited,
        ("blocked", _) => What::Blocked,
        // Half typed: everything passes still.
        (_, Some(("user" | "program" | "command" | "unit" | "cgroup" | "pid" | "port", ""))) => {
            return None;
        }
        (_, Some(("user", name))) => What::User(name.to_lowercase()),
        (_, Some(("program", name))) => What::Program(name.to_lowercase()),
        (_, Some(("command", text))) => What::Command(text.to_lowercase()),
        (_, Some(("unit" | "cgroup", name))) => What::Unit(name.to_lowercase()),
        (_, Some(("pid", id))) => What::Pid(id.to_owned()),
        (_, Some(("port", port))) => What::Port(port.parse().ok()),
        _ => What::Text(word.to_lowercase()),
    };
    Some(Term { not, what })
}

impl What {
    fn matches(&self, row: &ProcessRow, ports: Option<&Ports>) -> bool {
        match self {
            Self::Text(text) => {
                let fields = [
                    &row.name,
                    &row.exe,
                    &row.command_line,
                    &row.user,
                    &row.cgroup,
                ];
                fields.into_iter().any(|field| contains(field, text))
                    || row.pid().to_string() == *text
            }
            Self::User(name) => starts_with(&row.user, name),
            Self::Program(name) => contains(&row.name, name) || contains(&row.exe, name),
            Self::Command(text) => contains(&row.command_line, text),
            Self::Unit(name) => {
                contains(unit::name(&row.cgroup), name) || contains(&row.cgroup, name)
            }
            Self::Pid(ids) => {
                let pid = row.pid().to_string();
                ids.split(',')
                    .any(|id| !id.is_empty() && pid.starts_with(id))
            }
            Self::Port(None) => false,
            Self::Port(Some(port)) => ports.is_some_and(|ports| ports.of(row.key).contains(port)),
            Self::Limited => limit_of(row).is_some(),
            Self::Blocked => limit_of(row).is_some_and(|l| l.limits.is_blocked()),
        }
    }
}

/// Whether `field` has `lower` in it, whatever the case. Ten thousand rows are looked through for
/// every key: nothing is allocated for the usual ones.
fn contains(field: &str, lower: &str) -> bool {
    if field.is_ascii() && lower.is_ascii() {
        let windows = field.as_bytes().windows(lower.len().max(1));
        return lower.is_empty()
            || windows
                .into_iter()
                .any(|window| window.eq_ignore_ascii_case(lower.as_bytes()));
    }
    field.to_lowercase().contains(lower)
}

fn starts_with(field: &str, lower: &str) -> bool {
    field.to_lowercase().starts_with(lower)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            direction::Limits,
            limit::{LimitState, Mechanism},
            process::{Pid, ProcessKey},
        },
        rate::Rate,
    };

    fn row() -> ProcessRow {
        ProcessRow {
            key: ProcessKey {
                pid: Pid(812),
                start_time: 1,
            },
            name: "nginx".into(),
            exe: "/usr/sbin/nginx".into(),
            command_line: "nginx: worker process".into(),
            user: "www-data".into(),
            uid: Some(33),
            cgroup: "/system.slice/nginx.service".into(),
            connections: 0,
            bytes: Default::default(),
            rate: Default::default(),
            limits: Default::default(),
            local_limit: None,
            limit: Some(LimitState::new(
                Limits {
                    download: Some(Rate::ZERO),
                    upload: None,
                },
                Mechanism::Pacing,
            )),
            ended: false,
        }
    }

    #[test]
    fn what_is_not_complete_is_a_mistake_in_a_script() {
        for text in ["", "nginx !user:root", "foo:bar", "port:443"] {
            assert_eq!(Filter::complete(text), Ok(Filter::new(text)));
        }
        for (text, message) in [
            ("nginx user:", "'user:' says nothing yet"),
            ("!", "'!' says nothing yet"),
            ("port:https", "type for example port:443"),
        ] {
            let error = Filter::complete(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn what_passes() {
        let ports: Ports = [(row().key, vec![443, 8080])].into_iter().collect();
        for (text, passes) in [
            ("", true),
            ("NGI", true),
            ("sbin", true),
            ("curl", false),
            ("!curl", true),
            ("nginx www", true),
            ("nginx ada", false),
            ("812", true),
            ("81", false),
            ("user:www", true),
            ("user:root", false),
            ("user:", true),
            ("!user:www-data", false),
            ("pid:8", true),
            ("pid:7,812", true),
            ("pid:9", false),
            ("pid:7,", false),
            ("port:443", true),
            ("port:44", false),
            ("port:x", false),
            ("unit:nginx.service", true),
            ("cgroup:/system", true),
            ("program:NGINX", true),
            ("command:worker", true),
            ("command:master", false),
            ("worker", true),
            ("limited", true),
            ("blocked", true),
            ("!limited", false),
            ("foo:bar", false),
            ("!", true),
            ("ünginx", false),
        ] {
            let filter = Filter::new(text);
            assert_eq!(filter.matches(&row(), Some(&ports)), passes, "{text}");
        }
        assert!(Filter::new("x port:1").needs_ports());
        assert!(!Filter::new("port:").needs_ports());
        assert!(!Filter::new("port:443").matches(&row(), None));
    }
}
