//! The first lines: the whole machine's traffic, and how limits work here.

use chadthrottle_common::traffic::Direction;
use ratatui::{
    Frame,
    layout::{Rect, Size},
    style::Style,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr;

use super::{
    graph,
    text::{cut, right},
    theme::Theme,
};
use crate::{
    model::snapshot::Snapshot,
    rate::Rate,
    tui::{Keeper, Phase, state::State, text::counted},
};
use std::time::Duration;

/// Below this part of attributed traffic the figure is marked.
const GOOD_COVERAGE: f64 = 0.95;

/// From this width on figures have words beside them.
const ROOMY: u16 = 60;

/// From this height on each direction has a line of its own.
const TALL: u16 = 16;

/// From this height on graphs have two lines.
const VERY_TALL: u16 = 36;

/// What goes over loopback is shown from this rate on: a little always does.
const SHOWN_LOOPBACK: Rate = Rate::from_bytes_per_second(10_000);

/// Columns of a reason that are worth more than none.
const SOME_REASON: usize = 16;

/// A figure that nobody knows yet.
const UNKNOWN: &str = "-";

/// What the graphs show.
const SPAN: Duration = Duration::from_secs(120);

/// Lines of a direction's graph, in a terminal of this size.
const fn graph_lines(size: Size) -> u16 {
    match size.height {
        VERY_TALL.. => 2,
        _ => 1,
    }
}

/// Lines of the whole header, in a terminal of this size.
pub fn lines(size: Size) -> u16 {
    if size.height < TALL || size.width < ROOMY {
        2
    } else {
        2 * graph_lines(size) + 1
    }
}

/// Draws it.
pub fn render(frame: &mut Frame, area: Rect, state: &State, theme: &Theme) {
    let size = frame.area().as_size();
    let mut drawn = match lines(size) {
        2 => vec![traffic_in_a_line(state, theme, area.width)],
        _ => Direction::BOTH
            .into_iter()
            .flat_map(|direction| traffic(state, direction, theme, area.width, graph_lines(size)))
            .collect(),
    };
    drawn.push(enforcement(state, theme, area.width));
    for (line, y) in drawn.into_iter().zip(area.top()..area.bottom()) {
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

const fn arrow(direction: Direction) -> &'static str {
    match direction {
        Direction::Download => "↓",
        Direction::Upload => "↑",
    }
}

const fn style(direction: Direction, theme: &Theme) -> Style {
    match direction {
        Direction::Download => theme.download,
        Direction::Upload => theme.upload,
    }
}

fn values(state: &State, direction: Direction, columns: usize) -> Vec<f32> {
    let points = state.history.host(columns, SPAN).into_iter();
    points
        .map(|point| point.map_or(0.0, |point| *point.get(direction)))
        .collect()
}

/// Both directions in one line.
fn traffic_in_a_line(state: &State, theme: &Theme, width: u16) -> Line<'static> {
    let rate_width = state.preferences.units.width() + 2;
    let half = width / 2;
    let columns = usize::from(half.saturating_sub(rate_width + 4));
    let spans = Direction::BOTH.into_iter().flat_map(|direction| {
        let rate = rate(state, direction);
        let style = style(direction, theme);
        let values = values(state, direction, columns);
        let bars = graph::bars(&values, most(&values), 1).concat();
        [
            Span::styled(
                format!(" {}{}", arrow(direction), right(&rate, rate_width)),
                style,
            ),
            Span::styled(format!(" {bars} "), style.not_bold()),
        ]
    });
    Line::from_iter(spans)
}

/// What the whole machine moves in a direction.
fn rate(state: &State, direction: Direction) -> String {
    match state.phase {
        Phase::Starting => UNKNOWN.to_owned(),
        _ => (state.preferences.units).rate(state.snapshot.moved(direction).0),
    }
}

fn most(values: &[f32]) -> f32 {
    // What is next to nothing must not look like a storm.
    values.iter().copied().fold(1000.0, f32::max)
}

/// One direction, in one line or two.
fn traffic(
    state: &State,
    direction: Direction,
    theme: &Theme,
    width: u16,
    lines: u16,
) -> Vec<Line<'static>> {
    let (units, snapshot) = (state.preferences.units, &state.snapshot);
    let style = style(direction, theme);
    let rate = right(&rate(state, direction), units.width() + 2);
    let total = match state.phase {
        Phase::Starting => UNKNOWN.to_owned(),
        _ => units.amount(snapshot.moved(direction).1),
    };
    let total = right(&total, units.width() + 1);
    let (left, right) = (rate.width() + 4, total.width() + 8);
    let columns = usize::from(width).saturating_sub(left + right);
    let values = values(state, direction, columns);
    let most = most(&values);
    let mut bars = graph::bars(&values, most, usize::from(lines));
    let last = bars.pop().unwrap_or_default();
    let mut drawn = Vec::new();
    for line in bars {
        // The scale stands at the top.
        let rate = Rate::from_bytes_per_second(most as u64);
        let scale = match state.phase {
            Phase::Starting => String::new(),
            _ => format!("  {}", units.rate(rate)),
        };
        drawn.push(Line::from(vec![
            Span::raw(" ".repeat(left)),
            Span::styled(line, style.not_bold()),
            Span::styled(scale, theme.faint),
        ]));
    }
    drawn.push(Line::from(vec![
        Span::styled(format!(" {} {rate} ", arrow(direction)), style),
        Span::styled(last, style.not_bold()),
        Span::styled("  total", theme.faint),
        Span::raw(total),
    ]));
    drawn
}

/// What is said about limits, in the order of its worth: what does not fit gives way from the end.
fn enforcement(state: &State, theme: &Theme, width: u16) -> Line<'static> {
    if state.phase == Phase::Starting {
        return Line::styled(" starting", theme.faint);
    }
    let snapshot = &state.snapshot;
    let roomy = width >= ROOMY;
    let is_daemon = matches!(state.phase.keeper(), Keeper::Daemon { .. });
    let mut said: Vec<(String, Style)> = Vec::new();
    if state.frozen.is_some() {
        said.push(("FROZEN".into(), theme.warning));
    }
    let limited = state.limits().count();
    if matches!(state.phase, Phase::Stopped(_)) {
        let what = if is_daemon { "daemon" } else { "engine" };
        said.push((format!("! the {what} has stopped"), theme.error));
    } else {
        let style = match limited {
            0 => theme.faint,
            _ => theme.limited,
        };
        let limits = counted(limited, "limit", "limits");
        let whose = match is_daemon && roomy {
            true => " of the daemon",
            false => "",
        };
        said.push((format!("{limits}{whose}"), style));
    }
    let failing = snapshot.processes.iter().filter(|row| {
        let limits = [&row.limit, &row.local_limit].into_iter().flatten();
        limits.into_iter().any(|l| l.effect.not_enforced.is_some())
    });
    let failing = failing.count();
    if failing > 0 {
        said.push((format!("! {failing} not enforced"), theme.warning));
    }
    let units = state.preferences.units;
    for (uplink, rate) in snapshot.devices.with_strangers() {
        let rate = units.rate(rate);
        let text = format!("! {}: {} by no process here", uplink.name, rate.trim());
        said.push((text, theme.warning));
    }
    if !state.filter.is_empty() {
        let processes: u32 = state.rows.iter().map(|row| row.processes).sum();
        let of = snapshot.processes.len();
        let text = cut(state.filter.text(), width / 3);
        said.push((format!("/{text}: {processes} of {of}"), theme.key));
    }
    if !state.tags.is_empty() {
        said.push((format!("{} tagged", state.tags.len()), theme.key));
    }
    let coverage = snapshot.coverage();
    let word = if roomy { "coverage " } else { "" };
    // Rounded down: 100 % is all of it.
    let percent = format!("{word}{:.1} %", (coverage * 1000.0).floor() / 10.0);
    let mechanism = mechanism(snapshot, roomy);
    let manner = (mechanism.clone(), theme.faint);
    if coverage < GOOD_COVERAGE {
        said.push((format!("! {percent}"), theme.warning));
        said.push(manner);
    } else {
        said.push(manner);
        said.push((percent, theme.faint));
    }
    let view = state.preferences.view;
    let rows = match view {
        crate::listing::rows::View::Processes => {
            counted(snapshot.processes.len(), "process", "processes")
        }
        _ => format!("{} {}", state.rows.len(), view.name()),
    };
    said.push((rows, theme.faint));
    if snapshot.devices.loopback >= SHOWN_LOOPBACK {
        let rate = units.rate(snapshot.devices.loopback);
        said.push((format!("lo {}", rate.trim()), theme.faint));
    }
    let every = humantime::format_duration(state.preferences.interval);
    said.push((format!("every {every}"), theme.faint));

    let mut line = Line::default();
    for (text, style) in said {
        let gap = if line.spans.is_empty() { " " } else { " · " };
        let room = usize::from(width).saturating_sub(line.width() + gap.width());
        let text = match text.width() > room && text == mechanism {
            // Without the reason, or with as much of it as fits.
            true => match room.saturating_sub(snapshot.mechanism.to_string().len()) {
                0..SOME_REASON => snapshot.mechanism.to_string(),
                _ => cut(&text, room as u16),
            },
            false => text,
        };
        if text.width() > room {
            break;
        }
        line.push_span(Span::styled(gap, theme.faint));
        line.push_span(Span::styled(text, style));
    }
    line
}

/// How limits are enforced, with the reason where it is not the best way.
fn mechanism(snapshot: &Snapshot, roomy: bool) -> String {
    match &snapshot.why_policing {
        Some(why) if roomy => format!("{}: {}", snapshot.mechanism, cut(why, 40)),
        _ => snapshot.mechanism.to_string(),
    }
}
