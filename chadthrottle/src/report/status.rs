//! `chadthrottle status`, `clear` and `rules apply`: speak with a running daemon.

use std::path::Path;

use super::{record::describe, table::table, timestamp};
use crate::{
    daemon::{
        client::{ClientError, Connection},
        protocol::{Clear, Outcome, Request, Status},
    },
    engine::snapshot::{LimitId, LimitRow},
    rules::{plan::Standing, rule::Origin},
};

/// Shows what the daemon does.
///
/// # Errors
///
/// There is none, or standard output's.
pub async fn status(socket: &Path, json: bool) -> anyhow::Result<()> {
    let status = Connection::open(socket).await?.status().await?;
    if json {
        super::json_line(&status)?;
    } else {
        super::line(words(&status).trim_end())?;
    }
    Ok(())
}

/// Makes the daemon read its rules again.
///
/// # Errors
///
/// There is no daemon, or the rules are not right; then the old ones stay.
pub async fn apply(socket: &Path) -> anyhow::Result<()> {
    let outcome = Connection::open(socket).await?.ask(Request::Reload).await;
    match outcome {
        Ok(Outcome::Reloaded(count)) => Ok(super::line(&format!("{count} rules are applied"))?),
        Ok(_) => Ok(()),
        Err(ClientError::Refused(why)) => {
            anyhow::bail!("the daemon keeps the rules it has:\n{why}")
        }
        Err(error) => Err(error.into()),
    }
}

/// Ends limits.
///
/// # Errors
///
/// There is no daemon, or no such limit.
pub async fn clear(socket: &Path, limits: &[String], all: bool) -> anyhow::Result<()> {
    let mut connection = Connection::open(socket).await?;
    let mut wanted: Vec<Clear> = limits.iter().map(|limit| meant(limit)).collect();
    if wanted.is_empty() {
        wanted.push(if all { Clear::All } else { Clear::ByHand });
    }
    let mut ended = 0;
    for clear in wanted {
        if let Outcome::Cleared(count) = connection.ask(Request::Clear(clear)).await? {
            ended += count;
        }
    }
    super::line(&match ended {
        0 if all => "there was no limit".to_owned(),
        0 => "no limit was set by hand; --all ends those of the rules file, too".to_owned(),
        1 => "1 limit has ended".to_owned(),
        ended => format!("{ended} limits have ended"),
    })?;
    Ok(())
}

/// A number means a limit, anything else a rule's name.
fn meant(text: &str) -> Clear {
    match text.parse() {
        Ok(id) => Clear::Limit(LimitId(id)),
        Err(_) => Clear::Rule(text.to_owned()),
    }
}

fn words(status: &Status) -> String {
    let mut text = format!(
        "chadthrottle {} runs as process {} since {}; coverage {:.1} %, {}\n",
        status.version,
        status.pid,
        timestamp(status.since),
        status.coverage * 100.0,
        status.mechanism,
    );
    let file = status.rules_file.display();
    text += &match status.rules_read {
        Some(time) => format!("rules: {file}, read {}\n", timestamp(time)),
        None => format!("rules: none; there was no {file}\n"),
    };
    if let Some(error) = &status.rules_error {
        text += &format!("rules: could not be read again: {error}\n");
    }
    if let Some(address) = status.metrics {
        text += &format!("metrics: http://{address}/metrics\n");
    }
    if !status.rules.is_empty() {
        text.push('\n');
        text += &table(&standings(&status.rules));
    }
    text.push('\n');
    if status.limits.is_empty() {
        text += "no limit is in force\n";
    } else {
        text += &table(&limits(&status.limits));
    }
    text
}

fn standings(rules: &[Standing]) -> Vec<Vec<String>> {
    let head = ["RULE", "NOW", "QUOTA"].map(str::to_owned).to_vec();
    let rows = rules.iter().map(|rule| {
        let quota = rule.quota.as_ref().map_or("-".to_owned(), |quota| {
            format!(
                "{} of {} this {}{}",
                quota.used,
                quota.amount,
                quota.period,
                if quota.is_up() {
                    format!(": used up, {}", quota.then)
                } else {
                    String::new()
                }
            )
        });
        vec![rule.name.to_string(), rule.state.words().to_owned(), quota]
    });
    std::iter::once(head).chain(rows).collect()
}

fn limits(limits: &[LimitRow]) -> Vec<Vec<String>> {
    let head = [
        "LIMIT",
        "RULE",
        "TARGET",
        "LIMITED TO",
        "PROCS",
        "DOWN/s",
        "UP/s",
        "DOWN",
        "UP",
        "NOTE",
    ];
    let rows = limits.iter().map(|row| {
        let rule = match &row.rule.origin {
            Origin::File(name) => name.to_string(),
            Origin::Hand => "by hand".to_owned(),
        };
        let note = row.effect.not_enforced.as_ref();
        vec![
            row.id.0.to_string(),
            rule,
            row.rule.target.to_string(),
            describe(row.rule.limits),
            row.members.to_string(),
            row.effect.achieved.download.to_string(),
            row.effect.achieved.upload.to_string(),
            row.bytes.download.to_string(),
            row.bytes.upload.to_string(),
            note.map_or(String::new(), |why| format!("not enforced: {why}")),
        ]
    });
    std::iter::once(head.map(str::to_owned).to_vec())
        .chain(rows)
        .collect()
}
