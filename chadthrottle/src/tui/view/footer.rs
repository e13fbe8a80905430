//! The last lines: the newest notice, and the keys.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr;

use super::{text::cut, theme::Theme};
use crate::{
    engine::snapshot::Severity,
    tui::{keymap, state::State},
};

/// Draws the newest notice until it has faded.
pub fn render_notice(frame: &mut Frame, area: Rect, state: &State, theme: &Theme) {
    let Some(notice) = state.notices.fresh(state.now) else {
        return;
    };
    let (mark, style) = match notice.severity {
        Severity::Info => (" ", theme.faint),
        Severity::Warning => ("! ", theme.warning),
    };
    let mut text = format!("{mark}{}", notice.text);
    // When something is wrong, the next question is where to read more.
    if let (Severity::Warning, Some(path)) = (notice.severity, &state.log_path) {
        let more = format!("  (log: {})", path.display());
        if text.width() + more.width() <= usize::from(area.width) {
            text.push_str(&more);
        }
    }
    frame.render_widget(Line::styled(cut(&text, area.width), style), area);
}

/// Draws the keys of what is open.
pub fn render_keys(frame: &mut Frame, area: Rect, state: &State, theme: &Theme) {
    let mut shown: Vec<(String, &str)> = Vec::new();
    for binding in keymap::in_context(state.context()) {
        let (Some(short), Some(key)) = (binding.short, binding.keys.first()) else {
            continue;
        };
        // ↑ and ↓ do one thing to the reader.
        match shown.last_mut() {
            Some((keys, word)) if *word == short => keys.push_str(&key.to_string()),
            _ => shown.push((key.to_string(), short)),
        }
    }
    // The last two, help and quit on the main screen, are shown before those in the middle.
    let kept = shown.len().saturating_sub(2);
    let width = |(keys, word): &(String, &str)| keys.width() + word.width() + 3;
    let mut left_over =
        usize::from(area.width).saturating_sub(shown[kept..].iter().map(width).sum());
    let mut fits = |entry: &(String, &str)| {
        let fits = width(entry) <= left_over;
        left_over = if fits { left_over - width(entry) } else { 0 };
        fits
    };
    let count = shown[..kept].iter().take_while(|entry| fits(entry)).count();
    let spans = shown[..count]
        .iter()
        .chain(&shown[kept..])
        .flat_map(|(keys, word)| {
            [
                Span::styled(format!(" {keys}"), theme.key),
                Span::raw(format!(" {word} ")),
            ]
        });
    frame.render_widget(Line::from_iter(spans), area);
}
