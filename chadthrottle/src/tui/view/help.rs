//! The keys, made from the keymap itself, and the marks.

use ratatui::{
    Frame,
    layout::{Rect, Size},
    text::{Line, Span},
    widgets::{Block, BorderType, Padding},
};

use super::{Areas, text::left, theme::Theme};
use crate::tui::keymap::{self, Context};

const KEYS: u16 = 14;

/// What stands in the table's first column, and what a rate may look like.
const LEGEND: &[(&str, &str)] = &[
    ("▼", "limited"),
    ("■", "blocked, in one direction or both"),
    ("!", "its limit is not, or not fully, enforced"),
    ("†", "ended"),
    ("500K  1.5MB/s", "decimal bytes a second"),
    ("1MiB", "binary bytes a second"),
    ("8mbit  1.5Gbit", "bits a second"),
    ("0", "blocked; an empty field is unlimited"),
];

/// Lines there are, and lines shown at once.
pub fn lines_and_page(size: Size) -> [usize; 2] {
    let page = block(&Theme::new(false)).inner(Areas::of_size(size).body);
    [lines(&Theme::new(false)).len(), usize::from(page.height)]
}

/// Draws it.
pub fn render(frame: &mut Frame, area: Rect, scroll: usize, theme: &Theme) {
    let block = block(theme);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    for (line, y) in lines(theme)
        .into_iter()
        .skip(scroll)
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

fn block(theme: &Theme) -> Block<'static> {
    Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(theme.border)
        .title(Span::styled(" Keys ", theme.title))
        .padding(Padding::horizontal(1))
}

fn lines(theme: &Theme) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for context in [Context::Table, Context::Dialog, Context::Log] {
        lines.push(Line::styled(context.title(), theme.title));
        for binding in keymap::in_context(context) {
            let keys: Vec<String> = binding.keys.iter().map(ToString::to_string).collect();
            lines.push(entry(&keys.join(" "), binding.help, theme));
        }
        lines.push(Line::default());
    }
    lines.push(Line::styled("Marks and rates", theme.title));
    lines.extend(
        LEGEND
            .iter()
            .map(|(sign, meaning)| entry(sign, meaning, theme)),
    );
    lines
}

fn entry(sign: &str, meaning: &'static str, theme: &Theme) -> Line<'static> {
    Line::from(vec![
        Span::styled(left(sign, KEYS), theme.key),
        Span::raw("  "),
        Span::raw(meaning),
    ])
}
