//! Samples as comma-separated values (RFC 4180): a heading once, then a line a row.

use chadthrottle_common::traffic::Direction;

use super::timestamp;
use crate::{
    listing::rows::{Row, Subject, View, limit_of},
    model::{
        limit::LimitState,
        snapshot::{ProcessRow, Snapshot},
    },
};

/// A line: a row of a sample, and the process of it that moves most.
struct Line<'a> {
    snapshot: &'a Snapshot,
    row: &'a Row,
    lead: &'a ProcessRow,
}

/// A heading, and what stands below it.
type Field = (&'static str, fn(&Line<'_>) -> String);

const TIME: &[Field] = &[("time", |line| timestamp(line.snapshot.time))];

const PROCESS: &[Field] = &[
    ("pid", |line| line.lead.pid().to_string()),
    ("name", |line| line.lead.name.to_string()),
    ("exe", |line| line.lead.exe.to_string()),
    ("user", |line| line.lead.user.to_string()),
    ("cgroup", |line| line.lead.cgroup.to_string()),
    ("command", |line| line.lead.command_line.to_string()),
];

const GROUP: &[Field] = &[
    ("processes", |line| line.row.processes.to_string()),
    ("limited", |line| line.row.limited.to_string()),
];

const FIGURES: &[Field] = &[
    ("connections", |line| line.row.connections.to_string()),
    ("download_rate", |line| line.rate(Direction::Download)),
    ("upload_rate", |line| line.rate(Direction::Upload)),
    ("download_bytes", |line| line.bytes(Direction::Download)),
    ("upload_bytes", |line| line.bytes(Direction::Upload)),
];

const LIMIT: &[Field] = &[
    ("limit_download", |line| line.limit(Direction::Download)),
    ("limit_upload", |line| line.limit(Direction::Upload)),
    ("traffic", |line| {
        line.of_limit(|limit| limit.scope.to_string())
    }),
    ("mechanism", |line| {
        line.of_limit(|limit| limit.effect.mechanism.to_string())
    }),
    ("ended", |line| line.lead.ended.to_string()),
];

impl Line<'_> {
    fn rate(&self, direction: Direction) -> String {
        let rate = self.row.rate.get(direction);
        rate.bytes_per_second().to_string()
    }

    fn bytes(&self, direction: Direction) -> String {
        self.row.bytes.get(direction).count().to_string()
    }

    fn limit(&self, direction: Direction) -> String {
        self.of_limit(|limit| {
            let rate = limit.limits.get(direction);
            rate.map_or_else(String::new, |rate| rate.bytes_per_second().to_string())
        })
    }

    fn of_limit(&self, what: impl FnOnce(&LimitState) -> String) -> String {
        limit_of(self.lead).map(what).unwrap_or_default()
    }

    fn subject(&self) -> String {
        match &self.row.subject {
            Subject::Process(key) => key.pid.to_string(),
            Subject::Program(name) | Subject::Unit(name) | Subject::User(name) => name.to_string(),
        }
    }
}

fn fields(view: View) -> Vec<Field> {
    let named = |word| {
        let field: Field = (word, |line| line.subject());
        [field]
    };
    match view {
        View::Processes => [TIME, PROCESS, FIGURES, LIMIT].concat(),
        View::Programs => [TIME, &named("program"), GROUP, FIGURES].concat(),
        View::Units => [TIME, &named("cgroup"), GROUP, FIGURES].concat(),
        View::Users => [TIME, &named("user"), GROUP, FIGURES].concat(),
    }
}

/// The heading.
///
/// # Errors
///
/// None in practice: it is written into memory.
pub fn heading(view: View) -> csv::Result<String> {
    let heads = fields(view).into_iter().map(|(heading, _)| heading);
    written(std::iter::once(heads.map(str::to_owned).collect()))
}

/// The rows of a sample, a line each.
///
/// # Errors
///
/// None in practice: it is written into memory.
pub fn lines(snapshot: &Snapshot, view: View, rows: &[Row]) -> csv::Result<String> {
    let fields = fields(view);
    let lines = rows.iter().filter_map(|row| {
        let lead = snapshot.processes.get(row.lead)?;
        let line = Line {
            snapshot,
            row,
            lead,
        };
        Some(fields.iter().map(|(_, value)| value(&line)).collect())
    });
    written(lines)
}

/// Without the last line's end.
fn written(lines: impl Iterator<Item = Vec<String>>) -> csv::Result<String> {
    let mut bytes = Vec::new();
    let mut writer = csv::Writer::from_writer(&mut bytes);
    for line in lines {
        writer.write_record(line)?;
    }
    writer.flush()?;
    drop(writer);
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim_end_matches('\n').to_owned())
}
