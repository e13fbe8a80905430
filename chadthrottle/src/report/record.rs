//! Snapshots in the form in which scripts get them.

use std::time::Duration;

use serde::Serialize;

use crate::{
    listing::rows::{Row, Subject},
    model::{
        direction::{Limits, PerDirection},
        limit::{Effect, LimitRow, LimitState, Mechanism},
        link::{Link, Why},
        priority::Priority,
        process::Pid,
        rule::{Scope, Sharing},
        snapshot::ProcessRow,
        terms::Terms,
    },
    rate::{Bytes, Rate},
};

/// Amounts.
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

/// What limits do.
#[derive(Serialize)]
pub struct EffectRecord<'a> {
    achieved: PerDirection<Rate>,
    dropped_bytes: PerDirection<Bytes>,
    marked_packets: PerDirection<u64>,
    delay_ms: PerDirection<f64>,
    mechanism: Mechanism,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_policing: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_enforced: Option<&'a str>,
    settling: bool,
}

impl<'a> From<&'a Effect> for EffectRecord<'a> {
    fn from(effect: &'a Effect) -> Self {
        Self {
            achieved: effect.achieved,
            dropped_bytes: effect.dropped,
            marked_packets: effect.marked,
            delay_ms: effect.delay.map(milliseconds),
            mechanism: effect.mechanism,
            why_policing: effect.why_policing.as_deref(),
            not_enforced: effect.not_enforced.as_deref(),
            settling: effect.settling,
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    // To the microsecond; more digits would be noise.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The link by which background traffic goes.
#[derive(Serialize)]
pub struct LinkRecord<'a> {
    device: &'a str,
    #[serde(flatten)]
    directions: PerDirection<LinkDirectionRecord>,
}

#[derive(Clone, Copy, Serialize)]
struct LinkDirectionRecord {
    /// Bytes a second; nothing while it is not known.
    carries: Option<Rate>,
    /// What somebody said that it carries.
    said: Option<Rate>,
    others: Rate,
    background: Rate,
    queue_ms: f64,
    round_trip_ms: Option<f64>,
    why: Why,
}

impl<'a> From<&'a Link> for LinkRecord<'a> {
    fn from(link: &'a Link) -> Self {
        Self {
            device: &link.device,
            directions: link.directions.map(|known| LinkDirectionRecord {
                carries: known.carries,
                said: known.said,
                others: known.others,
                background: known.background,
                queue_ms: milliseconds(known.queue),
                round_trip_ms: known.round_trip.map(milliseconds),
                why: known.why,
            }),
        }
    }
}

/// The limit of a process.
#[derive(Serialize)]
pub struct LimitRecord<'a> {
    #[serde(flatten)]
    limits: Limits,
    priority: Priority,
    at_least: Limits,
    traffic: Scope,
    sharing: Sharing,
    #[serde(flatten)]
    effect: EffectRecord<'a>,
}

impl<'a> From<&'a LimitState> for LimitRecord<'a> {
    fn from(limit: &'a LimitState) -> Self {
        Self {
            limits: limit.limits,
            priority: limit.priority,
            at_least: limit.at_least,
            traffic: limit.scope,
            sharing: limit.sharing,
            effect: (&limit.effect).into(),
        }
    }
}

/// A limit in force.
#[derive(Serialize)]
pub struct RuleRecord<'a> {
    target: String,
    #[serde(flatten)]
    limits: Limits,
    priority: Priority,
    /// Of background traffic: what was asked for besides.
    ceiling: Limits,
    at_least: Limits,
    traffic: Scope,
    sharing: Sharing,
    since: String,
    processes: u32,
    #[serde(flatten)]
    bytes: Amounts,
    #[serde(flatten)]
    effect: EffectRecord<'a>,
}

impl<'a> From<&'a LimitRow> for RuleRecord<'a> {
    fn from(row: &'a LimitRow) -> Self {
        Self {
            target: row.rule.target.to_string(),
            limits: row.rule.limits,
            priority: row.rule.priority,
            ceiling: row.rule.ceiling,
            at_least: row.rule.at_least,
            traffic: row.rule.scope,
            sharing: row.rule.sharing,
            since: super::timestamp(row.since),
            processes: row.members,
            bytes: row.bytes.into(),
            effect: (&row.effect).into(),
        }
    }
}

/// A process.
#[derive(Serialize)]
pub struct ProcessRecord<'a> {
    pid: Pid,
    name: &'a str,
    exe: &'a str,
    command: &'a str,
    user: &'a str,
    cgroup: &'a str,
    connections: u32,
    download_bytes: Bytes,
    upload_bytes: Bytes,
    download_rate: Rate,
    upload_rate: Rate,
    limit: Option<LimitRecord<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_limit: Option<LimitRecord<'a>>,
    ended: bool,
}

impl<'a> From<&'a ProcessRow> for ProcessRecord<'a> {
    fn from(row: &'a ProcessRow) -> Self {
        Self {
            pid: row.pid(),
            name: &row.name,
            exe: &row.exe,
            command: &row.command_line,
            user: &row.user,
            cgroup: &row.cgroup,
            connections: row.connections,
            download_bytes: row.bytes.download,
            upload_bytes: row.bytes.upload,
            download_rate: row.rate.download,
            upload_rate: row.rate.upload,
            limit: row.limit.as_ref().map(Into::into),
            local_limit: row.local_limit.as_ref().map(Into::into),
            ended: row.ended,
        }
    }
}

/// Processes that have something in common, together.
#[derive(Serialize)]
pub struct GroupRecord<'a> {
    #[serde(flatten)]
    of: SubjectRecord<'a>,
    processes: u32,
    limited: u32,
    connections: u32,
    download_bytes: Bytes,
    upload_bytes: Bytes,
    download_rate: Rate,
    upload_rate: Rate,
}

/// What they have in common.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum SubjectRecord<'a> {
    Pid(Pid),
    Program(&'a str),
    Cgroup(&'a str),
    User(&'a str),
}

impl<'a> From<&'a Row> for GroupRecord<'a> {
    fn from(row: &'a Row) -> Self {
        Self {
            of: match &row.subject {
                Subject::Process(key) => SubjectRecord::Pid(key.pid),
                Subject::Program(name) => SubjectRecord::Program(name),
                Subject::Unit(cgroup) => SubjectRecord::Cgroup(cgroup),
                Subject::User(user) => SubjectRecord::User(user),
            },
            processes: row.processes,
            limited: row.limited,
            connections: row.connections,
            download_bytes: row.bytes.download,
            upload_bytes: row.bytes.upload,
            download_rate: row.rate.download,
            upload_rate: row.rate.upload,
        }
    }
}

/// What was asked for in a few words.
pub fn describe(terms: Terms) -> String {
    let Terms {
        limits,
        priority,
        at_least,
    } = terms;
    let mut words = Vec::new();
    if terms.priority != Priority::Normal {
        words.push(priority.to_string());
    }
    if !at_least.is_unlimited() {
        words.push(format!("at least {}", rates(at_least)));
    }
    if !limits.is_unlimited() || words.is_empty() {
        let most = match terms.is_background() || !at_least.is_unlimited() {
            true => "at most ",
            false => "",
        };
        words.push(format!("{most}{}", rates(limits)));
    }
    words.join(", ")
}

fn rates(limits: Limits) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_says_what_it_does() {
        let limits = Limits {
            download: Some(Rate::from_bytes_per_second(500_000)),
            upload: None,
        };
        let mut state = LimitState::new(limits, Mechanism::Pacing);
        state.effect.delay.download = Duration::from_micros(140_250);
        let json = serde_json::to_value(LimitRecord::from(&state)).unwrap();
        assert_eq!(json["download"], 500_000);
        assert_eq!(json["upload"], serde_json::Value::Null);
        assert_eq!(
            (&json["mechanism"], &json["traffic"]),
            (&"pacing".into(), &"all".into())
        );
        assert_eq!(json["delay_ms"]["download"], 140.25);
        assert!(json.get("not_enforced").is_none());
        assert_eq!(state.effect.manner(), "pacing, adding 140 ms");
        state.effect.mechanism = Mechanism::Policing;
        state.effect.why_policing = Some("this kernel has no sch_fq".into());
        assert_eq!(state.effect.manner(), "policing: this kernel has no sch_fq");
        let blocked = Limits {
            download: None,
            upload: Some(Rate::ZERO),
        };
        assert_eq!(describe(Terms::limits(blocked)), "up blocked");
    }
}
