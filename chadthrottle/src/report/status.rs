//! `chadthrottle status`, `clear` and `rules apply`: speak with a running daemon.

use std::path::Path;

use anyhow::ensure;
use chadthrottle_common::traffic::Direction;

use super::{
    record::{LinkRecord, describe},
    table::table,
    timestamp,
};
use crate::{
    daemon::{
        client::{ClientError, Connection},
        protocol::{Clear, Outcome, Request, Status},
    },
    model::{
        limit::{LimitId, LimitRow},
        link::Link,
        rule::Origin,
    },
    rules::{file::mistake::did_you_mean, plan::Standing},
};

/// Shows what the daemon does; or only what it knows of the link.
///
/// # Errors
///
/// There is none, or standard output's.
pub async fn status(socket: &Path, json: bool, link: bool) -> anyhow::Result<()> {
    let status = Connection::open(socket).await?.status().await?;
    match (json, link) {
        (true, true) => super::json_line(&status.link.as_ref().map(LinkRecord::from))?,
        (true, false) => super::json_line(&status)?,
        (false, true) => super::line(about_link(status.link.as_ref()).trim_end())?,
        (false, false) => super::line(words(&status).trim_end())?,
    }
    Ok(())
}

/// What is known of the link, in words.
fn about_link(link: Option<&Link>) -> String {
    let Some(link) = link else {
        return "there is no background traffic, so nothing is known of the link\n".to_owned();
    };
    let mut text = format!("background traffic goes by {}\n", link.device);
    for direction in Direction::BOTH {
        let known = link.directions.get(direction);
        let words = match known.words(|rate| rate.to_string()) {
            Some(words) => format!("has {} now; {words}", known.background),
            None => "not used so far".to_owned(),
        };
        text += &format!("  {direction}: {words}\n");
    }
    text
}

/// Makes the daemon read its rules again. `file` is the rules file that was named, if one was.
///
/// # Errors
///
/// There is no daemon, it reads another file, or the rules are not right; then the old ones stay.
pub async fn apply(socket: &Path, file: Option<&Path>) -> anyhow::Result<()> {
    let mut connection = Connection::open(socket).await?;
    if let Some(file) = file {
        let of_daemon = connection.status().await?.rules_file;
        ensure!(
            is_same(file, &of_daemon),
            "the daemon (process {}) reads {}, not {}; leave out --config and CHADTHROTTLE_CONFIG to \
             apply its file, or restart it with the other",
            connection.pid(),
            of_daemon.display(),
            file.display()
        );
    }
    match connection.ask(Request::Reload).await {
        Ok(Outcome::Reloaded(counts)) => Ok(super::line(&counts.to_string())?),
        Ok(_) => Ok(()),
        Err(ClientError::Refused(why)) => {
            anyhow::bail!("the daemon keeps the rules it has:\n{why}")
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether two paths mean the same file, which need not be there.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path));
    matches!((real(one), real(other)), (Ok(one), Ok(other)) if one == other)
}

/// Ends limits.
///
/// # Errors
///
/// There is no daemon, or one of the limits is not there; then none has ended.
pub async fn clear(socket: &Path, limits: &[String], all: bool) -> anyhow::Result<()> {
    let mut connection = Connection::open(socket).await?;
    let mut wanted = Vec::new();
    if limits.is_empty() {
        wanted.push(if all { Clear::All } else { Clear::ByHand });
    } else {
        let status = connection.status().await?;
        for limit in limits {
            for id in meant(limit, &status).map_err(anyhow::Error::msg)? {
                let clear = Clear::Limit(id);
                if !wanted.contains(&clear) {
                    wanted.push(clear);
                }
            }
        }
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

/// The limits that a rule's name means, or else a limit's number: a rule may be called by one.
///
/// # Errors
///
/// There is none.
fn meant(text: &str, status: &Status) -> Result<Vec<LimitId>, String> {
    let ids = |is_meant: &dyn Fn(&LimitRow) -> bool| -> Vec<LimitId> {
        let rows = status.limits.iter().filter(|row| is_meant(row));
        rows.map(|row| row.id).collect()
    };
    let by_name = ids(&|row| matches!(&row.rule.origin, Origin::File(name) if **name == *text));
    if !by_name.is_empty() {
        return Ok(by_name);
    }
    let number = text.parse().map(LimitId);
    let by_number = ids(&|row| number.as_ref().is_ok_and(|id| row.id == *id));
    if !by_number.is_empty() {
        return Ok(by_number);
    }
    if let Some(rule) = status.rules.iter().find(|rule| &*rule.name == text) {
        let words = rule.state.words();
        return Err(format!(
            "rule '{text}' has no limit in force ({words}); nothing has ended"
        ));
    }
    Err(if number.is_ok() {
        format!(
            "there is no limit {text}, nor a rule of that name; nothing has ended. `chadthrottle \
             status` shows those that are there"
        )
    } else {
        let names: Vec<&str> = status.rules.iter().map(|rule| &*rule.name).collect();
        let hint = match names.len() {
            0 => "; the daemon has no rules".to_owned(),
            _ => did_you_mean(text, &names),
        };
        format!("there is no rule '{text}', and nothing has ended{hint}")
    })
}

fn words(status: &Status) -> String {
    let mut text = format!(
        "chadthrottle {} runs as process {} since {}; coverage {:.1} %, {}{}\n",
        status.version,
        status.pid,
        timestamp(status.since),
        status.coverage * 100.0,
        status.mechanism,
        super::strangers(&status.devices, ", "),
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
    if status.link.is_some() {
        text += &about_link(status.link.as_ref());
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
            describe(row.rule.asked()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        daemon::protocol::VERSION,
        model::{
            direction::{Limits, PerDirection},
            limit::{Effect, Mechanism},
            rule::Rule,
            target::Target,
        },
        rules::plan::State,
    };

    fn status(limits: &[(u64, Option<&str>)], rules: &[(&str, State)]) -> Status {
        let limits = limits.iter().map(|(id, name)| {
            let mut rule = Rule::by_hand(Target::program("x"), Limits::default());
            if let Some(name) = name {
                rule.origin = Origin::File((*name).into());
            }
            LimitRow {
                id: LimitId(*id),
                rule,
                since: std::time::UNIX_EPOCH,
                members: 0,
                bytes: PerDirection::default(),
                effect: Effect::none(Mechanism::Policing),
            }
        });
        let rules = rules.iter().map(|(name, state)| Standing {
            name: (*name).into(),
            state: *state,
            quota: None,
        });
        Status {
            version: VERSION.to_owned(),
            pid: 1,
            since: std::time::UNIX_EPOCH,
            rules_file: "/etc/chadthrottle/rules.toml".into(),
            rules_read: None,
            rules_error: None,
            rules: rules.collect(),
            limits: limits.collect(),
            mechanism: Mechanism::Policing,
            coverage: 1.0,
            devices: Default::default(),
            link: None,
            metrics: None,
        }
    }

    #[test]
    fn names_and_numbers_that_mean_limits() {
        let status = status(
            &[(1, Some("web")), (2, Some("7")), (7, None), (8, None)],
            &[
                ("web", State::InForce),
                ("7", State::InForce),
                ("8", State::Paused),
                ("late", State::OffSchedule),
            ],
        );
        // The rule of this name has no limit that could be meant.
        assert_eq!(meant("8", &status).unwrap(), [LimitId(8)]);
        for (text, ids) in [("web", [1]), ("1", [1]), ("7", [2]), ("2", [2])] {
            assert_eq!(meant(text, &status).unwrap(), ids.map(LimitId), "{text}");
        }
        for (text, expected) in [
            ("late", "no limit in force (waits for its time)"),
            ("9", "there is no limit 9, nor a rule"),
            (
                "wbe",
                "there is no rule 'wbe', and nothing has ended; did you mean 'web'?",
            ),
        ] {
            let error = meant(text, &status).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn paths_that_mean_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(is_same(&file, &link));
        assert!(!is_same(&file, &folder.path().join("none")));
        assert!(is_same(
            Path::new("none"),
            &std::path::absolute("none").unwrap()
        ));
    }
}
