//! The process table.

use std::borrow::Cow;

use chadthrottle_common::traffic::Direction;
use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{
    text::{count, left, right},
    theme::Theme,
};
use crate::{
    engine::snapshot::{Limits, ProcessRow},
    rate::Rate,
    tui::state::State,
};

/// Columns of a limit with both directions in it.
const WIDE_LIMIT: u16 = 21;

/// Columns of a limit where there is little room.
const SHORT_LIMIT: u16 = 10;

/// The program's name has at least so many columns before another column is shown beside it.
const PROGRAM: u16 = 10;

/// A process's name has at most 15 bytes.
const WIDEST_PROGRAM: u16 = 16;

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Limited, blocked, not enforced or ended, in one character.
    Mark,
    /// Its id.
    Pid,
    /// Its user.
    User,
    /// Its name.
    Program,
    /// Its open sockets.
    Connections,
    /// Payload a second.
    Rate(Direction),
    /// Payload so far.
    Total(Direction),
    /// Its limit.
    Limit,
    /// Its program file.
    Path,
}

/// As they stand from left to right.
const IN_PLACE: &[Column] = &[
    Column::Mark,
    Column::Pid,
    Column::User,
    Column::Program,
    Column::Connections,
    Column::Rate(Direction::Download),
    Column::Rate(Direction::Upload),
    Column::Total(Direction::Download),
    Column::Total(Direction::Upload),
    Column::Limit,
    Column::Path,
];

/// The first to be shown first; as a terminal narrows they give way from the last. Those in one
/// step come and go together.
const BY_WORTH: &[&[Column]] = &[
    &[
        Column::Mark,
        Column::Program,
        Column::Rate(Direction::Download),
        Column::Rate(Direction::Upload),
    ],
    &[Column::Pid],
    &[Column::Limit],
    &[Column::Connections],
    &[Column::User],
    &[
        Column::Total(Direction::Download),
        Column::Total(Direction::Upload),
    ],
];

/// The columns that fit, with their widths, from left to right.
pub fn columns(width: u16, pid_digits: u16) -> Vec<(Column, u16)> {
    let least = |column: Column| match column {
        Column::Mark => 1,
        Column::Pid => pid_digits,
        Column::User => 7,
        Column::Program => PROGRAM,
        Column::Connections => 4,
        Column::Rate(_) => 9,
        Column::Total(_) => 7,
        Column::Limit => SHORT_LIMIT,
        Column::Path => 20,
    };
    let mut shown: Vec<Column> = Vec::new();
    // The mark needs no gap after it: ids are right-aligned.
    let mut left_over = i32::from(width) + 2;
    for step in BY_WORTH {
        let needed: i32 = step.iter().map(|c| i32::from(least(*c)) + 1).sum();
        if needed > left_over && !shown.is_empty() {
            break;
        }
        left_over -= needed;
        shown.extend(*step);
    }
    let mut widths: Vec<(Column, u16)> = IN_PLACE
        .iter()
        .filter(|column| shown.contains(column))
        .map(|column| (*column, least(*column)))
        .collect();
    // What is left over goes where it is missed most.
    let mut spare = left_over.max(0) as u16;
    let mut widen = |wanted: Column, by: u16, whole: bool| {
        for (column, width) in &mut widths {
            if *column == wanted && (!whole || spare >= by) {
                let more = by.min(spare);
                *width += more;
                spare -= more;
            }
        }
    };
    widen(Column::Program, WIDEST_PROGRAM - PROGRAM, false);
    widen(Column::Limit, WIDE_LIMIT - SHORT_LIMIT, true);
    widen(Column::Pid, 1, true);
    widen(Column::User, 5, true);
    widen(Column::Connections, 1, true);
    widen(Column::Rate(Direction::Download), 2, true);
    widen(Column::Rate(Direction::Upload), 2, true);
    widen(Column::Total(Direction::Download), 2, true);
    widen(Column::Total(Direction::Upload), 2, true);
    if spare > least(Column::Path) {
        widths.push((Column::Path, spare - 1));
    }
    widths
}

/// Draws it.
pub fn render(frame: &mut Frame, area: Rect, state: &State, theme: &Theme) {
    if area.height == 0 {
        return;
    }
    let columns = columns(area.width, state.pid_digits);
    let mut lines = vec![headings(&columns, theme)];
    let shown = usize::from(area.height) - 1;
    for (index, row) in state.rows().enumerate().skip(state.offset).take(shown) {
        let selected = index == state.line();
        lines.push(line(row, &columns, selected, area.width, theme));
    }
    if state.order.is_empty() {
        let text = "  no process has an inet socket now";
        lines.push(Line::styled(text, theme.faint));
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

fn headings(columns: &[(Column, u16)], theme: &Theme) -> Line<'static> {
    let spans = columns.iter().map(|&(column, width)| {
        let (text, is_number) = match column {
            Column::Mark => ("", false),
            Column::Pid => ("PID", true),
            Column::User => ("USER", false),
            Column::Program => ("PROGRAM", false),
            Column::Connections => (if width > 4 { "CONNS" } else { "CONN" }, true),
            Column::Rate(Direction::Download) => ("DOWN/s", true),
            Column::Rate(Direction::Upload) => ("UP/s", true),
            Column::Total(Direction::Download) => ("DOWN", true),
            Column::Total(Direction::Upload) => ("UP", true),
            Column::Limit => ("LIMIT", false),
            Column::Path => ("PATH", false),
        };
        cell(column, Cow::Borrowed(text), width, is_number)
    });
    Line::from_iter(spans).style(theme.title)
}

fn cell(column: Column, text: Cow<'_, str>, width: u16, is_number: bool) -> Span<'static> {
    let mut text = match is_number {
        true => right(&text, width),
        false => left(&text, width),
    };
    if column != Column::Mark {
        text.push(' ');
    }
    Span::raw(text)
}

fn line(
    row: &ProcessRow,
    columns: &[(Column, u16)],
    selected: bool,
    width: u16,
    theme: &Theme,
) -> Line<'static> {
    let spans = columns.iter().map(|&(column, width)| {
        let (text, is_number, style): (Cow<'_, str>, bool, Style) = match column {
            Column::Mark => (mark(row).into(), false, limit_style(row, theme)),
            Column::Pid => (row.pid().to_string().into(), true, theme.faint),
            Column::User => ((&*row.user).into(), false, Style::new()),
            Column::Program => ((&*row.name).into(), false, theme.title),
            Column::Connections => (
                count(row.connections, width).into(),
                true,
                quiet(row.connections == 0, theme),
            ),
            Column::Rate(direction) => {
                let rate = *row.rate.get(direction);
                (
                    rate.to_string().into(),
                    true,
                    quiet(rate == Rate::ZERO, theme),
                )
            }
            Column::Total(direction) => {
                let bytes = *row.bytes.get(direction);
                (
                    bytes.to_string().into(),
                    true,
                    quiet(bytes.count() == 0, theme),
                )
            }
            Column::Limit => (limit(row, width).into(), false, limit_style(row, theme)),
            Column::Path => ((&*row.exe).into(), false, theme.faint),
        };
        let cell = cell(column, text, width, is_number);
        // A selected row in one style is easier to read than patches of reversed colours.
        if selected || row.ended {
            cell
        } else {
            cell.style(style)
        }
    });
    let mut line = Line::from_iter(spans);
    if selected {
        let missing = usize::from(width).saturating_sub(line.width());
        line.push_span(" ".repeat(missing));
        line = line.style(theme.selected);
    }
    if row.ended {
        line = line.patch_style(theme.faint);
    }
    line
}

fn quiet(is_zero: bool, theme: &Theme) -> Style {
    if is_zero { theme.faint } else { Style::new() }
}

/// What a row's state is, in one character; the help explains them.
fn mark(row: &ProcessRow) -> &'static str {
    match &row.limit {
        _ if row.ended => "†",
        Some(state) if state.effect.not_enforced.is_some() => "!",
        Some(state) if state.limits.is_blocked() => "■",
        Some(_) => "▼",
        None => " ",
    }
}

fn limit_style(row: &ProcessRow, theme: &Theme) -> Style {
    match &row.limit {
        Some(state) if state.effect.not_enforced.is_some() => theme.warning,
        Some(state) if state.limits.is_blocked() => theme.blocked,
        Some(_) => theme.limited,
        None => Style::new(),
    }
}

fn limit(row: &ProcessRow, width: u16) -> String {
    if row.ended {
        return "ended".into();
    }
    let Some(state) = &row.limit else {
        return String::new();
    };
    let Limits { download, upload } = state.limits;
    let part = |limit: Option<Rate>| match limit {
        None => "—".to_owned(),
        Some(Rate::ZERO) => "blocked".to_owned(),
        Some(rate) => rate.to_string(),
    };
    match (download, upload) {
        (Some(Rate::ZERO), Some(Rate::ZERO)) => "blocked".into(),
        _ if width >= WIDE_LIMIT => {
            // The arrows stand below each other.
            format!(
                "{} ↑{}",
                left(&format!("↓{}", part(download)), 10),
                part(upload)
            )
        }
        (Some(_), None) => format!("↓{}", part(download)),
        (None, Some(_)) => format!("↑{}", part(upload)),
        _ => "↓↑ limited".into(),
    }
}
