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

/// Where a dialog with so many lines lies over an area, at most so wide.
pub(super) fn over(area: Rect, widest: u16, lines: usize) -> Rect {
    let width = area.width.min(widest);
    let height = area.height.min(lines as u16 + 2);
    Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 3,
        width,
        height,
    }
}

/// Its frame.
pub(super) fn block(title: &str, border: Style, theme: &Theme) -> Block<'static> {
    Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(border)
        .title(Span::styled(title.to_owned(), theme.title.not_dim()))
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
    let mut block = block(title, border, theme);
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
