//! The last lines: the newest notice, and the keys.

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr;

use super::{text::cut, theme::Theme};
use crate::{
    engine::snapshot::{LimitState, ProcessRow, Severity},
    tui::{
        dialog::{subject, terms},
        keymap,
        notices::Entry,
        state::{Overlay, State},
    },
};

/// Draws the newest notice until it has faded; then, of a selected limited process, its limit in
/// full, for which the table may have no room.
pub fn render_notice(frame: &mut Frame, area: Rect, state: &State, theme: &Theme) {
    let (text, style) = match (state.notices.fresh(state.now), &state.overlay) {
        // The dialog says it in full.
        (_, Overlay::Dialog(dialog)) if dialog.error.is_some() => return,
        (Some(notice), _) => self::notice(notice, state, area.width, theme),
        (None, Overlay::None) => match state.selected().and_then(|row| limit(row, theme)) {
            Some(shown) => shown,
            None => return,
        },
        (None, _) => return,
    };
    frame.render_widget(Line::styled(cut(&text, area.width), style), area);
}

fn notice(notice: &Entry, state: &State, width: u16, theme: &Theme) -> (String, Style) {
    let (mark, style) = match notice.severity {
        Severity::Info => (" ", Style::new()),
        Severity::Warning => ("! ", theme.warning),
    };
    let mut text = format!("{mark}{}", notice.text);
    // When something is wrong, the next question is where to read more.
    if let (Severity::Warning, Some(path)) = (notice.severity, &state.log_path) {
        let more = format!("  (log: {})", path.display());
        if text.width() + more.width() <= usize::from(width) {
            text.push_str(&more);
        }
    }
    (text, style)
}

fn limit(row: &ProcessRow, theme: &Theme) -> Option<(String, Style)> {
    let limit = row.limit.as_ref().filter(|_| !row.ended)?;
    let LimitState { limits, effect, .. } = limit;
    Some(match &effect.not_enforced {
        Some(why) => (
            format!("! {} not enforced: {why}", subject(row)),
            theme.warning,
        ),
        None => {
            let (subject, terms, how) = (subject(row), terms(limits), limit.effect.manner());
            let text = format!(" {subject} limited{terms} · {how}");
            (text, theme.faint)
        }
    })
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
