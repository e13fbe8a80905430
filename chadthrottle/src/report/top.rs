//! `chadthrottle top`: the table without a screen.

use serde::Serialize;

use super::record::{Amounts, ProcessRecord, RuleRecord, describe};
use crate::engine::{
    command::EngineHandle,
    snapshot::{ProcessRow, Snapshot},
};

/// A sample as JSON has it.
#[derive(Serialize)]
pub struct SampleRecord<'a> {
    time: String,
    interval_seconds: f64,
    coverage: f64,
    unattributed: Amounts,
    total: Amounts,
    limits: Vec<RuleRecord<'a>>,
    processes: Vec<ProcessRecord<'a>>,
}

impl<'a> From<&'a Snapshot> for SampleRecord<'a> {
    fn from(snapshot: &'a Snapshot) -> Self {
        Self {
            time: super::timestamp(snapshot.time),
            interval_seconds: snapshot.interval.as_secs_f64(),
            coverage: snapshot.coverage(),
            unattributed: snapshot.unattributed.into(),
            total: snapshot.total.into(),
            limits: snapshot.limits.iter().map(Into::into).collect(),
            processes: by_rate(snapshot).into_iter().map(Into::into).collect(),
        }
    }
}

/// The processes, those that move most first.
fn by_rate(snapshot: &Snapshot) -> Vec<&ProcessRow> {
    let mut rows: Vec<&ProcessRow> = snapshot.processes.iter().collect();
    rows.sort_by_key(|row| row.by_rate());
    rows
}

/// The table as text.
pub fn table(snapshot: &Snapshot) -> String {
    let mut text = format!(
        "{}  down {}  up {}  coverage {:.1} %\n{:>8}  {:<10} {:<16} {:>5} {:>11} {:>11} {:>9} {:>9}  {}\n",
        super::timestamp(snapshot.time),
        snapshot.total_rate.download,
        snapshot.total_rate.upload,
        snapshot.coverage() * 100.0,
        "PID",
        "USER",
        "PROGRAM",
        "CONNS",
        "DOWN/s",
        "UP/s",
        "DOWN",
        "UP",
        "LIMIT"
    );
    for row in by_rate(snapshot) {
        let limit = row.limit.as_ref().map(|limit| describe(limit.limits));
        let ended = if row.ended { " (ended)" } else { "" };
        text += &format!(
            "{:>8}  {:<10} {:<16} {:>5} {:>11} {:>11} {:>9} {:>9}  {}{ended}\n",
            row.pid().0,
            row.user,
            row.name,
            row.connections,
            row.rate.download,
            row.rate.upload,
            row.bytes.download,
            row.bytes.upload,
            limit.as_deref().unwrap_or("-"),
        );
    }
    text
}

/// Prints `count` samples, or without end.
///
/// # Errors
///
/// Standard output's, and the engine's end.
pub async fn run(mut engine: EngineHandle, count: Option<u64>, json: bool) -> anyhow::Result<()> {
    let mut left = count;
    // The first picture, which is there already, has no interval behind it: the samples come
    // after it.
    while left != Some(0) {
        let snapshot = engine.next_sample().await?;
        if json {
            super::json_line(&SampleRecord::from(&*snapshot))?;
        } else {
            super::line(&table(&snapshot))?;
        }
        left = left.map(|left| left - 1);
    }
    Ok(())
}
