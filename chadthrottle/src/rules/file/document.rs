//! Editing: changing rules in the text that a person wrote, and nothing else of it.

use std::str::FromStr;

use toml_edit::{Array, ArrayOfTables, Decor, DocumentMut, Item, Table, Value, value};

use super::{
    FileRule, RulesFile, blocked,
    mistake::{Mistakes, did_you_mean},
    read::{KEYS, TARGETS, read},
};
use crate::{
    model::{direction::PerDirection, priority::Priority, rule::Sharing, terms::AtLeast},
    rate::Rate,
    rules::{
        quota::{Count, Then},
        schedule,
    },
};

/// What a new file begins with.
pub const HEADER: &str = "\
# The rules of chadthrottle; see docs/rules.md. The first rule that limits a process counts.
# After a change: chadthrottle rules apply
";

/// A rules file that can be changed; its comments and order stay.
#[derive(Clone, Debug)]
pub struct RulesDocument {
    document: DocumentMut,
    rules: RulesFile,
}

/// Why a file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// A rule of this name is there already.
    #[error("there is a rule '{0}' already; `rules edit` changes it")]
    Taken(String),
    /// There is none of this name.
    #[error("there is no rule '{0}'{1}")]
    NoSuchRule(String, String),
    /// The rule makes no sense.
    #[error("{0}")]
    Rule(String),
    /// The changed file would not say what was meant.
    #[error("the file can't be changed without a person's help; change it in an editor: {0}")]
    Unfaithful(String),
}

/// Where a new rule goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position<'a> {
    /// After all others.
    Last,
    /// Before all others.
    First,
    /// Before the rule with this name.
    Before(&'a str),
}

impl FromStr for RulesDocument {
    type Err = Mistakes;

    fn from_str(text: &str) -> Result<Self, Mistakes> {
        let rules = read(text)?;
        let document = text.parse().map_err(|_| Mistakes::default())?;
        Ok(Self { document, rules })
    }
}

impl RulesDocument {
    /// What it says.
    pub fn rules(&self) -> &RulesFile {
        &self.rules
    }

    /// Its text.
    pub fn text(&self) -> String {
        self.document.to_string()
    }

    /// Adds a rule.
    ///
    /// # Errors
    ///
    /// Why not; then nothing has changed.
    pub fn add(&mut self, rule: &FileRule, position: Position<'_>) -> Result<(), EditError> {
        rule.check().map_err(|(_, what)| EditError::Rule(what))?;
        if self.rules.rule(&rule.name).is_some() {
            return Err(EditError::Taken(rule.name.to_string()));
        }
        let at = match position {
            Position::Last => self.rules.rules.len(),
            Position::First => 0,
            Position::Before(name) => self.place(name)?,
        };
        let mut expected = self.rules.clone();
        expected.rules.insert(at, rule.clone());
        // All that a file without sections has is its header; it stays at the top.
        let header = if self.document.is_empty() {
            let header = self.document.trailing().as_str().unwrap_or("").to_owned();
            self.document.set_trailing("");
            header
        } else {
            String::new()
        };
        self.change(expected, |document| {
            let Some(tables) = tables(document) else {
                return;
            };
            let mut table = Table::new();
            fill(&mut table, None, rule);
            let before: Vec<Table> = tables.iter().cloned().collect();
            let blank = if before.is_empty() && header.is_empty() {
                ""
            } else {
                "\n"
            };
            table.decor_mut().set_prefix(format!("{header}{blank}"));
            // Of two with the same place, the first in the list is written first.
            let neighbour = before.get(at).or(before.last());
            table.set_position(neighbour.and_then(Table::position));
            tables.clear();
            for (nth, mut old) in before.into_iter().enumerate() {
                if nth == at {
                    if nth == 0 {
                        // What stands above the first rule may be about the whole file.
                        let (header, own) = split_comment(&old);
                        table.decor_mut().set_prefix(header);
                        old.decor_mut().set_prefix(format!("\n{own}"));
                    }
                    tables.push(std::mem::take(&mut table));
                }
                tables.push(old);
            }
            if at == tables.len() {
                tables.push(table);
            }
        })
    }

    /// Changes a rule to another, which may have another name. What stays the same of it stays as
    /// it was written.
    ///
    /// # Errors
    ///
    /// Why not; then nothing has changed.
    pub fn replace(&mut self, name: &str, rule: &FileRule) -> Result<(), EditError> {
        rule.check().map_err(|(_, what)| EditError::Rule(what))?;
        let at = self.place(name)?;
        if *rule.name != *name && self.rules.rule(&rule.name).is_some() {
            return Err(EditError::Taken(rule.name.to_string()));
        }
        let mut expected = self.rules.clone();
        let old = std::mem::replace(&mut expected.rules[at], rule.clone());
        self.change(expected, |document| {
            if let Some(table) = tables(document).and_then(|tables| tables.get_mut(at)) {
                fill(table, Some(&old), rule);
            }
        })
    }

    /// Takes a rule out, with the comment right above it.
    ///
    /// # Errors
    ///
    /// There is none of this name.
    pub fn remove(&mut self, name: &str) -> Result<(), EditError> {
        let at = self.place(name)?;
        let mut expected = self.rules.clone();
        expected.rules.remove(at);
        self.change(expected, |document| {
            let Some(tables) = tables(document).filter(|tables| at < tables.len()) else {
                return;
            };
            let removed = tables.remove(at);
            let (orphan, _) = split_comment(&removed);
            match next_section(document, removed.position()) {
                Some(next) => {
                    let first = at == 0 && orphan.is_empty();
                    let mut own = prefix(next).to_owned();
                    if first || !orphan.is_empty() {
                        own = own.trim_start_matches('\n').to_owned();
                    }
                    next.decor_mut().set_prefix(format!("{orphan}{own}"));
                }
                None => {
                    let trailing = document.trailing().as_str().unwrap_or("").to_owned();
                    document.set_trailing(format!("{orphan}{trailing}"));
                }
            }
        })
    }

    /// Which rule has this name, from 0.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn place(&self, name: &str) -> Result<usize, EditError> {
        let found = self.rules.rules.iter().position(|rule| &*rule.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.rules.rules.iter().map(|rule| &*rule.name).collect();
            let hint = if names.is_empty() {
                "; there are none".to_owned()
            } else {
                did_you_mean(name, &names)
            };
            EditError::NoSuchRule(name.to_owned(), hint)
        })
    }

    /// Changes the text, and sees to it that it says what it should.
    fn change(
        &mut self,
        expected: RulesFile,
        change: impl FnOnce(&mut DocumentMut),
    ) -> Result<(), EditError> {
        let mut document = self.document.clone();
        change(&mut document);
        if tables(&mut document).is_none_or(|tables| tables.is_empty()) {
            document.remove("rule");
        }
        let again: Self = document.to_string().parse().map_err(|mistakes: Mistakes| {
            let first = mistakes.0.first().map(ToString::to_string);
            EditError::Unfaithful(first.unwrap_or_default())
        })?;
        if again.rules != expected {
            return Err(EditError::Unfaithful("it would say something else".into()));
        }
        *self = again;
        Ok(())
    }
}

/// The rules' tables; nothing if `rule` is something else.
fn tables(document: &mut DocumentMut) -> Option<&mut ArrayOfTables> {
    document
        .entry("rule")
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()))
        .as_array_of_tables_mut()
}

/// The section that is written next after a place in the document.
fn next_section(document: &mut DocumentMut, place: Option<isize>) -> Option<&mut Table> {
    let sections = document.iter_mut().flat_map(|(_, item)| match item {
        Item::Table(table) => vec![table],
        Item::ArrayOfTables(tables) => tables.iter_mut().collect(),
        _ => Vec::new(),
    });
    sections
        .filter(|section| section.position() > place)
        .min_by_key(|section| section.position())
}

fn prefix(table: &Table) -> &str {
    let decor: &Decor = table.decor();
    decor
        .prefix()
        .and_then(toml_edit::RawString::as_str)
        .unwrap_or("")
}

/// What stands above a table, apart from what stands right above it: that is the table's own.
fn split_comment(table: &Table) -> (String, String) {
    let prefix = prefix(table);
    match prefix.rfind("\n\n") {
        Some(blank) if !prefix[..blank].trim().is_empty() => {
            let (header, own) = prefix.split_at(blank + 2);
            (header.to_owned(), own.to_owned())
        }
        _ => (String::new(), prefix.to_owned()),
    }
}

/// Brings a table from what it says to what a rule says.
fn fill(table: &mut Table, old: Option<&FileRule>, new: &FileRule) {
    let before = old.map(groups);
    for (nth, group) in groups(new).into_iter().enumerate() {
        if before
            .as_ref()
            .is_some_and(|before| same(&before[nth], &group))
        {
            continue;
        }
        for (key, wanted) in group {
            match wanted {
                Some(wanted) => set(table, key, wanted),
                None => drop(table.remove(key)),
            }
        }
    }
    if old.is_none() {
        let order = |key: &str| KEYS.iter().position(|known| *known == key);
        table.sort_values_by(|a, _, b, _| order(a.get()).cmp(&order(b.get())));
    }
}

/// Sets a value; the comment beside the old one stays.
fn set(table: &mut Table, key: &str, mut wanted: Value) {
    match table.get_mut(key) {
        Some(Item::Value(present)) => {
            *wanted.decor_mut() = present.decor().clone();
            *present = wanted;
        }
        _ => drop(table.insert(key, value(wanted))),
    }
}

type Group = Vec<(&'static str, Option<Value>)>;

fn same(a: &Group, b: &Group) -> bool {
    let text = |group: &Group| -> Vec<Option<String>> {
        group
            .iter()
            .map(|(_, value)| value.as_ref().map(ToString::to_string))
            .collect()
    };
    text(a) == text(b)
}

/// What the keys should be, in groups of those that depend on each other. A default is left out.
fn groups(rule: &FileRule) -> Vec<Group> {
    let (target, aim) = rule.target.key_and_value();
    let targets = TARGETS.map(|key| (key, (key == target).then(|| aim.into())));
    let limits = rule.limits;
    let limit = |limit: Option<Rate>| {
        let above_nothing = limit.filter(|rate| *rate > Rate::ZERO);
        above_nothing.map(|rate| rate.exact().into())
    };
    let block = match blocked(limits) {
        PerDirection {
            download: true,
            upload: true,
        } => Some(true.into()),
        PerDirection { download: true, .. } => Some("download".into()),
        PerDirection { upload: true, .. } => Some("upload".into()),
        _ => None,
    };
    let word = |text: String, default: bool| (!default).then(|| text.into());
    let schedule = &rule.schedule;
    let days = schedule.days.names();
    let days = (!days.is_empty()).then(|| Value::Array(days.into_iter().collect::<Array>()));
    let time = |time: Option<jiff::civil::Time>| time.map(|time| schedule::shown(time).into());
    let quota = rule.quota;
    vec![
        vec![("name", Some((*rule.name).into()))],
        vec![("enabled", (!rule.enabled).then(|| false.into()))],
        targets.into(),
        vec![(
            "traffic",
            word(rule.scope.to_string(), rule.scope == rule.terms().scope()),
        )],
        vec![
            ("download", limit(limits.download)),
            ("upload", limit(limits.upload)),
            ("block", block),
        ],
        vec![(
            "priority",
            word(
                rule.priority.to_string(),
                rule.priority == Priority::default(),
            ),
        )],
        vec![(
            "at_least",
            (!rule.at_least.is_unlimited()).then(|| AtLeast(rule.at_least).to_string().into()),
        )],
        vec![(
            "shared",
            (rule.sharing == Sharing::Shared).then(|| true.into()),
        )],
        vec![("days", days)],
        vec![("from", time(schedule.from))],
        vec![("until", time(schedule.until))],
        vec![
            (
                "quota",
                quota.map(|quota| quota.allowance().to_string().into()),
            ),
            (
                "then",
                quota.and_then(|q| word(q.then.to_string(), q.then == Then::default())),
            ),
            (
                "count",
                quota.and_then(|q| word(q.count.to_string(), q.count == Count::default())),
            ),
        ],
    ]
}

#[cfg(test)]
mod tests;
