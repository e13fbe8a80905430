//! The table's rows: processes, or groups of them, in an order.

use std::{
    cmp::{Ordering, Reverse},
    collections::HashMap,
    sync::Arc,
};

use chadthrottle_common::traffic::Direction;
use serde::{Deserialize, Serialize};

use super::{column::Column, filter::Filter};
use crate::{
    model::{
        connections::Ports,
        direction::PerDirection,
        limit::LimitState,
        process::ProcessKey,
        snapshot::{ProcessRow, Snapshot},
        unit,
    },
    rate::{Bytes, Rate},
};

/// What a row is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum View {
    /// A process.
    #[default]
    #[value(name = "process")]
    Processes,
    /// All processes of a name.
    #[value(name = "program")]
    Programs,
    /// All processes of a cgroup.
    #[value(name = "cgroup")]
    Units,
    /// All processes of a user.
    #[value(name = "user")]
    Users,
}

impl View {
    /// All of them, in the order in which a key goes through them.
    pub const ALL: [Self; 4] = [Self::Processes, Self::Programs, Self::Units, Self::Users];

    /// The one after this, or before it.
    pub fn next(self, forward: bool) -> Self {
        let count = Self::ALL.len();
        let at = Self::ALL.iter().position(|view| *view == self).unwrap_or(0);
        Self::ALL[(at + if forward { 1 } else { count - 1 }) % count]
    }

    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::Programs => "programs",
            Self::Units => "units",
            Self::Users => "users",
        }
    }
}

/// What a row stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// This process.
    Process(ProcessKey),
    /// The processes of this name.
    Program(Arc<str>),
    /// The processes of the cgroup with this path.
    Unit(Arc<str>),
    /// The processes of this user.
    User(Arc<str>),
}

impl Subject {
    /// What a process is part of in a view.
    fn of(view: View, row: &ProcessRow) -> Self {
        match view {
            View::Processes => Self::Process(row.key),
            View::Programs => Self::Program(Arc::clone(&row.name)),
            View::Units => Self::Unit(Arc::clone(&row.cgroup)),
            View::Users => Self::User(Arc::clone(&row.user)),
        }
    }

    /// Whether a process belongs to it.
    pub fn holds(&self, row: &ProcessRow) -> bool {
        match self {
            Self::Process(key) => row.key == *key,
            Self::Program(name) => row.name == *name,
            Self::Unit(cgroup) => row.cgroup == *cgroup,
            Self::User(user) => row.user == *user,
        }
    }

    /// The filter that shows only this: its processes.
    pub fn filter(&self) -> String {
        match self {
            Self::Process(key) => format!("pid:{}", key.pid),
            Self::Program(name) => format!("program:{name}"),
            Self::Unit(cgroup) => format!("unit:{cgroup}"),
            Self::User(user) => format!("user:{user}"),
        }
    }
}

/// A row of the table: a process, or some together.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it stands for.
    pub subject: Subject,
    /// The place in the snapshot of the process; of a group, of its busiest.
    pub lead: usize,
    /// How many processes it has.
    pub processes: u32,
    /// How many of them are limited.
    pub limited: u32,
    /// Open inet sockets.
    pub connections: u32,
    /// Payload since each was first seen.
    pub bytes: PerDirection<Bytes>,
    /// Payload a second.
    pub rate: PerDirection<Rate>,
}

impl Row {
    fn new(view: View, lead: usize, row: &ProcessRow) -> Self {
        Self {
            subject: Subject::of(view, row),
            lead,
            processes: 1,
            limited: u32::from(limit_of(row).is_some()),
            connections: row.connections,
            bytes: row.bytes,
            rate: row.rate,
        }
    }

    fn add(&mut self, at: usize, row: &ProcessRow, lead: &ProcessRow) {
        if row.by_rate() < lead.by_rate() {
            self.lead = at;
        }
        self.processes += 1;
        self.limited += u32::from(limit_of(row).is_some());
        self.connections = self.connections.saturating_add(row.connections);
        self.bytes = PerDirection::of(|d| {
            Bytes::new(
                self.bytes
                    .get(d)
                    .count()
                    .saturating_add(row.bytes.get(d).count()),
            )
        });
        self.rate = PerDirection::of(|d| {
            let (one, other) = (self.rate.get(d), row.rate.get(d));
            Rate::from_bytes_per_second(
                one.bytes_per_second()
                    .saturating_add(other.bytes_per_second()),
            )
        });
    }

    /// Its name in the table.
    pub fn name<'a>(&'a self, snapshot: &'a Snapshot) -> &'a str {
        match &self.subject {
            Subject::Process(_) => snapshot
                .processes
                .get(self.lead)
                .map_or("", |row| &row.name),
            Subject::Program(name) | Subject::User(name) => name,
            Subject::Unit(cgroup) => unit::name(cgroup),
        }
    }

    fn activity(&self) -> (u64, u64) {
        let rate = self.rate.map(Rate::bytes_per_second);
        let bytes = self.bytes.map(Bytes::count);
        (
            rate.download.saturating_add(rate.upload),
            bytes.download.saturating_add(bytes.upload),
        )
    }
}

/// The limit that stands in a process's row: of two the one of its internet traffic.
pub fn limit_of(row: &ProcessRow) -> Option<&LimitState> {
    row.limit.as_ref().or(row.local_limit.as_ref())
}

/// The part of a limit that is used, 0 to 1 or a little above, in the direction that uses more of
/// its own; nothing when everything is blocked.
pub fn used(limit: &LimitState) -> Option<f64> {
    let part = |direction| {
        let limited = limit.limits.get(direction).as_ref()?.bytes_per_second();
        let achieved = limit.effect.achieved.get(direction).bytes_per_second();
        (limited > 0).then(|| achieved as f64 / limited as f64)
    };
    Direction::BOTH
        .into_iter()
        .filter_map(part)
        .reduce(f64::max)
}

/// From this part on a process is held at its limit, not merely below it.
pub const AT_LIMIT: f64 = 0.9;

/// An order of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sort {
    /// A column; nothing is what moves most, in both directions together.
    pub by: Option<Column>,
    /// The other way round.
    pub reversed: bool,
}

/// The rows that pass the filter, in order.
pub fn rows(
    snapshot: &Snapshot,
    view: View,
    sort: Sort,
    filter: &Filter,
    ports: Option<&Ports>,
) -> Vec<Row> {
    let processes = snapshot.processes.iter().enumerate();
    let passing = processes.filter(|(_, row)| filter.is_empty() || filter.matches(row, ports));
    let mut rows: Vec<Row> = match view {
        View::Processes => passing.map(|(at, row)| Row::new(view, at, row)).collect(),
        _ => grouped(snapshot, view, passing),
    };
    rows.sort_unstable_by(|a, b| {
        let activity = || b.activity().cmp(&a.activity());
        let order = match sort.by {
            None => activity(),
            Some(column) => by_column(snapshot, column, a, b),
        };
        let order = if sort.reversed {
            order.reverse()
        } else {
            order
        };
        let key = |row: &Row| snapshot.processes[row.lead].key;
        order.then_with(activity).then_with(|| key(a).cmp(&key(b)))
    });
    rows
}

fn grouped<'a>(
    snapshot: &Snapshot,
    view: View,
    passing: impl Iterator<Item = (usize, &'a ProcessRow)>,
) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (at, row) in passing {
        let group: &str = match view {
            View::Processes | View::Programs => &row.name,
            View::Units => &row.cgroup,
            View::Users => &row.user,
        };
        match places.get(group) {
            Some(place) => {
                let lead = &snapshot.processes[rows[*place].lead];
                rows[*place].add(at, row, lead);
            }
            None => {
                places.insert(group, rows.len());
                rows.push(Row::new(view, at, row));
            }
        }
    }
    rows
}

/// Numbers begin with the largest, words with the first letter.
fn by_column(snapshot: &Snapshot, column: Column, a: &Row, b: &Row) -> Ordering {
    let process = |row: &Row| &snapshot.processes[row.lead];
    let state = |row: &Row| match row.subject {
        Subject::Process(_) => limit_of(process(row)),
        _ => None,
    };
    let limit = |row: &Row| {
        state(row).map(|limit| {
            let rates = [limit.limits.download, limit.limits.upload];
            rates.into_iter().flatten().min().unwrap_or_default()
        })
    };
    // Those without a limit come last.
    let by_limit = |row: &Row| (Reverse(row.limited.min(1)), limit(row));
    let part = |row: &Row| {
        let part = state(row).and_then(used);
        part.map_or(-1, |part| (part * 1000.0) as i64)
    };
    match column {
        Column::Id => match &a.subject {
            Subject::Process(_) => process(a).key.cmp(&process(b).key),
            _ => b.processes.cmp(&a.processes),
        },
        Column::User => process(a).user.cmp(&process(b).user),
        Column::Name => a.name(snapshot).cmp(b.name(snapshot)),
        Column::Unit => unit::name(&process(a).cgroup).cmp(unit::name(&process(b).cgroup)),
        Column::Connections => b.connections.cmp(&a.connections),
        Column::Rate(direction) => b.rate.get(direction).cmp(a.rate.get(direction)),
        Column::Total(direction) => b.bytes.get(direction).cmp(a.bytes.get(direction)),
        Column::Limit => by_limit(a).cmp(&by_limit(b)),
        Column::OfLimit => part(b).cmp(&part(a)),
        Column::Mark | Column::History | Column::Path => Ordering::Equal,
    }
}
