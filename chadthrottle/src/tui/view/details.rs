//! All about one process: its traffic over the last minutes, its limit's own truth, and its
//! connections.

mod charts;
mod list;

use chadthrottle_common::traffic::Direction;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
};

use super::{
    Areas, pane,
    text::{cut, left, wrap_in},
    theme::Theme,
};
use crate::{
    model::{
        connections::Connection,
        limit::{LimitId, LimitRow, LimitState},
        priority::Priority,
        rule::{Origin, Scope, Sharing},
        snapshot::ProcessRow,
        target::Target,
        unit,
    },
    rate::Rate,
    tui::{
        reach::Reach,
        state::{DetailsPane, State},
        text::{age, counted, subject},
    },
};

/// Charts have a place from this height of the pane on.
const ROOM_FOR_CHARTS: u16 = 15;

/// Charts leave room for so many connections.
const FEW_CONNECTIONS: u16 = 3;

/// Lines about the process and its limits at most.
const FACTS: usize = 10;

/// Below this height of the pane what a limit does takes the place of who the process is.
const LITTLE: usize = 8;

/// Where the parts of the pane are.
struct Parts {
    facts: Rect,
    charts: Rect,
    headings: Rect,
    connections: Rect,
}

fn parts(area: Rect, facts: usize) -> Parts {
    let inner = pane::inner(area);
    let charts = match area.height {
        0..ROOM_FOR_CHARTS => 0,
        height => (height / 3).clamp(6, 16),
    };
    let others = facts as u16 + 1 + FEW_CONNECTIONS;
    let charts = if inner.height < others + charts {
        0
    } else {
        charts
    };
    let [facts, charts, headings, connections] = Layout::vertical([
        Constraint::Length(facts as u16),
        Constraint::Length(charts),
        Constraint::Length(1),
        Constraint::Fill(1),
    ])
    .areas(inner);
    Parts {
        facts,
        charts,
        headings,
        connections,
    }
}

fn process<'a>(state: &'a State, open: &'a DetailsPane) -> &'a ProcessRow {
    let mut rows = state.snapshot.processes.iter();
    rows.find(|row| row.key == open.last.key)
        .unwrap_or(&open.last)
}

fn connections(state: &State) -> &[Connection] {
    let details = state.snapshot.watched.details.as_ref();
    let wanted = state.watch().process;
    match details {
        Some(details) if Some(details.key) == wanted => &details.connections,
        _ => &[],
    }
}

/// Why not all connections are listed, where some are.
fn missing(state: &State) -> Option<&str> {
    let details = state.snapshot.watched.details.as_ref()?;
    let listed = !connections(state).is_empty();
    details.missing.as_deref().filter(|_| listed)
}

/// Lines of connections, and lines of them shown at once.
pub fn lines_and_page(state: &State) -> [usize; 2] {
    let super::Overlay::Details(open) = &state.overlay else {
        return [0, 1];
    };
    let area = Areas::of_size(state.size).body;
    let theme = Theme::new(state.preferences.palette);
    let facts = facts(state, process(state, open), pane::inner(area).width, &theme);
    let parts = parts(area, facts.len());
    [
        connections(state).len(),
        usize::from(parts.connections.height).max(1),
    ]
}

/// Draws it.
pub fn render(frame: &mut Frame, area: Rect, state: &State, open: &DetailsPane, theme: &Theme) {
    let row = process(state, open);
    let title = format!(" {} ", cut(&subject(row), area.width.saturating_sub(4)));
    let mut block = pane::block(&title, theme.border, theme);
    if let Some(missing) = missing(state) {
        let text = format!(" {} ", cut(missing, area.width.saturating_sub(6)));
        block = block.title_bottom(Line::styled(text, theme.warning).right_aligned());
    }
    frame.render_widget(block, area);
    let facts = facts(state, row, pane::inner(area).width, theme);
    let parts = parts(area, facts.len());
    for (line, y) in facts
        .into_iter()
        .zip(parts.facts.top()..parts.facts.bottom())
    {
        frame.render_widget(
            line,
            Rect {
                y,
                height: 1,
                ..parts.facts
            },
        );
    }
    if parts.charts.height > 0 {
        charts::render(frame, parts.charts, state, row, theme);
    }
    list::render(frame, &parts, state, open, theme);
}

/// Who it is, what it moved, and what its limit does.
fn facts(state: &State, row: &ProcessRow, width: u16, theme: &Theme) -> Vec<Line<'static>> {
    let units = state.preferences.units;
    let mut lines = Vec::new();
    let who = [
        row.exe.to_string(),
        format!("user {}", row.user),
        unit::name(&row.cgroup).to_owned(),
    ];
    let who: Vec<String> = who.into_iter().filter(|part| !part.is_empty()).collect();
    lines.push(Line::styled(cut(&who.join(" · "), width), theme.faint));
    // Of which script an interpreter runs, its file says nothing.
    if !row.command_line.is_empty() && row.command_line != row.exe {
        lines.push(Line::styled(cut(&row.command_line, width), theme.faint));
    }
    let roomy = width >= 2 * (2 * units.width() + 8);
    let moved = |direction| {
        let rate = units.rate(*row.rate.get(direction));
        let bytes = units.amount(*row.bytes.get(direction));
        match roomy {
            true => format!("{rate} ({bytes})"),
            false => rate,
        }
    };
    let column = if roomy {
        2 * units.width() + 6
    } else {
        units.width() + 3
    };
    lines.push(Line::from(vec![
        Span::styled("↓ ", theme.download),
        Span::raw(left(&moved(Direction::Download), column)),
        Span::styled("↑ ", theme.upload),
        Span::raw(moved(Direction::Upload)),
    ]));
    if row.ended {
        lines.push(Line::styled("ended", theme.warning));
    }
    let limits = [&row.limit, &row.local_limit].map(|limit| limit.as_ref().filter(|_| !row.ended));
    for limit in limits.into_iter().flatten() {
        lines.extend(truth(state, row, limit, width, theme));
    }
    if !row.ended && limits == [None, None] {
        lines.push(Line::styled("not limited", theme.faint));
    }
    // Connections need some lines.
    let height = usize::from(Areas::of_size(state.size).body.height);
    let most = FACTS.min(height.saturating_sub(5)).max(2);
    if height < LITTLE && lines.len() > most {
        let failing = limits.into_iter().flatten();
        let failing = failing.filter(|limit| limit.effect.not_enforced.is_some());
        // Why a limit does not hold is said nowhere else; rates are in the table, too.
        lines.drain(..if failing.count() > 0 { 2 } else { 1 });
    }
    lines.truncate(most);
    lines
}

/// Whose limits they are, for which traffic, and since when; each direction's where they are not by
/// the same rule.
fn origins(state: &State, row: &ProcessRow, limit: &LimitState) -> Vec<String> {
    let by = row.limits.about(limit.scope);
    let of = |id: LimitId| {
        let in_force = state.snapshot.limit(id)?;
        Some(origin(state, in_force, limit.scope))
    };
    match (by.download, by.upload) {
        (Some(download), Some(upload)) if download != upload => {
            let one = |word: &str, id| of(id).map(|origin| format!("{word} {origin}"));
            let both = [one("download", download), one("upload", upload)];
            both.into_iter().flatten().collect()
        }
        (download, upload) => download.or(upload).and_then(of).into_iter().collect(),
    }
}

/// Whose limit it is, for which traffic, and since when.
fn origin(state: &State, in_force: &LimitRow, scope: Scope) -> String {
    let rule = &in_force.rule;
    let reach = Reach::of_rule(rule, &state.snapshot.processes);
    let whose = match (&rule.target, rule.sharing) {
        (Target::Process(_), _) => "for this process".to_owned(),
        (_, Sharing::Shared) => format!(
            "shared by {} of {}",
            counted(in_force.members as usize, "process", "processes"),
            reach.words
        ),
        (_, Sharing::Each) => format!("for each process of {}", reach.words),
    };
    let traffic = match scope {
        Scope::All => "",
        Scope::Internet => ", internet only",
        Scope::Local => ", local network only",
    };
    let from = match &rule.origin {
        Origin::Hand => String::new(),
        Origin::File(name) => format!(", by the rule {name} of the rules file"),
    };
    let since = age(in_force.since, state.now);
    format!("{whose}{traffic}{from}, set {since} ago")
}

/// What a limit does, in words.
fn truth(
    state: &State,
    row: &ProcessRow,
    limit: &LimitState,
    width: u16,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let units = state.preferences.units;
    let mut lines = Vec::new();
    if row.is_without_rules() {
        let said = "no limit is for it; what is important uses the link, and everybody else shares the rest";
        let words = wrap_in(said, width, 2).into_iter();
        lines.extend(words.map(|line| Line::styled(line, theme.limited)));
    }
    for (direction, name) in [
        (Direction::Download, "download"),
        (Direction::Upload, "upload"),
    ] {
        let achieved = *limit.effect.achieved.get(direction);
        if let Some(least) = *limit.at_least.get(direction) {
            let [least, gets] = [least, achieved].map(|rate| units.rate(rate));
            let said = format!("{name}: {least} guaranteed while it wants them, gets {gets}");
            let words = wrap_in(&said, width, 2).into_iter();
            lines.extend(words.map(|line| Line::styled(line, theme.limited)));
        }
        let Some(rate) = *limit.limits.get(direction) else {
            continue;
        };
        let dropped = *limit.effect.dropped.get(direction);
        let delay = limit.effect.delay.get(direction).as_millis();
        let mut said = match rate {
            Rate::ZERO => format!("{name} blocked"),
            _ => {
                let part = achieved.bytes_per_second() as f64 / rate.bytes_per_second() as f64;
                let adds = match delay {
                    0 => String::new(),
                    _ => format!(", adds {delay} ms"),
                };
                let held = match limit.priority {
                    Priority::Background => "in the background, has now",
                    Priority::Normal | Priority::High => "limited to",
                };
                format!(
                    "{name} {held} {}: gets {} ({:.0} %){adds}",
                    units.rate(rate),
                    units.rate(achieved),
                    part * 100.0
                )
            }
        };
        said += &format!(", {} dropped", units.amount(dropped));
        match *limit.effect.marked.get(direction) {
            0 => {}
            marked => said += &format!(", {marked} marked"),
        }
        let words = wrap_in(&said, width, 2).into_iter();
        lines.extend(words.map(|line| Line::styled(line, theme.limited)));
    }
    if limit.terms().is_about_link()
        && let Some(link) = &state.snapshot.link
    {
        for direction in Direction::BOTH {
            let words = link
                .directions
                .get(direction)
                .words(|rate| units.rate(rate));
            let Some(words) = words else { continue };
            let words = wrap_in(&format!("{direction}: {words}"), width, 2);
            lines.extend(
                words
                    .into_iter()
                    .map(|line| Line::styled(line, theme.faint)),
            );
        }
    }
    let how = match &limit.effect.why_policing {
        Some(why) => format!("by {}: {why}", limit.effect.mechanism),
        None => format!("by {}", limit.effect.mechanism),
    };
    let mut origins = origins(state, row, limit);
    let last = origins.pop();
    origins.push(last.map_or(how.clone(), |origin| format!("{origin}, {how}")));
    let words = origins.iter().flat_map(|origin| wrap_in(origin, width, 2));
    lines.extend(words.map(|line| Line::styled(line, theme.faint)));
    if let Some(why) = &limit.effect.not_enforced {
        let text = format!("! not enforced because {why}");
        let words = wrap_in(&text, width, 2).into_iter();
        // Before anything else: it is what must not be overlooked.
        lines.splice(0..0, words.map(|line| Line::styled(line, theme.warning)));
    }
    lines
}
