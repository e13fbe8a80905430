//! The table.

use std::{borrow::Cow, time::Duration};

use chadthrottle_common::traffic::Direction;
use ratatui::{
    Frame,
    layout::{Position, Rect},
    style::Style,
    text::{Line, Span},
};

use super::{
    Spot, graph,
    text::{cell, count, left, wrap},
    theme::Theme,
};
use crate::{
    listing::{
        column::Column,
        rows::{AT_LIMIT, Row, Sort, Subject, View, limit_of, used},
    },
    model::{direction::Limits, limit::LimitState, snapshot::ProcessRow, terms::AtLeast, unit},
    rate::{Rate, Units},
    tui::{
        Phase,
        columns::{GAUGE, fitting},
        state::State,
    },
};

/// What the sparklines show.
const SPAN: Duration = Duration::from_secs(60);

/// Draws it.
pub fn render(frame: &mut Frame, area: Rect, state: &State, theme: &Theme) {
    if area.height == 0 {
        return;
    }
    let columns = fitting(area.width, state.layout());
    let mut lines = vec![headings(&columns, state, theme)];
    let shown = usize::from(area.height) - 1;
    for (index, row) in state.rows.iter().enumerate().skip(state.offset).take(shown) {
        let selected = index == state.line();
        lines.push(line(state, row, &columns, selected, area.width, theme));
    }
    if state.rows.is_empty() {
        let text = match (state.phase, state.filter.is_empty()) {
            (Phase::Starting, _) => {
                "starting: what counts and limits traffic is being loaded into the kernel"
            }
            (_, true) => "no process has an inet socket now",
            (_, false) => "nothing matches the filter; Esc drops it",
        };
        let words = wrap(text, area.width.saturating_sub(2)).into_iter();
        lines.extend(words.map(|line| Line::styled(format!("  {line}"), theme.faint)));
    }
    for (line, y) in lines.into_iter().zip(area.top()..area.bottom()) {
        frame.render_widget(
            line,
            Rect {
                y,
                height: 1,
                ..area
            },
        );
    }
}

/// What is where the mouse points.
pub fn spot(state: &State, area: Rect, position: Position) -> Option<Spot> {
    if !area.contains(position) {
        return None;
    }
    if position.y > area.y {
        let line = state.offset + usize::from(position.y - area.y - 1);
        return (line < state.rows.len()).then_some(Spot::Row(line));
    }
    let mut end = area.x;
    for (column, width) in fitting(area.width, state.layout()) {
        end += width + 1;
        if position.x < end {
            return column.is_sortable().then_some(Spot::Heading(column));
        }
    }
    None
}

fn headings(columns: &[(Column, u16)], state: &State, theme: &Theme) -> Line<'static> {
    let Sort { by, reversed } = state.preferences.sort;
    let spans = columns.iter().map(|&(column, width)| {
        let text = column.heading(state.preferences.view, width);
        let sorts = match by {
            Some(by) => by == column,
            None => matches!(column, Column::Rate(_)),
        };
        if !sorts {
            return Span::raw(cell(text, width, column.is_number()));
        }
        let sign = if reversed { "▴" } else { "▾" };
        let text = format!("{text}{sign}");
        Span::styled(cell(&text, width, column.is_number()), theme.key)
    });
    Line::from_iter(spans).style(theme.title)
}

fn line(
    state: &State,
    row: &Row,
    columns: &[(Column, u16)],
    selected: bool,
    width: u16,
    theme: &Theme,
) -> Line<'static> {
    let Some(process) = state.lead(row) else {
        return Line::default();
    };
    let tagged = state.tags.contains(&row.subject);
    let ended = matches!(row.subject, Subject::Process(_)) && process.ended;
    let spans = columns.iter().map(|&(column, width)| {
        let (text, style) = content(state, row, process, column, width, theme);
        let text = match column {
            Column::Mark => format!("{}{text} ", if tagged { "✓" } else { " " }),
            _ => cell(&text, width, column.is_number()),
        };
        // A selected row in one style is easier to read than patches of reversed colours.
        match selected || ended {
            true => Span::raw(text),
            false => Span::styled(text, style),
        }
    });
    let mut line = Line::from_iter(spans);
    if selected {
        let missing = usize::from(width).saturating_sub(line.width());
        line.push_span(" ".repeat(missing));
        line = line.style(theme.selected);
    }
    if ended {
        line = line.patch_style(theme.faint);
    }
    line
}

/// What stands in a row's column, and how.
fn content<'a>(
    state: &'a State,
    row: &'a Row,
    process: &'a ProcessRow,
    column: Column,
    width: u16,
    theme: &Theme,
) -> (Cow<'a, str>, Style) {
    let units = state.preferences.units;
    let is_process = matches!(row.subject, Subject::Process(_));
    let limit = limit_of(process);
    let limit = limit.filter(|_| is_process && !process.ended);
    let limited = limit_style(limit, row.limited > 0, theme);
    match column {
        Column::Mark => (mark(row, process).into(), limited),
        Column::Id if is_process => (process.pid().to_string().into(), theme.faint),
        Column::Id => (count(row.processes, width).into(), Style::new()),
        Column::User => ((&*process.user).into(), Style::new()),
        Column::Name => {
            let name = row.name(&state.snapshot);
            let style = match limit.is_some() || row.limited > 0 {
                true => theme.title.patch(limited),
                false => theme.title,
            };
            (name.into(), style)
        }
        Column::Unit => (unit::name(&process.cgroup).into(), theme.faint),
        Column::Connections => (
            count(row.connections, width).into(),
            quiet(row.connections == 0, theme),
        ),
        Column::Rate(direction) => {
            let rate = *row.rate.get(direction);
            (units.figure(rate).into(), quiet(rate == Rate::ZERO, theme))
        }
        Column::Total(direction) => {
            let bytes = *row.bytes.get(direction);
            (units.amount(bytes).into(), quiet(bytes.count() == 0, theme))
        }
        Column::Limit if is_process => (limit_text(process, width, units).into(), limited),
        Column::Limit if row.limited > 0 => (
            format!("{} of {}", row.limited, row.processes).into(),
            limited,
        ),
        Column::Limit => ("".into(), Style::new()),
        Column::OfLimit => (
            limit.map_or(String::new(), |l| of_limit(l, width)).into(),
            limited,
        ),
        Column::History => {
            let style = if limit.is_some() {
                limited.not_bold()
            } else {
                Style::new()
            };
            (history(state, row, width).into(), style)
        }
        Column::Path => {
            let path = match state.preferences.view {
                View::Units => &process.cgroup,
                _ => &process.exe,
            };
            ((&**path).into(), theme.faint)
        }
    }
}

fn quiet(is_zero: bool, theme: &Theme) -> Style {
    if is_zero { theme.faint } else { Style::new() }
}

/// What a row's state is, in one character; the help explains them.
fn mark(row: &Row, process: &ProcessRow) -> &'static str {
    if !matches!(row.subject, Subject::Process(_)) {
        return if row.limited > 0 { "▽" } else { " " };
    }
    match limit_of(process) {
        _ if process.ended => "†",
        Some(state) if state.effect.not_enforced.is_some() => "!",
        Some(state) if state.limits.is_blocked() => "■",
        Some(state) if is_held(state) => "▼",
        Some(_) => "▽",
        None => " ",
    }
}

fn is_held(limit: &LimitState) -> bool {
    !limit.effect.settling && used(limit).is_some_and(|part| part >= AT_LIMIT)
}

fn limit_style(limit: Option<&LimitState>, any: bool, theme: &Theme) -> Style {
    match limit {
        Some(state) if state.effect.not_enforced.is_some() => theme.warning,
        Some(state) if state.limits.is_blocked() => theme.blocked,
        Some(state) if is_held(state) => theme.at_limit,
        Some(_) => theme.limited,
        None if any => theme.limited,
        None => Style::new(),
    }
}

/// The limits as well as they can be said in so many columns.
fn limit_text(row: &ProcessRow, width: u16, units: Units) -> String {
    if row.ended {
        return "ended".into();
    }
    let Some(state) = limit_of(row) else {
        return String::new();
    };
    let terms = state.terms();
    if terms.is_background() || terms.is_high() && state.limits.is_unlimited() {
        return state.priority.to_string();
    }
    if terms.comes_first() && state.limits.is_unlimited() {
        let least = format!("min {}", AtLeast(state.at_least));
        return match least.chars().count() > usize::from(width) {
            true => "at least".to_owned(),
            false => least,
        };
    }
    let Limits { download, upload } = state.limits;
    if download == Some(Rate::ZERO) && upload == Some(Rate::ZERO) {
        return "blocked".into();
    }
    let whole = |limit: Option<Rate>| match limit {
        None => "-".to_owned(),
        Some(Rate::ZERO) => "blocked".to_owned(),
        Some(rate) => units.figure(rate),
    };
    // As it may be typed: `1.5M`.
    let short = |limit: Option<Rate>| match limit {
        None => "-".to_owned(),
        Some(Rate::ZERO) => "0".to_owned(),
        Some(rate) if units == Units::DecimalBytes && rate.exact().len() <= 4 => rate.exact(),
        Some(rate) => units.figure(rate).replace(' ', ""),
    };
    if width >= 2 * units.width() + 3 {
        // The arrows stand below each other.
        let down = left(&format!("↓{}", whole(download)), units.width() + 1);
        return format!("{down} ↑{}", whole(upload));
    }
    match (download, upload) {
        (Some(_), None) => format!("↓{}", whole(download)),
        (None, Some(_)) => format!("↑{}", whole(upload)),
        _ => {
            let both = format!("↓{} ↑{}", short(download), short(upload));
            match both.chars().count() <= usize::from(width) {
                true => both,
                false => "↓↑ limited".into(),
            }
        }
    }
}

/// How much of its limit a process gets.
fn of_limit(limit: &LimitState, width: u16) -> String {
    let Some(part) = used(limit) else {
        return String::new();
    };
    if limit.effect.settling {
        // What was in flight is let in, so this says nothing yet.
        let word = "settling";
        return if usize::from(width) < word.len() {
            "…".into()
        } else {
            word.into()
        };
    }
    let percent = format!("{:.0}%", (part * 100.0).min(999.0));
    if width < GAUGE {
        return percent;
    }
    let gauge = graph::gauge(part, usize::from(width) - 5);
    format!("{gauge}{percent:>5}")
}

/// The last minute, both directions together.
fn history(state: &State, row: &Row, width: u16) -> String {
    let (columns, subject) = (usize::from(width), &row.subject);
    let points = match subject {
        Subject::Process(key) => state.history.of(std::iter::once(*key), columns, SPAN),
        _ => {
            let keys = state.members(subject).map(|row| row.key);
            state.history.of(keys, columns, SPAN)
        }
    };
    let values: Vec<f32> = points
        .into_iter()
        .map(|point| {
            point.map_or(0.0, |p| {
                p.get(Direction::Download) + p.get(Direction::Upload)
            })
        })
        .collect();
    let most = values.iter().copied().fold(1000.0, f32::max);
    graph::bars(&values, most, 1).concat()
}
