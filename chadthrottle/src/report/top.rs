//! `chadthrottle top`: the table without a screen.

use serde::Serialize;

use crate::{
    engine::{
        command::EngineHandle,
        snapshot::{Limits, PerDirection, ProcessRow, Snapshot},
    },
    process::Pid,
    rate::{Bytes, Rate},
};

/// Amounts as JSON has them.
#[derive(Serialize)]
pub struct Amounts {
    download_bytes: Bytes,
    upload_bytes: Bytes,
}

impl From<PerDirection<Bytes>> for Amounts {
    fn from(bytes: PerDirection<Bytes>) -> Self {
        Self {
            download_bytes: bytes.download,
            upload_bytes: bytes.upload,
        }
    }
}

/// A process as JSON has it.
#[derive(Serialize)]
pub struct ProcessRecord<'a> {
    pid: Pid,
    name: &'a str,
    exe: &'a str,
    user: &'a str,
    cgroup: &'a str,
    connections: u32,
    download_bytes: Bytes,
    upload_bytes: Bytes,
    download_rate: Rate,
    upload_rate: Rate,
    limit: Option<Limits>,
}

impl<'a> From<&'a ProcessRow> for ProcessRecord<'a> {
    fn from(row: &'a ProcessRow) -> Self {
        Self {
            pid: row.pid(),
            name: &row.name,
            exe: &row.exe,
            user: &row.user,
            cgroup: &row.cgroup,
            connections: row.connections,
            download_bytes: row.bytes.download,
            upload_bytes: row.bytes.upload,
            download_rate: row.rate.download,
            upload_rate: row.rate.upload,
            limit: row.limit.as_ref().map(|limit| limit.limits),
        }
    }
}

/// A sample as JSON has it.
#[derive(Serialize)]
pub struct SampleRecord<'a> {
    time: String,
    interval_seconds: f64,
    coverage: f64,
    unattributed: Amounts,
    total: Amounts,
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

/// Limits in a few words.
pub fn describe(limits: Limits) -> String {
    let one = |word: &str, rate: Option<Rate>| match rate {
        None => None,
        Some(Rate::ZERO) => Some(format!("{word} blocked")),
        Some(rate) => Some(format!("{word} {rate}")),
    };
    let words: Vec<String> = [one("down", limits.download), one("up", limits.upload)]
        .into_iter()
        .flatten()
        .collect();
    if words.is_empty() {
        "unlimited".to_owned()
    } else {
        words.join(", ")
    }
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
