//! `chadthrottle limit`: limits targets until it is told to stop.

use std::{convert::Infallible, io, time::SystemTime};

use anyhow::Context as _;
use serde::Serialize;

use super::record::{ProcessRecord, RuleRecord, describe};
use crate::{
    model::{
        command::{Command, CommandError},
        direction::{Limits, PerDirection},
        handle::EngineHandle,
        limit::{Effect, LimitRow},
        priority::Priority,
        process::{Pid, ProcessId},
        rule::Rule,
        snapshot::{ProcessRow, Snapshot},
        target::Target,
        terms::Terms,
    },
    process::identity,
    rate::Rate,
};

/// What is printed as JSON.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    /// The limit is in force from here on.
    Applied {
        time: String,
        targets: Vec<String>,
        pids: &'a [Pid],
        limit: Limits,
    },
    /// What was achieved.
    Sample {
        time: String,
        interval_seconds: f64,
        limits: Vec<RuleRecord<'a>>,
        processes: Vec<ProcessRecord<'a>>,
    },
    /// A process has ended.
    Ended { time: String, pid: Pid },
}

/// Puts the rules in force.
///
/// # Errors
///
/// The first that can't be; the engine takes the others away when it is dropped.
async fn apply(engine: &EngineHandle, rules: &[Rule]) -> Result<(), CommandError> {
    for rule in rules {
        engine.ask(Command::Set(Box::new(rule.clone()))).await?;
    }
    Ok(())
}

/// Puts `rules` in force, all with the same limits, prints what they achieve at every sample, and
/// returns when there is nothing left that they could limit.
///
/// # Errors
///
/// A rule that can't be put in force, and standard output's.
pub async fn run(mut engine: EngineHandle, rules: Vec<Rule>, json: bool) -> anyhow::Result<()> {
    let rules: Vec<Rule> = rules.into_iter().map(of_processes).collect();
    let named = rules.iter().flat_map(|rule| rule.target.parts());
    let process = |target: &Target| match target {
        Target::Process(id) => Some(id.pid),
        _ => None,
    };
    let mut pids: Vec<Pid> = named.filter_map(process).collect();
    pids.sort_unstable();
    pids.dedup();
    apply(&engine, &rules)
        .await
        .context("nothing was limited")?;
    let first = rules.first();
    let terms = first.map(Rule::asked).unwrap_or_default();
    let applied = Event::Applied {
        time: super::timestamp(SystemTime::now()),
        targets: rules.iter().map(|rule| rule.target.to_string()).collect(),
        pids: &pids,
        limit: terms.limits,
    };
    let limits = Terms::limits(terms.limits);
    let most = match terms.limits.is_unlimited() {
        true => String::new(),
        false => format!(", at most {}", describe(limits)),
    };
    let words = match terms.priority {
        Priority::Background => {
            format!("in the background: has what others leave of the link{most}")
        }
        Priority::High => {
            format!("high: has what it wants of the link before everybody else{most}")
        }
        Priority::Normal if terms.comes_first() => {
            let least = describe(Terms::limits(terms.at_least));
            format!("has {least} of the link before everybody else, while it uses it{most}")
        }
        Priority::Normal => format!("limited to {}", describe(limits)),
    };
    let words = format!("{words}; Ctrl-C to end");
    say(json, &applied, || words)?;
    let mut hinted = false;
    // Until all processes of `--pid` have been told as ended, and all else is gone.
    let mut waiting = true;
    while waiting {
        let snapshot = engine.next_sample().await?;
        let rows = rows(&snapshot, &pids);
        let broad: Vec<&LimitRow> = snapshot
            .limits
            .iter()
            .filter(|limit| !is_about_processes(&limit.rule.target))
            .collect();
        if !std::mem::replace(&mut hinted, true) {
            for hint in hints(&snapshot) {
                log::warn!("{hint}");
            }
        }
        let time = super::timestamp(snapshot.time);
        let sample = Event::Sample {
            time: time.clone(),
            interval_seconds: snapshot.interval.as_secs_f64(),
            limits: snapshot.limits.iter().map(Into::into).collect(),
            processes: limited(&snapshot, &rows).map(Into::into).collect(),
        };
        let words = achieved(&rows, &broad);
        if json || words.is_some() {
            say(json, &sample, || words.unwrap_or_default())?;
        }
        let ended: Vec<&ProcessRow> = rows.iter().copied().filter(|row| row.ended).collect();
        for row in ended {
            let event = Event::Ended {
                time: time.clone(),
                pid: row.pid(),
            };
            say(json, &event, || {
                format!("{} ({}) has ended", row.name, row.pid())
            })?;
            pids.retain(|pid| *pid != row.pid());
        }
        waiting = !pids.is_empty() || !broad.is_empty();
    }
    Ok(())
}

/// What to type where a name is nobody's, but that of a script which somebody runs.
fn hints(snapshot: &Snapshot) -> Vec<String> {
    let without = snapshot.limits.iter().filter(|limit| limit.members == 0);
    let hint = |limit: &LimitRow| {
        let target = &limit.rule.target;
        let mut rows = snapshot.processes.iter();
        let row = rows.find(|row| !row.ended && target.names_script_of(&row.identity()))?;
        Some(format!(
            "{target} is no process's name; {} ({}) runs it: {}. `--command` with a pattern means that",
            row.name,
            row.pid(),
            row.command_line
        ))
    };
    without.filter_map(hint).collect()
}

/// The rule with processes where it names threads, as `htop` shows them.
fn of_processes(rule: Rule) -> Rule {
    let process = |id: ProcessId| {
        let process = identity::process_of(id.pid);
        let meant = match process == id.pid {
            true => id,
            false => process.into(),
        };
        Ok::<_, Infallible>(meant)
    };
    let Ok(target) = rule.target.resolved(&process);
    Rule { target, ..rule }
}

/// Whether it is for certain processes, which can only end.
fn is_about_processes(target: &Target) -> bool {
    let process = |part: &Target| matches!(part, Target::Process(_));
    target.parts().iter().all(process)
}

fn say(json: bool, event: &Event<'_>, words: impl FnOnce() -> String) -> io::Result<()> {
    if json {
        super::json_line(event)
    } else {
        super::line(&words())
    }
}

/// The rows of the processes that were named. Of two with the same id, the one that had it first.
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

/// Those, and all others that are limited.
fn limited<'a>(
    snapshot: &'a Snapshot,
    named: &[&'a ProcessRow],
) -> impl Iterator<Item = &'a ProcessRow> {
    let is_limited = |row: &&ProcessRow| row.limit.is_some() || row.local_limit.is_some();
    let others = snapshot.processes.iter().filter(is_limited);
    let others = others.filter(|row| named.iter().all(|named| named.key != row.key));
    let all: Vec<&ProcessRow> = named.iter().copied().chain(others).collect();
    all.into_iter()
}

/// What was achieved, beside the limit, in one line; nothing when the last tree has just ended.
fn achieved(rows: &[&ProcessRow], limits: &[&LimitRow]) -> Option<String> {
    let processes = rows.iter().map(|row| {
        let limit = row.limit.as_ref().or(row.local_limit.as_ref());
        let subject = format!("{} ({})", row.name, row.pid());
        let limits = limit.map(|limit| limit.limits).unwrap_or_default();
        words(&subject, row.rate, limits, limit.map(|limit| &limit.effect))
    });
    let broad = limits.iter().map(|limit| {
        let plural = if limit.members == 1 {
            "process"
        } else {
            "processes"
        };
        let subject = format!("{} ({} {plural})", limit.rule.target, limit.members);
        let effect = &limit.effect;
        words(&subject, effect.achieved, limit.rule.limits, Some(effect))
    });
    let words: Vec<String> = processes.chain(broad).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

fn words(
    subject: &str,
    rate: PerDirection<Rate>,
    limits: Limits,
    effect: Option<&Effect>,
) -> String {
    let of = |rate, limit: Option<_>| match limit {
        Some(limit) => format!("{rate} of {limit}"),
        None => format!("{rate}"),
    };
    let how = effect.map(|effect| match &effect.not_enforced {
        Some(why) => format!(" [not enforced: {why}]"),
        None => format!(" [{}]", effect.manner()),
    });
    format!(
        "{subject}: down {}, up {}{}",
        of(rate.download, limits.download),
        of(rate.upload, limits.upload),
        how.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::limit::{LimitId, Mechanism};

    #[test]
    fn nothing_is_said_of_a_tree_that_has_ended() {
        let limit = LimitRow {
            id: LimitId(1),
            rule: Rule::by_hand(Target::program("curl"), Limits::default()),
            since: SystemTime::UNIX_EPOCH,
            members: 1,
            bytes: PerDirection::default(),
            effect: Effect::none(Mechanism::Policing),
        };
        let words = achieved(&[], &[&limit]).unwrap();
        assert!(
            words.starts_with("program curl (1 process): down 0"),
            "{words}"
        );
        assert_eq!(achieved(&[], &[]), None);
    }
}
