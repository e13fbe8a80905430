//! `chadthrottle top`: the table without a screen.

use chadthrottle_common::traffic::Direction::{Download, Upload};
use serde::Serialize;

use super::{
    record::{Amounts, GroupRecord, LinkRecord, ProcessRecord, RuleRecord, describe},
    spreadsheet,
};
use crate::{
    cli::TopArgs,
    listing::{
        column::Column::{self, Connections, Id, Limit, Name, Rate, Total, User},
        rows::{Row, Sort, Subject, View, limit_of, rows},
    },
    model::{
        connections::Ports, handle::EngineHandle, priority::Priority, process::ProcessKey,
        snapshot::Snapshot, uplink::Devices,
    },
    process::sockets,
};

/// A sample as JSON has it.
#[derive(Serialize)]
struct SampleRecord<'a> {
    time: String,
    interval_seconds: f64,
    coverage: f64,
    unattributed: Amounts,
    total: Amounts,
    devices: &'a Devices,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<LinkRecord<'a>>,
    limits: Vec<RuleRecord<'a>>,
    #[serde(flatten)]
    rows: RowRecords<'a>,
}

/// The rows, under a name that says what they are.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum RowRecords<'a> {
    Processes(Vec<ProcessRecord<'a>>),
    Programs(Vec<GroupRecord<'a>>),
    Cgroups(Vec<GroupRecord<'a>>),
    Users(Vec<GroupRecord<'a>>),
}

impl<'a> SampleRecord<'a> {
    fn new(snapshot: &'a Snapshot, view: View, rows: &'a [Row]) -> Self {
        let groups = || rows.iter().map(Into::into).collect();
        let leads = || {
            rows.iter()
                .filter_map(|row| snapshot.processes.get(row.lead))
        };
        Self {
            time: super::timestamp(snapshot.time),
            interval_seconds: snapshot.interval.as_secs_f64(),
            coverage: snapshot.coverage(),
            unattributed: snapshot.unattributed.into(),
            total: snapshot.total.into(),
            devices: &snapshot.devices,
            link: snapshot.link.as_ref().map(Into::into),
            limits: snapshot.limits.iter().map(Into::into).collect(),
            rows: match view {
                View::Processes => RowRecords::Processes(leads().map(Into::into).collect()),
                View::Programs => RowRecords::Programs(groups()),
                View::Units => RowRecords::Cgroups(groups()),
                View::Users => RowRecords::Users(groups()),
            },
        }
    }
}

/// The columns, with their widths, from left to right.
fn columns(view: View) -> Vec<(Column, usize)> {
    let who: &[(Column, usize)] = match view {
        View::Processes => &[(Id, 8), (User, 10), (Name, 16)],
        _ => &[(Id, 8), (Name, 32)],
    };
    let what = [
        (Connections, 5),
        (Rate(Download), 11),
        (Rate(Upload), 11),
        (Total(Download), 9),
        (Total(Upload), 9),
        (Limit, 0),
    ];
    [who, &what].concat()
}

/// The table as text.
fn table(snapshot: &Snapshot, view: View, rows: &[Row]) -> String {
    let columns = columns(view);
    let heading = |(column, width): &(Column, usize)| column.heading(view, *width as u16).into();
    let mut text = format!(
        "{}  down {}  up {}  coverage {:.1} %{}\n",
        super::timestamp(snapshot.time),
        snapshot.moved(Download).0,
        snapshot.moved(Upload).0,
        snapshot.coverage() * 100.0,
        super::strangers(&snapshot.devices, "  "),
    );
    text += &line(&columns, columns.iter().map(heading));
    for row in rows {
        let cells = columns
            .iter()
            .map(|(column, _)| cell(*column, row, snapshot));
        text += &line(&columns, cells);
    }
    text
}

fn line(columns: &[(Column, usize)], cells: impl Iterator<Item = String>) -> String {
    let mut line = String::new();
    for ((column, width), cell) in columns.iter().zip(cells) {
        // A name may have a line end in it.
        let cell = cell.replace('\n', " ");
        line += &match column.is_number() {
            true => format!("{cell:>width$}  "),
            false => format!("{cell:<width$}  "),
        };
    }
    format!("{}\n", line.trim_end())
}

fn cell(column: Column, row: &Row, snapshot: &Snapshot) -> String {
    let lead = snapshot.processes.get(row.lead);
    match (column, &row.subject) {
        (Id, Subject::Process(key)) => key.pid.to_string(),
        (Id, _) => row.processes.to_string(),
        (User, _) => lead.map_or_else(String::new, |lead| lead.user.to_string()),
        (Name, _) => row.name(snapshot).to_owned(),
        (Connections, _) => row.connections.to_string(),
        (Rate(direction), _) => row.rate.get(direction).to_string(),
        (Total(direction), _) => row.bytes.get(direction).to_string(),
        (Limit, Subject::Process(_)) => {
            let limit = lead.and_then(limit_of);
            let words = limit.map_or("-".to_owned(), |limit| match limit.priority {
                // What it has now is never the same for long.
                Priority::Background => limit.priority.to_string(),
                Priority::Normal | Priority::High => describe(limit.terms()),
            });
            let ended = lead.is_some_and(|lead| lead.ended);
            format!("{words}{}", if ended { " (ended)" } else { "" })
        }
        (Limit, _) if row.limited == 0 => "-".to_owned(),
        (Limit, _) => format!("{} limited", row.limited),
        _ => String::new(),
    }
}

/// Prints samples as they are asked for.
///
/// # Errors
///
/// Standard output's, and the engine's end.
pub async fn run(mut engine: EngineHandle, args: &TopArgs) -> anyhow::Result<()> {
    let filter = args.filter.clone().unwrap_or_default();
    let sort = Sort {
        by: args.sort,
        reversed: args.reverse,
    };
    let mut left = if args.once { Some(1) } else { args.count };
    if args.csv {
        super::line(&spreadsheet::heading(args.by)?)?;
    }
    // The first picture, which is there already, has no interval behind it: the samples come
    // after it.
    while left != Some(0) {
        let snapshot = engine.next_sample().await?;
        let ports = match filter.needs_ports() {
            true => Some(ports(&snapshot).await?),
            false => None,
        };
        let rows = rows(&snapshot, args.by, sort, &filter, ports.as_ref());
        if args.json {
            super::json_line(&SampleRecord::new(&snapshot, args.by, &rows))?;
        } else if !args.csv {
            super::line(&table(&snapshot, args.by, &rows))?;
        } else if !rows.is_empty() {
            super::line(&spreadsheet::lines(&snapshot, args.by, &rows)?)?;
        }
        left = left.map(|left| left - 1);
    }
    Ok(())
}

/// The ports of every process. The engine reads them by turns, within the time that a screen has;
/// a script may wait, and wants all.
async fn ports(snapshot: &Snapshot) -> anyhow::Result<Ports> {
    let keys: Vec<ProcessKey> = snapshot.processes.iter().map(|row| row.key).collect();
    // Whoever has vanished, or can't be looked at, has none.
    let of = |key: ProcessKey| {
        let ports = sockets::ports(key.pid, usize::MAX, &mut || ());
        (key, ports.unwrap_or_default())
    };
    let ports = tokio::task::spawn_blocking(move || keys.into_iter().map(of).collect());
    Ok(ports.await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        demo::World,
        listing::filter::Filter,
        model::{
            direction::Limits,
            limit::{LimitState, Mechanism},
        },
    };
    use std::{
        collections::HashMap,
        time::{Duration, UNIX_EPOCH},
    };

    fn snapshot() -> Snapshot {
        let mut world = World::new(7, 20, UNIX_EPOCH);
        (0..5).for_each(|_| world.advance(Duration::from_secs(1)));
        world.snapshot().clone()
    }

    fn by_upload(snapshot: &Snapshot, view: View) -> Vec<Row> {
        let sort = Sort {
            by: Some(Total(Upload)),
            reversed: false,
        };
        rows(snapshot, view, sort, &Filter::default(), None)
    }

    #[test]
    fn every_form_has_the_same_rows_in_the_same_order() {
        let snapshot = snapshot();
        for (view, key) in [
            (View::Processes, "name"),
            (View::Programs, "program"),
            (View::Units, "cgroup"),
            (View::Users, "user"),
        ] {
            let rows = by_upload(&snapshot, view);
            let json = serde_json::to_value(SampleRecord::new(&snapshot, view, &rows)).unwrap();
            let records = match view {
                View::Processes => &json["processes"],
                View::Programs => &json["programs"],
                View::Units => &json["cgroups"],
                View::Users => &json["users"],
            };
            let records = records.as_array().unwrap();
            let heading = spreadsheet::heading(view).unwrap();
            let lines = spreadsheet::lines(&snapshot, view, &rows).unwrap();
            let sheet = format!("{heading}\n{lines}\n");
            let sheet: Vec<HashMap<String, String>> = csv::Reader::from_reader(sheet.as_bytes())
                .deserialize()
                .map(Result::unwrap)
                .collect();
            let table = table(&snapshot, view, &rows);
            let table: Vec<&str> = table.lines().skip(2).collect();
            let counts = (records.len(), sheet.len(), table.len());
            assert_eq!(counts, (rows.len(), rows.len(), rows.len()));
            let mut before = u64::MAX;
            for (at, row) in rows.iter().enumerate() {
                let uploaded = row.bytes.upload.count();
                assert!(uploaded <= before);
                before = uploaded;
                assert_eq!(records[at]["upload_bytes"], uploaded);
                assert_eq!(sheet[at]["upload_bytes"], uploaded.to_string());
                assert_eq!(records[at][key], *sheet[at][key]);
                assert!(table[at].contains(row.name(&snapshot)), "{}", table[at]);
            }
        }
    }

    #[test]
    fn names_and_limits_of_all_kinds_fit_in() {
        let mut snapshot = snapshot();
        snapshot.processes.truncate(1);
        snapshot.processes[0].name = "a, \"b\"\nc".into();
        let limits = Limits::of(|_| Some(crate::rate::Rate::ZERO));
        let limit = LimitState::new(limits, Mechanism::Pacing);
        snapshot.processes[0].limit = Some(limit);
        let rows = by_upload(&snapshot, View::Processes);
        let lines = spreadsheet::lines(&snapshot, View::Processes, &rows).unwrap();
        assert!(lines.contains(",\"a, \"\"b\"\"\nc\","), "{lines}");
        assert!(lines.ends_with(",0,0,all,pacing,false"), "{lines}");
        let text = table(&snapshot, View::Processes, &rows);
        assert!(text.ends_with("down blocked, up blocked\n"), "{text}");
        let groups = by_upload(&snapshot, View::Users);
        assert!(table(&snapshot, View::Users, &groups).ends_with("1 limited\n"));
    }
}
