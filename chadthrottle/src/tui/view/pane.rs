//! A frame with a title and lines that can be scrolled.

use ratatui::{
    Frame,
    layout::{Margin, Rect},
    style::Style,
    text::{Line, Span},
    widgets::{Block, BorderType},
};

use super::theme::Theme;

/// Where its lines are.
pub(super) fn inner(area: Rect) -> Rect {
    area.inner(Margin::new(2, 1))
}

/// Draws it from line `first` on; when not all lines fit, the border says which are shown.
pub(super) fn render(
    frame: &mut Frame,
    area: Rect,
    title: &str,
    lines: Vec<Line<'static>>,
    first: usize,
    border: Style,
    theme: &Theme,
) {
    let inner = inner(area);
    let (count, page) = (lines.len(), usize::from(inner.height));
    let first = first.min(count.saturating_sub(page));
    let mut block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(border)
        .title(Span::styled(title.to_owned(), theme.title.not_dim()));
    if count > page {
        let shown = format!(" {}–{} of {count} ", first + 1, first + page);
        block = block.title_bottom(Line::styled(shown, theme.faint).right_aligned());
    }
    frame.render_widget(block, area);
    for (line, y) in lines
        .into_iter()
        .skip(first)
        .zip(inner.top()..inner.bottom())
    {
        frame.render_widget(
            line,
            Rect {
                y,
                height: 1,
                ..inner
            },
        );
    }
}
