//! The throttle dialog.

use chadthrottle_common::traffic::Direction;
use ratatui::{
    Frame,
    layout::{Position, Rect},
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::{Block, BorderType, Clear, Padding},
};
use unicode_width::UnicodeWidthStr;

use super::{
    text::{cut, left, wrap},
    theme::Theme,
};
use crate::tui::{dialog::Dialog, state::State};

/// As wide as the longest usual explanation.
const WIDEST: u16 = 72;

/// Columns before a field.
const LABEL: u16 = 10;

/// Lines of everything there is to say, when the terminal has them.
const ROOMY: u16 = 10;

/// Lines of one message at most; junk that was pasted must not push the fields away.
const MESSAGE_LINES: usize = 3;

/// Draws it over `area`.
pub fn render(frame: &mut Frame, area: Rect, state: &State, dialog: &Dialog, theme: &Theme) {
    let width = area.width.min(WIDEST);
    let inner_width = width.saturating_sub(4);
    let roomy = area.height >= ROOMY + 2;
    let (lines, cursor) = lines(state, dialog, inner_width, roomy, theme);
    // The frame must not move while a person types.
    let least = if roomy {
        usize::from(ROOMY)
    } else {
        lines.len()
    };
    let height = area.height.min(lines.len().max(least) as u16 + 2);
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 3,
        width,
        height,
    };
    let title = format!(
        " Limit {} ",
        cut(&dialog.subject, inner_width.saturating_sub(8))
    );
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(theme.key)
        .title(Span::styled(title, theme.title))
        .padding(Padding::horizontal(1));
    let inner = block.inner(place);
    frame.render_widget(Clear, place);
    frame.render_widget(block, place);
    for (line, y) in lines.into_iter().zip(inner.top()..inner.bottom()) {
        frame.render_widget(
            line,
            Rect {
                y,
                height: 1,
                ..inner
            },
        );
    }
    let cursor = Position::new(inner.x + cursor.x, inner.y + cursor.y);
    if inner.contains(cursor) {
        frame.set_cursor_position(cursor);
    }
}

fn lines(
    state: &State,
    dialog: &Dialog,
    width: u16,
    roomy: bool,
    theme: &Theme,
) -> (Vec<Line<'static>>, Position) {
    let mut lines = Vec::new();
    let mut cursor = Position::default();
    let field_width = width.saturating_sub(LABEL);
    for (direction, label) in [
        (Direction::Download, "Download"),
        (Direction::Upload, "Upload"),
    ] {
        let input = dialog.fields.get(direction);
        let focused = dialog.focus == direction;
        let scroll = input.visual_scroll(usize::from(field_width.saturating_sub(1)));
        if focused {
            let column = input.visual_cursor().saturating_sub(scroll) as u16;
            cursor = Position::new(LABEL + column, lines.len() as u16);
        }
        lines.push(field(
            label,
            input.value(),
            scroll,
            focused,
            field_width,
            theme,
        ));
        match dialog.entry(direction) {
            Err(error) => {
                // While it is being typed it is a hint; once Enter was pressed, an error.
                let style = match dialog.insisted {
                    true => theme.error,
                    false => Style::new(),
                };
                let words = wrap(&error.to_string(), field_width);
                lines.extend(
                    words
                        .into_iter()
                        .take(MESSAGE_LINES)
                        .map(|text| Line::styled(format!("{}{text}", left("", LABEL)), style)),
                );
            }
            Ok(_) if roomy => lines.push(Line::default()),
            Ok(_) => {}
        }
    }
    let mut say = |text: &str, style| {
        let words = wrap(text, width);
        lines.extend(
            words
                .into_iter()
                .take(MESSAGE_LINES)
                .map(|l| Line::styled(l, style)),
        );
    };
    if let Some(error) = &dialog.error {
        say(error, theme.error);
    } else if dialog.ended {
        let text = format!(
            "{} has ended: there is nothing left to limit",
            dialog.subject
        );
        say(&text, theme.warning);
    } else if dialog.waiting {
        say("applying…", theme.faint);
    } else if let Some(sentence) = dialog.sentence() {
        say(&sentence, theme.title);
    } else {
        say("nothing changes until the entry is right", theme.faint);
    }
    if roomy {
        let missing = usize::from(ROOMY).saturating_sub(lines.len() + 2).max(1);
        lines.extend(std::iter::repeat_n(Line::default(), missing));
        lines.push(Line::styled(now(state, dialog), theme.faint));
        let hint = "500K 1.5MB/s 1MiB 8mbit · 0 blocks · empty: unlimited";
        lines.push(Line::styled(cut(hint, width), theme.faint));
    }
    (lines, cursor)
}

fn field(
    label: &str,
    value: &str,
    scroll: usize,
    focused: bool,
    width: u16,
    theme: &Theme,
) -> Line<'static> {
    let label_style = if focused { theme.key } else { theme.faint };
    let mut skipped = 0;
    let shown: String = value
        .chars()
        .skip_while(|c| {
            skipped += c.to_string().width();
            skipped <= scroll
        })
        .collect();
    let text = match (value.is_empty(), focused) {
        (true, false) => Span::styled("unlimited", theme.faint),
        (true, true) => Span::styled(left(" unlimited", width), theme.faint),
        (false, _) => Span::raw(left(&shown, width)),
    };
    let text = if focused {
        text.patch_style(underlined())
    } else {
        text
    };
    Line::from(vec![Span::styled(left(label, LABEL), label_style), text])
}

fn underlined() -> Style {
    Style::new().add_modifier(Modifier::UNDERLINED)
}

/// What the process does at this moment, to choose a limit by.
fn now(state: &State, dialog: &Dialog) -> String {
    let mut rows = state.snapshot.processes.iter();
    match rows.find(|row| row.key == dialog.key) {
        Some(row) if !row.ended => {
            format!("now ↓ {:>9}  ↑ {:>9}", row.rate.download, row.rate.upload)
        }
        Some(_) => "ended".into(),
        None => "not listed now: it has no open sockets".into(),
    }
}
