//! `chadthrottle limit`: limits running processes until it is told to stop.

use std::{io, time::SystemTime};

use anyhow::Context as _;
use serde::Serialize;

use super::top::{ProcessRecord, describe};
use crate::{
    engine::{
        command::{Command, CommandError, EngineHandle},
        snapshot::{Limits, ProcessRow, Snapshot},
    },
    process::Pid,
};

/// What is printed as JSON.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    /// The limit is in force from here on.
    Applied {
        time: String,
        pids: &'a [Pid],
        limit: Limits,
    },
    /// What was achieved.
    Sample {
        time: String,
        interval_seconds: f64,
        processes: Vec<ProcessRecord<'a>>,
    },
    /// A process has ended.
    Ended { time: String, pid: Pid },
}

/// Applies the limits to every process.
///
/// # Errors
///
/// The first process that can't be limited; the engine takes the others' limits away when it is
/// dropped.
async fn apply(engine: &EngineHandle, pids: &[Pid], limits: Limits) -> Result<(), CommandError> {
    for pid in pids {
        engine.ask(Command::limit(*pid, limits)).await?;
    }
    Ok(())
}

/// Limits `pids`, prints what they achieve at every sample, and returns when all have ended.
///
/// # Errors
///
/// A process that can't be limited, and standard output's.
pub async fn run(
    mut engine: EngineHandle,
    mut pids: Vec<Pid>,
    limits: Limits,
    json: bool,
) -> anyhow::Result<()> {
    pids.sort_unstable();
    pids.dedup();
    apply(&engine, &pids, limits)
        .await
        .context("nothing was limited")?;
    let applied = Event::Applied {
        time: super::timestamp(SystemTime::now()),
        pids: &pids,
        limit: limits,
    };
    let words = format!("limited to {}; Ctrl-C to end", describe(limits));
    say(json, &applied, || words)?;
    while !pids.is_empty() {
        let snapshot = engine.next_sample().await?;
        let rows = rows(&snapshot, &pids);
        let time = super::timestamp(snapshot.time);
        let sample = Event::Sample {
            time: time.clone(),
            interval_seconds: snapshot.interval.as_secs_f64(),
            processes: rows.iter().map(|row| ProcessRecord::from(*row)).collect(),
        };
        say(json, &sample, || achieved(&rows))?;
        for row in rows.iter().filter(|row| row.ended) {
            let ended = Event::Ended {
                time: time.clone(),
                pid: row.pid(),
            };
            say(json, &ended, || {
                format!("{} ({}) has ended", row.name, row.pid())
            })?;
            pids.retain(|pid| *pid != row.pid());
        }
    }
    Ok(())
}

fn say(json: bool, event: &Event<'_>, words: impl FnOnce() -> String) -> io::Result<()> {
    if json {
        super::json_line(event)
    } else {
        super::line(&words())
    }
}

/// The rows of the limited processes. Of two with the same id, the one that had it first.
fn rows<'a>(snapshot: &'a Snapshot, pids: &[Pid]) -> Vec<&'a ProcessRow> {
    pids.iter()
        .filter_map(|pid| {
            snapshot
                .processes
                .iter()
                .filter(|row| row.pid() == *pid)
                .min_by_key(|row| (!row.ended, row.key))
        })
        .collect()
}

/// What was achieved, beside the limit, in one line.
fn achieved(rows: &[&ProcessRow]) -> String {
    let words: Vec<String> = rows
        .iter()
        .map(|row| {
            let limits = row
                .limit
                .as_ref()
                .map(|limit| limit.limits)
                .unwrap_or_default();
            let of = |rate, limit: Option<_>| match limit {
                Some(limit) => format!("{rate} of {limit}"),
                None => format!("{rate}"),
            };
            let lame = row
                .limit
                .as_ref()
                .and_then(|limit| limit.effect.not_enforced.as_ref());
            format!(
                "{} ({}): down {}, up {}{}",
                row.name,
                row.pid(),
                of(row.rate.download, limits.download),
                of(row.rate.upload, limits.upload),
                lame.map(|why| format!(" [not enforced: {why}]"))
                    .unwrap_or_default()
            )
        })
        .collect();
    words.join("; ")
}
