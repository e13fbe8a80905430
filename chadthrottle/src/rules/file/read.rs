//! Reading: from text to rules, or to all that is wrong with it.

use std::{collections::HashMap, net::SocketAddr, ops::Range, sync::Arc};

use toml_edit::{Document, Item, Table, Value};

use super::{
    FileRule, FileTarget, MOST_RULES, RulesFile,
    mistake::{Mistake, Mistakes, did_you_mean},
};
use crate::{
    model::{
        direction::{Limits, PerDirection},
        link::LinkSpeed,
        priority::Priority,
        rule::{Scope, Sharing},
        terms::AtLeast,
    },
    rate::Rate,
    rules::{
        quota::{Allowance, Count, Quota, Then},
        schedule::{self, Schedule},
    },
};

/// The keys of the file itself.
const SECTIONS: [&str; 3] = ["rule", "metrics", "link"];

/// The keys that say whom a rule is about.
pub(super) const TARGETS: [&str; 6] = ["program", "path", "command", "cgroup", "unit", "user"];

/// All keys of a rule, in the order in which they are written.
pub(super) const KEYS: [&str; 21] = [
    "name", "enabled", "program", "path", "command", "cgroup", "unit", "user", "traffic",
    "download", "upload", "block", "priority", "at_least", "shared", "days", "from", "until",
    "quota", "then", "count",
];

/// The keys of `[metrics]`.
const METRICS: [&str; 1] = ["listen"];

/// The keys of `[link]`.
const LINK: [&str; 2] = ["download", "upload"];

const DOUBLE_BRACKETS: &str = "a rule begins with [[rule]], in double brackets";

/// Reads a rules file.
///
/// # Errors
///
/// All that is wrong with it.
pub fn read(text: &str) -> Result<RulesFile, Mistakes> {
    let document = Document::parse(text).map_err(|error| {
        let mut what = error.message().trim().replace('\n', "; ");
        // It says where, and not which.
        if what == "duplicate key"
            && let Some(key) = error.span().and_then(|span| text.get(span))
        {
            what = match key {
                "rule" => DOUBLE_BRACKETS.to_owned(),
                key => format!("'{key}' is there already; leave out one of the two"),
            };
        }
        Mistakes(vec![Mistake::at(text, error.span(), what)])
    })?;
    let mut reader = Reader {
        text,
        mistakes: Vec::new(),
    };
    let file = reader.file(document.as_table());
    if reader.mistakes.is_empty() {
        Ok(file)
    } else {
        reader.mistakes.sort_by_key(|m| (m.line, m.column));
        Err(Mistakes(reader.mistakes))
    }
}

type Place = Option<Range<usize>>;

struct Reader<'a> {
    text: &'a str,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn wrong(&mut self, place: Place, what: impl Into<String>) {
        self.mistakes.push(Mistake::at(self.text, place, what));
    }

    /// Complains about keys that mean nothing here.
    fn only(&mut self, table: &Table, known: &[&str], of: &str) {
        for (name, _) in table {
            if !known.contains(&name) {
                let place = table.key(name).and_then(toml_edit::Key::span);
                let hint = did_you_mean(name, known);
                self.wrong(place, format!("'{name}' is no key of {of}{hint}"));
            }
        }
    }

    fn file(&mut self, root: &Table) -> RulesFile {
        self.only(root, &SECTIONS, "the rules file");
        RulesFile {
            rules: self.rules(root),
            metrics: self.metrics(root),
            link: self.link(root),
        }
    }

    /// A section's table, with none but these keys.
    fn section<'t>(&mut self, root: &'t Table, name: &str, keys: &[&str]) -> Option<&'t Table> {
        let item = root.get(name)?;
        let Some(table) = item.as_table() else {
            self.wrong(item.span(), format!("{name} is a section: write [{name}]"));
            return None;
        };
        self.only(table, keys, &format!("[{name}]"));
        Some(table)
    }

    fn link(&mut self, root: &Table) -> LinkSpeed {
        let Some(table) = self.section(root, "link", &LINK) else {
            return LinkSpeed::default();
        };
        let mut speed = |key| {
            let checked = LinkSpeed::checked(self.rate(table, key)?);
            checked
                .map_err(|what| self.wrong(value_span(table, key), what))
                .ok()
        };
        LinkSpeed(PerDirection {
            download: speed("download"),
            upload: speed("upload"),
        })
    }

    fn metrics(&mut self, root: &Table) -> Option<SocketAddr> {
        let table = self.section(root, "metrics", &METRICS)?;
        self.parsed(table, "listen", |text| {
            listen_address(text).map_err(|error| error.to_owned())
        })
    }

    fn rules(&mut self, root: &Table) -> Vec<FileRule> {
        let Some(item) = root.get("rule") else {
            return Vec::new();
        };
        let Some(tables) = item.as_array_of_tables() else {
            let place = root.key("rule").and_then(toml_edit::Key::span);
            self.wrong(place, DOUBLE_BRACKETS);
            return Vec::new();
        };
        if let Some(table) = tables.iter().nth(MOST_RULES) {
            self.wrong(table.span(), format!("more than {MOST_RULES} rules"));
            return Vec::new();
        }
        let mut lines: HashMap<Arc<str>, usize> = HashMap::new();
        let mut rules = Vec::new();
        for table in tables {
            let Some(rule) = self.rule(table) else {
                continue;
            };
            let place = value_span(table, "name");
            let line = Mistake::at(self.text, place.clone(), "").line;
            if let Some(first) = lines.insert(Arc::clone(&rule.name), line) {
                self.wrong(
                    place,
                    format!("the rule in line {first} is called '{}', too", rule.name),
                );
            }
            rules.push(rule);
        }
        rules
    }

    fn rule(&mut self, table: &Table) -> Option<FileRule> {
        let before = self.mistakes.len();
        self.only(table, &KEYS, "a rule");
        let name = self.text(table, "name");
        if name.is_none() && !table.contains_key("name") {
            self.wrong(table.span(), "the rule has no name; add name = \"...\"");
        }
        let target = self.target(table);
        let enabled = self.bool(table, "enabled");
        let scope = self.word(table, "traffic", &SCOPES);
        let limits = self.limits(table);
        let priority = self
            .word(table, "priority", &PRIORITIES)
            .unwrap_or_default();
        let at_least = self.at_least(table);
        let shared = self.bool(table, "shared");
        let schedule = self.schedule(table);
        let quota = self.quota(table);
        let mut rule = FileRule {
            enabled: enabled.unwrap_or(true),
            limits,
            priority,
            at_least,
            sharing: match shared {
                Some(true) => Sharing::Shared,
                _ => Sharing::Each,
            },
            schedule,
            quota,
            ..FileRule::new(&name?, target?)
        };
        rule.scope = scope.unwrap_or(rule.terms().scope());
        if self.mistakes.len() == before
            && let Err((key, what)) = rule.check()
        {
            let place = value_span(table, key).or_else(|| table.span());
            self.wrong(place, what);
        }
        Some(rule)
    }

    fn target(&mut self, table: &Table) -> Option<FileTarget> {
        let mut given = TARGETS.iter().filter(|key| table.contains_key(key));
        let Some(key) = given.next() else {
            if let Some((key, _)) = table.get_key_value("pid") {
                let what = "a process id means another process tomorrow; name its program, unit or \
                            cgroup, or limit it by hand";
                self.wrong(key.span(), what);
            } else {
                let what = format!("whom is the rule about? Add one of {}", TARGETS.join(", "));
                self.wrong(table.span(), what);
            }
            return None;
        };
        if let Some(second) = given.next() {
            let place = table.key(second).and_then(toml_edit::Key::span);
            self.wrong(
                place,
                format!("a rule has one target, and '{key}' is there already; make two rules"),
            );
        }
        self.parsed(table, key, |text| FileTarget::from_key(key, text))
    }

    fn limits(&mut self, table: &Table) -> Limits {
        let mut limits = Limits {
            download: self.rate(table, "download"),
            upload: self.rate(table, "upload"),
        };
        let blocked = match table.get("block").and_then(Item::as_bool) {
            Some(all) => Some(PerDirection {
                download: all,
                upload: all,
            }),
            None => self.word(table, "block", &BLOCKS),
        };
        let Some(blocked) = blocked else {
            return limits;
        };
        for (key, blocked, limit) in [
            ("download", blocked.download, &mut limits.download),
            ("upload", blocked.upload, &mut limits.upload),
        ] {
            if blocked && limit.is_some_and(|limit| limit > Rate::ZERO) {
                let place = value_span(table, key);
                self.wrong(place, format!("{key} is blocked; leave out one of the two"));
            }
            if blocked {
                *limit = Some(Rate::ZERO);
            }
        }
        limits
    }

    fn rate(&mut self, table: &Table, key: &str) -> Option<Rate> {
        let item = table.get(key)?;
        if let Some(bytes) = item.as_integer() {
            // A number without a unit is bytes, as on the command line.
            return self.parsed_text(item.span(), &bytes.to_string(), parse_rate);
        }
        self.parsed(table, key, parse_rate)
    }

    fn at_least(&mut self, table: &Table) -> Limits {
        let Some(item) = table.get("at_least") else {
            return Limits::default();
        };
        let read = match item.as_integer() {
            // A number without a unit is bytes, as everywhere.
            Some(bytes) => self.parsed_text(item.span(), &bytes.to_string(), str::parse),
            None => self.parsed(table, "at_least", str::parse),
        };
        read.map(|AtLeast(limits)| limits).unwrap_or_default()
    }

    fn schedule(&mut self, table: &Table) -> Schedule {
        let mut schedule = Schedule::default();
        for (place, word) in self.words(table, "days") {
            if let Err(what) = schedule.days.add(&word) {
                self.wrong(place, what);
            }
        }
        schedule.from = self.time(table, "from");
        schedule.until = self.time(table, "until");
        if let Err(what) = schedule.check() {
            self.wrong(value_span(table, "until"), what);
        }
        schedule
    }

    fn time(&mut self, table: &Table, key: &str) -> Option<jiff::civil::Time> {
        let item = table.get(key)?;
        if let Some(datetime) = item.as_datetime() {
            let time = datetime
                .time
                .filter(|_| datetime.date.is_none() && datetime.offset.is_none());
            let text = time.map(|time| format!("{:02}:{:02}", time.hour, time.minute));
            return self.parsed_text(item.span(), &text.unwrap_or_default(), schedule::time);
        }
        self.parsed(table, key, schedule::time)
    }

    fn quota(&mut self, table: &Table) -> Option<Quota> {
        let then = self.word(table, "then", &THENS);
        let count = self.word(table, "count", &COUNTS);
        if !table.contains_key("quota") {
            for key in ["then", "count"] {
                if let Some((key, _)) = table.get_key_value(key) {
                    let what = format!("'{}' belongs to a quota, and there is none", key.get());
                    self.wrong(key.span(), what);
                }
            }
            return None;
        }
        let allowance: Allowance = self.parsed(table, "quota", str::parse)?;
        Some(Quota {
            amount: allowance.amount,
            period: allowance.period,
            then: then.unwrap_or_default(),
            count: count.unwrap_or_default(),
        })
    }

    fn text(&mut self, table: &Table, key: &str) -> Option<String> {
        let item = table.get(key)?;
        let text = item.as_str();
        if text.is_none() {
            let kind = item.type_name();
            self.wrong(
                item.span().or_else(|| key_span(table, key)),
                format!("'{key}' is a text in quotes, and this is {kind}"),
            );
        }
        text.map(str::to_owned)
    }

    fn bool(&mut self, table: &Table, key: &str) -> Option<bool> {
        let item = table.get(key)?;
        let value = item.as_bool();
        if value.is_none() {
            let what = format!(
                "'{key}' is true or false, without quotes, and this is {}",
                item.type_name()
            );
            self.wrong(item.span().or_else(|| key_span(table, key)), what);
        }
        value
    }

    /// A text, or a list of texts, each with its place.
    fn words(&mut self, table: &Table, key: &str) -> Vec<(Place, String)> {
        let Some(Item::Value(Value::Array(array))) = table.get(key) else {
            let text = self.text(table, key);
            let place = value_span(table, key);
            let words = text.iter().flat_map(|text| text.split(','));
            return words
                .map(|word| (place.clone(), word.trim().to_owned()))
                .collect();
        };
        let mut words = Vec::new();
        for value in array {
            match value.as_str() {
                Some(word) => words.push((value.span(), word.to_owned())),
                None => self.wrong(value.span(), format!("'{key}' is a list of texts")),
            }
        }
        if words.is_empty() {
            self.wrong(
                array.span(),
                format!("'{key}' is empty; leave it out to mean all"),
            );
        }
        words
    }

    fn word<T: Copy>(&mut self, table: &Table, key: &str, known: &[(&str, T)]) -> Option<T> {
        let text = self.text(table, key)?;
        let found = known.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
            let hint = did_you_mean(&text, &words);
            self.wrong(
                value_span(table, key),
                format!("'{key}' can't be '{text}'{hint}"),
            );
        }
        found.map(|(_, value)| *value)
    }

    fn parsed<T>(
        &mut self,
        table: &Table,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(table, key)?;
        self.parsed_text(value_span(table, key), &text, parse)
    }

    fn parsed_text<T>(
        &mut self,
        place: Place,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(what) => {
                self.wrong(place, what);
                None
            }
        }
    }
}

const SCOPES: [(&str, Scope); 3] = [
    ("all", Scope::All),
    ("internet", Scope::Internet),
    ("local", Scope::Local),
];

const PRIORITIES: [(&str, Priority); 3] = [
    ("background", Priority::Background),
    ("normal", Priority::Normal),
    ("high", Priority::High),
];

const THENS: [(&str, Then); 3] = [
    ("limit", Then::Limit),
    ("block", Then::Block),
    ("notify", Then::Notify),
];

const COUNTS: [(&str, Count); 3] = [
    ("both", Count::Both),
    ("download", Count::Download),
    ("upload", Count::Upload),
];

const BLOCKS: [(&str, PerDirection<bool>); 3] = [
    (
        "both",
        PerDirection {
            download: true,
            upload: true,
        },
    ),
    (
        "download",
        PerDirection {
            download: true,
            upload: false,
        },
    ),
    (
        "upload",
        PerDirection {
            download: false,
            upload: true,
        },
    ),
];

fn parse_rate(text: &str) -> Result<Rate, String> {
    text.parse()
        .map_err(|error: crate::rate::RateError| error.to_string())
}

/// An address of this machine alone, and a port: metrics name programs, and ask for no password.
///
/// # Errors
///
/// What is expected.
pub fn listen_address(text: &str) -> Result<SocketAddr, &'static str> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "an address and a port are expected, for example 127.0.0.1:9184")?;
    if !address.ip().is_loopback() {
        return Err(
            "metrics are served to this machine only: 127.0.0.1:9184 or [::1]:9184; put a proxy \
             in front to serve them further",
        );
    }
    Ok(address)
}

fn key_span(table: &Table, key: &str) -> Place {
    table.key(key).and_then(toml_edit::Key::span)
}

fn value_span(table: &Table, key: &str) -> Place {
    table
        .get(key)
        .and_then(Item::span)
        .or_else(|| key_span(table, key))
}

#[cfg(test)]
mod tests;
