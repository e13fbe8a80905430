//! The first lines: the whole machine's traffic, and how limits work here.

use chadthrottle_common::traffic::Direction;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
};

use super::{
    text::{left, right},
    theme::Theme,
};
use crate::tui::state::State;

/// Below this part of attributed traffic the figure is marked.
const GOOD_COVERAGE: f64 = 0.95;

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
    if width >= 60 {
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

fn directions(theme: &Theme) -> [(Direction, &'static str, ratatui::style::Style); 2] {
    [
        (Direction::Download, "↓", theme.download),
        (Direction::Upload, "↑", theme.upload),
    ]
}

fn enforcement(state: &State, theme: &Theme, width: u16) -> Line<'static> {
    let snapshot = &state.snapshot;
    let gap = || Span::styled("  ·  ", theme.faint);
    let mut spans = vec![Span::raw(" ")];
    if state.engine_stopped {
        spans.push(Span::styled("! the engine has stopped", theme.error));
        return Line::from(spans);
    }
    let limited = snapshot.limited();
    let style = if limited > 0 {
        theme.limited
    } else {
        theme.faint
    };
    spans.push(Span::styled(format!("{limited} limited"), style));
    let failing = snapshot
        .processes
        .iter()
        .filter(|row| row.limit.as_ref().is_some_and(|l| l.not_enforced.is_some()))
        .count();
    if failing > 0 {
        spans.push(gap());
        spans.push(Span::styled(
            format!("! {failing} not enforced"),
            theme.warning,
        ));
    }
    // What is the same all day gives way to what is not.
    if failing == 0 || width >= 60 {
        spans.push(gap());
        spans.push(Span::styled(snapshot.mechanism.to_string(), theme.faint));
    }
    let coverage = snapshot.coverage();
    let (word, style) = match (coverage < GOOD_COVERAGE, width >= 60) {
        (true, true) => ("! coverage ", theme.warning),
        (true, false) => ("! ", theme.warning),
        (false, true) => ("coverage ", theme.faint),
        (false, false) => ("", theme.faint),
    };
    spans.push(gap());
    // Rounded down: 100 % is all of it.
    let percent = (coverage * 1000.0).floor() / 10.0;
    spans.push(Span::styled(format!("{word}{percent:.1} %"), style));
    if width >= 80 {
        let shown = snapshot.processes.len();
        spans.push(gap());
        spans.push(Span::styled(format!("{shown} processes"), theme.faint));
    }
    Line::from(spans)
}
