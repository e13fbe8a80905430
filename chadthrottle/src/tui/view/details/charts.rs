//! Traffic over the last minutes, with the limit drawn in.

use std::time::Duration;

use chadthrottle_common::traffic::Direction;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Style,
    symbols::Marker,
    text::{Line, Span},
    widgets::{Axis, Block, Chart, Dataset, GraphType},
};

use super::super::{text::right, theme::Theme};
use crate::{model::snapshot::ProcessRow, rate::Rate, tui::state::State};

/// They show at most so much.
const SPAN: Duration = Duration::from_secs(300);

/// Both directions beside each other.
pub(super) fn render(
    frame: &mut Frame,
    area: Rect,
    state: &State,
    row: &ProcessRow,
    theme: &Theme,
) {
    let [down, gap, up] = Layout::horizontal([
        Constraint::Fill(1),
        Constraint::Length(2),
        Constraint::Fill(1),
    ])
    .areas(area);
    let _ = gap;
    let span = state.history.span().clamp(Duration::from_secs(60), SPAN);
    for (direction, area, name, style) in [
        (Direction::Download, down, "Download", theme.download),
        (Direction::Upload, up, "Upload", theme.upload),
    ] {
        chart(
            frame,
            area,
            state,
            row,
            direction,
            (name, style),
            span,
            theme,
        );
    }
}

#[expect(clippy::too_many_arguments, reason = "all of it is one chart")]
fn chart(
    frame: &mut Frame,
    area: Rect,
    state: &State,
    row: &ProcessRow,
    direction: Direction,
    (name, style): (&str, Style),
    span: Duration,
    theme: &Theme,
) {
    let units = state.preferences.units;
    // Two dots of braille beside each other.
    let columns = usize::from(area.width) * 2;
    let points = state.history.of(std::iter::once(row.key), columns, span);
    let values: Vec<(f64, f64)> = points
        .iter()
        .enumerate()
        .filter_map(|(x, point)| Some((x as f64, f64::from(*point.as_ref()?.get(direction)))))
        .collect();
    let limit = row
        .limit
        .as_ref()
        .and_then(|limit| *limit.limits.get(direction));
    let limit = limit.map(|rate| rate.bytes_per_second() as f64);
    let largest = values.iter().map(|(_, y)| *y).fold(1000.0, f64::max);
    // A limit far above what is moved would flatten everything else.
    let drawn = limit.filter(|limit| *limit < largest * 4.0);
    let top = drawn.unwrap_or(0.0).max(largest) * 1.1;
    let dashes: Vec<(f64, f64)> = drawn
        .into_iter()
        .flat_map(|y| {
            (0..columns)
                .filter(|x| x % 6 < 3)
                .map(move |x| (x as f64, y))
        })
        .collect();
    let label = |value: f64| units.figure(Rate::from_bytes_per_second(value as u64));
    let mut title = vec![Span::styled(name.to_owned(), style)];
    if let Some(limit) = limit {
        let text = match limit {
            0.0 => " blocked".to_owned(),
            _ => format!(" limit {}/s", label(limit)),
        };
        title.push(Span::styled(text, theme.limited));
    }
    let datasets = vec![
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Scatter)
            .style(theme.limited)
            .data(&dashes),
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(style.not_bold())
            .data(&values),
    ];
    let seconds = span.as_secs();
    let ago = match seconds {
        0..120 => format!("{seconds} s ago"),
        _ => format!("{} min ago", seconds / 60),
    };
    let chart = Chart::new(datasets)
        .block(Block::new().title(Line::from(title)))
        .legend_position(None)
        .x_axis(
            Axis::default()
                .style(theme.faint)
                .bounds([0.0, columns.saturating_sub(1) as f64])
                .labels([ago, "now".to_owned()]),
        )
        .y_axis(
            Axis::default()
                .style(theme.faint)
                .bounds([0.0, top])
                .labels([right("0", units.width()), right(&label(top), units.width())]),
        );
    frame.render_widget(chart, area);
}
