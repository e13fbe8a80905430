//! The first lines: the whole machine's traffic, and how limits work here.

use chadthrottle_common::traffic::Direction;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr;

use super::{
    text::{left, right},
    theme::Theme,
};
use crate::tui::state::State;

/// Below this part of attributed traffic the figure is marked.
const GOOD_COVERAGE: f64 = 0.95;

/// From this width on figures have words beside them.
const ROOMY: u16 = 60;

/// Columns of the longest rate.
const RATE: u16 = 9;

/// Columns of the longest amount.
const AMOUNT: u16 = 7;

/// Draws it.
pub fn render(frame: &mut Frame, area: Rect, state: &State, theme: &Theme) {
    let [first, second] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(area);
    frame.render_widget(traffic(state, theme, area.width), first);
    frame.render_widget(enforcement(state, theme, area.width), second);
}

fn traffic(state: &State, theme: &Theme, width: u16) -> Line<'static> {
    let mut spans = Vec::new();
    if width >= ROOMY {
        spans.push(Span::styled(left(" chadthrottle", 16), theme.title));
    } else {
        spans.push(Span::raw(" "));
    }
    let snapshot = &state.snapshot;
    for (direction, arrow, style) in directions(theme) {
        let rate = right(&snapshot.total_rate.get(direction).to_string(), RATE);
        spans.push(Span::styled(arrow, style));
        spans.push(Span::styled(rate, style));
        spans.push(Span::raw("   "));
    }
    if width >= 80 {
        spans.push(Span::styled("total", theme.faint));
        for (direction, arrow, _) in directions(theme) {
            let amount = right(&snapshot.total.get(direction).to_string(), AMOUNT + 1);
            spans.push(Span::styled(format!("  {arrow}"), theme.faint));
            spans.push(Span::raw(amount));
        }
    }
    Line::from(spans)
}

fn directions(theme: &Theme) -> [(Direction, &'static str, Style); 2] {
    [
        (Direction::Download, "↓", theme.download),
        (Direction::Upload, "↑", theme.upload),
    ]
}

/// What is said about limits, in the order of its worth: what does not fit gives way from the end.
fn enforcement(state: &State, theme: &Theme, width: u16) -> Line<'static> {
    let snapshot = &state.snapshot;
    let mut said: Vec<(String, Style)> = Vec::new();
    let limited = snapshot.limited();
    if state.engine_stopped {
        said.push(("! the engine has stopped".into(), theme.error));
    } else {
        let style = match limited {
            0 => theme.faint,
            _ => theme.limited,
        };
        said.push((format!("{limited} limited"), style));
    }
    let failing = snapshot
        .processes
        .iter()
        .filter(|row| {
            row.limit
                .as_ref()
                .is_some_and(|l| l.effect.not_enforced.is_some())
        })
        .count();
    if failing > 0 {
        said.push((format!("! {failing} not enforced"), theme.warning));
    }
    let coverage = snapshot.coverage();
    let word = if width >= ROOMY { "coverage " } else { "" };
    // Rounded down: 100 % is all of it.
    let percent = format!("{word}{:.1} %", (coverage * 1000.0).floor() / 10.0);
    let mechanism = (snapshot.mechanism.to_string(), theme.faint);
    if coverage < GOOD_COVERAGE {
        said.push((format!("! {percent}"), theme.warning));
        said.push(mechanism);
    } else {
        said.push(mechanism);
        said.push((percent, theme.faint));
    }
    let shown = snapshot.processes.len();
    said.push((format!("{shown} processes"), theme.faint));

    let mut line = Line::default();
    for (text, style) in said {
        let gap = if line.spans.is_empty() { " " } else { " · " };
        if line.width() + gap.width() + text.width() > usize::from(width) {
            break;
        }
        line.push_span(Span::styled(gap, theme.faint));
        line.push_span(Span::styled(text, style));
    }
    line
}
