//! The last lines: the newest notice or the filter, and the keys.

use ratatui::{
    Frame,
    layout::{Position, Rect},
    style::Style,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr;

use super::{text::cut, theme::Theme};
use crate::{
    listing::rows::{Subject, limit_of},
    model::{limit::LimitState, notice::Severity, priority::Priority, snapshot::ProcessRow},
    rate::Units,
    tui::{
        action::Action,
        keymap,
        notices::Entry,
        state::{Overlay, State},
        text::{subject, terms},
    },
};

/// Draws the filter while it is typed, what is taken back soon, or the newest notice until it has
/// faded; then, of a selected limited process, its limit in full, for which the table may have no
/// room.
pub fn render_notice(frame: &mut Frame, area: Rect, state: &State, theme: &Theme) {
    if let (Overlay::None, Some((input, _))) = (&state.overlay, &state.editing) {
        filter(frame, area, input, theme);
        return;
    }
    let (text, style) = match (state.notices.fresh(state.now), &state.overlay) {
        // The dialog says it in full.
        (_, Overlay::Dialog(dialog)) if dialog.error.is_some() => return,
        _ if state.probation.is_some() => (probation(state), theme.error),
        (Some(notice), _) => self::notice(notice, state, area.width, theme),
        (None, Overlay::None) => match selected_limit(state, theme) {
            Some(shown) => shown,
            None => return,
        },
        (None, Overlay::Limits(_)) => match state.selected_limit() {
            Some(limit) => super::limits::in_full(state, limit, theme),
            None => return,
        },
        (None, _) => return,
    };
    frame.render_widget(Line::styled(cut(&text, area.width), style), area);
}

fn filter(frame: &mut Frame, area: Rect, input: &tui_input::Input, theme: &Theme) {
    let room = usize::from(area.width.saturating_sub(2));
    let scroll = input.visual_scroll(room);
    let mut skipped = 0;
    let typed = input.value().chars().skip_while(|c| {
        skipped += c.to_string().width();
        skipped <= scroll
    });
    let mut line = Line::from(vec![
        Span::styled("/", theme.key),
        Span::raw(cut(&typed.collect::<String>(), area.width - 1)),
    ]);
    let hint = "  name, user:, pid:, port:, program:, unit:, limited, !not";
    if input.value().is_empty() {
        line.push_span(Span::styled(cut(hint, area.width - 1), theme.faint));
    }
    frame.render_widget(line, area);
    let column = input.visual_cursor().saturating_sub(scroll) as u16;
    frame.set_cursor_position(Position::new(
        area.x + 1 + column.min(area.width - 2),
        area.y,
    ));
}

fn probation(state: &State) -> String {
    let Some(probation) = &state.probation else {
        return String::new();
    };
    let left = probation
        .until
        .duration_since(state.now)
        .unwrap_or_default();
    let seconds = left.as_secs_f64().ceil();
    let subject = &probation.undo.subject;
    format!("! press K to keep the limit of {subject}: it is taken back in {seconds} s")
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

fn selected_limit(state: &State, theme: &Theme) -> Option<(String, Style)> {
    let row = state.selected_row()?;
    let process = state.lead(row)?;
    match row.subject {
        Subject::Process(_) => limit(process, state.preferences.units, theme),
        _ => None,
    }
}

fn limit(row: &ProcessRow, units: Units, theme: &Theme) -> Option<(String, Style)> {
    let limit = limit_of(row).filter(|_| !row.ended)?;
    let LimitState {
        limits,
        priority,
        effect,
        ..
    } = limit;
    let limit = limit.terms();
    Some(match &effect.not_enforced {
        Some(why) => (
            format!("! {} not enforced: {why}", subject(row)),
            theme.warning,
        ),
        None => {
            let terms = terms(limit, units);
            let word = match priority {
                Priority::Background => "in the background",
                Priority::Normal if row.is_without_rules() => "waits for what is important: held",
                Priority::Normal if limit.comes_first() => "is important",
                Priority::Normal => "limited",
                Priority::High if limits.is_unlimited() => "is important",
                Priority::High => "is important, limited",
            };
            let text = format!(" {} {word}{terms} · {}", subject(row), effect.manner());
            (text, theme.faint)
        }
    })
}

/// A key's word, with the keys.
struct Hint {
    keys: String,
    word: &'static str,
    action: Action,
}

impl Hint {
    fn width(&self) -> usize {
        self.keys.width() + self.word.width() + 3
    }
}

/// The keys that fit.
fn hints(state: &State, width: u16) -> Vec<Hint> {
    let mut hints: Vec<Hint> = Vec::new();
    for binding in keymap::in_context(state.context()) {
        let (Some(short), Some(key)) = (binding.short, binding.keys.first()) else {
            continue;
        };
        // ↑ and ↓ do one thing to the reader.
        match hints.last_mut() {
            Some(hint) if hint.word == short => hint.keys.push_str(&format!(" {key}")),
            _ => hints.push(Hint {
                keys: key.to_string(),
                word: short,
                action: binding.action,
            }),
        }
    }
    // The last two, help and quit on the main screen, are shown before those in the middle.
    let mut kept = hints.split_off(hints.len().saturating_sub(2));
    let mut left_over = usize::from(width).saturating_sub(kept.iter().map(Hint::width).sum());
    let count = hints
        .iter()
        .take_while(|hint| {
            let fits = hint.width() <= left_over;
            left_over = if fits { left_over - hint.width() } else { 0 };
            fits
        })
        .count();
    hints.truncate(count);
    hints.append(&mut kept);
    hints
}

/// Draws the keys of what is open.
pub fn render_keys(frame: &mut Frame, area: Rect, state: &State, theme: &Theme) {
    let spans = hints(state, area.width).into_iter().flat_map(|hint| {
        [
            Span::styled(format!(" {}", hint.keys), theme.key),
            Span::raw(format!(" {} ", hint.word)),
        ]
    });
    frame.render_widget(Line::from_iter(spans), area);
}

/// What the key does whose word is where the mouse points.
pub fn key_at(state: &State, area: Rect, position: Position) -> Option<Action> {
    let mut end = area.x;
    for hint in hints(state, area.width) {
        end += hint.width() as u16;
        if position.x < end {
            return Some(hint.action);
        }
    }
    None
}
