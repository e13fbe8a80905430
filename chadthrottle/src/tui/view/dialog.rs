//! The throttle dialog.

use chadthrottle_common::traffic::Direction;
use ratatui::{
    Frame,
    layout::{Position, Rect},
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::{Clear, Padding},
};
use unicode_width::UnicodeWidthStr;

use super::{
    Spot, pane,
    text::{cut, left, wrap_in},
    theme::Theme,
};
use crate::{
    rate::{Rate, Units},
    tui::{
        dialog::{Button, Choice, Dialog, Part},
        state::State,
    },
};

/// As wide as the longest usual explanation.
const WIDEST: u16 = 72;

/// Columns before a field.
const LABEL: u16 = 12;

/// How much there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Room {
    /// The fields, one of the choices, one sentence and the buttons.
    Little,
    /// All choices.
    Enough,
    /// Blank lines and hints, too.
    Plenty,
}

impl Room {
    const fn of(height: u16) -> Self {
        match height.saturating_sub(2) {
            0..13 => Self::Little,
            13..18 => Self::Enough,
            _ => Self::Plenty,
        }
    }
}

/// Lines of one message at most; junk that was pasted must not push the fields away.
const MESSAGE_LINES: usize = 3;

/// What the dialog looks like: its lines, and what in them can be pointed at.
#[derive(Default)]
struct Picture {
    lines: Vec<Line<'static>>,
    spots: Vec<(Rect, Spot)>,
    cursor: Option<Position>,
}

impl Picture {
    /// Notes that something of this width begins at a column of the line that comes next.
    fn mark(&mut self, column: u16, width: u16, spot: Spot) {
        let y = self.lines.len() as u16;
        self.spots.push((Rect::new(column, y, width, 1), spot));
    }
}

/// Where it lies, and what it looks like.
fn place(state: &State, dialog: &Dialog, area: Rect, theme: &Theme) -> (Rect, Picture) {
    let width = area.width.min(WIDEST);
    let room = Room::of(area.height);
    let picture = picture(state, dialog, width.saturating_sub(4), room, theme);
    let place = pane::over(area, WIDEST, picture.lines.len());
    (place, picture)
}

/// Draws it over `area`.
pub fn render(frame: &mut Frame, area: Rect, state: &State, dialog: &Dialog, theme: &Theme) {
    let (place, picture) = place(state, dialog, area, theme);
    let title = format!(
        " Limit {} ",
        cut(dialog.words(), place.width.saturating_sub(12))
    );
    let block = pane::block(&title, theme.key, theme).padding(Padding::horizontal(1));
    let inner = block.inner(place);
    frame.render_widget(Clear, place);
    frame.render_widget(block, place);
    for (line, y) in picture.lines.into_iter().zip(inner.top()..inner.bottom()) {
        frame.render_widget(
            line,
            Rect {
                y,
                height: 1,
                ..inner
            },
        );
    }
    if let Some(cursor) = picture.cursor {
        let cursor = Position::new(inner.x + cursor.x, inner.y + cursor.y);
        if inner.contains(cursor) {
            frame.set_cursor_position(cursor);
        }
    }
}

/// What is where the mouse points.
pub fn spot(state: &State, dialog: &Dialog, area: Rect, position: Position) -> Option<Spot> {
    let theme = Theme::new(state.preferences.palette);
    let (place, picture) = place(state, dialog, area, &theme);
    let inside = Position {
        x: position.x.checked_sub(place.x + 2)?,
        y: position.y.checked_sub(place.y + 1)?,
    };
    let mut spots = picture.spots.into_iter();
    spots
        .find(|(area, _)| area.contains(inside))
        .map(|(_, spot)| spot)
}

fn picture(state: &State, dialog: &Dialog, width: u16, room: Room, theme: &Theme) -> Picture {
    let mut picture = Picture::default();
    let roomy = room == Room::Plenty;
    for (direction, label) in [
        (Direction::Download, "Download"),
        (Direction::Upload, "Upload"),
    ] {
        field(&mut picture, dialog, direction, label, width, theme);
        match dialog.entry(direction) {
            Err(error) => {
                // While it is being typed it is a hint; once Enter was pressed, an error.
                let style = match dialog.insisted {
                    true => theme.error,
                    false => Style::new(),
                };
                let most = if room == Room::Little {
                    2
                } else {
                    MESSAGE_LINES
                };
                let words = wrap_in(&error.to_string(), width.saturating_sub(LABEL), most);
                let indented = words
                    .into_iter()
                    .map(|text| format!("{}{text}", left("", LABEL)));
                picture
                    .lines
                    .extend(indented.map(|text| Line::styled(text, style)));
            }
            Ok(_) if roomy => picture.lines.push(Line::default()),
            Ok(_) => {}
        }
    }
    let mut most = MESSAGE_LINES;
    if room == Room::Little {
        let mut choices = Choice::ALL.into_iter();
        let focused = choices.find(|choice| dialog.focus == Part::Choice(*choice));
        // The explanation of a wrong entry takes the place of both.
        let is_explained = dialog.limits().is_err();
        most = if is_explained { 0 } else { 2 };
        if let Some(focused) = focused.filter(|_| !is_explained) {
            choice(&mut picture, dialog, focused, width, theme);
            most = 1;
        }
    } else {
        rates(&mut picture, dialog, width, state.preferences.units, theme);
        for shown in Choice::ALL {
            choice(&mut picture, dialog, shown, width, theme);
        }
        picture.lines.push(Line::default());
    }
    let (text, style) = message(state, dialog, theme);
    let words = wrap_in(&text, width, most).into_iter();
    picture.lines.extend(words.map(|l| Line::styled(l, style)));
    if room > Room::Little {
        // The frame must not move while a person types.
        let whole: usize = if roomy { 14 } else { 11 };
        let missing = whole.saturating_sub(picture.lines.len());
        picture
            .lines
            .extend(std::iter::repeat_n(Line::default(), missing));
        picture
            .lines
            .push(Line::styled(now(state, dialog), theme.faint));
    }
    if roomy {
        let hint = "500K 1.5MB/s 1MiB 8mbit · 0 blocks · empty: unlimited";
        picture
            .lines
            .push(Line::styled(cut(hint, width), theme.faint));
        picture.lines.push(Line::default());
    }
    buttons(&mut picture, dialog, width, theme);
    picture
}

/// A choice of several: all of them where they fit, else the chosen one.
fn choice(picture: &mut Picture, dialog: &Dialog, choice: Choice, width: u16, theme: &Theme) {
    let (options, chosen) = dialog.options(choice);
    let focused = dialog.focus == Part::Choice(choice);
    let label_style = if focused { theme.key } else { theme.faint };
    picture.mark(0, LABEL, Spot::Part(Part::Choice(choice)));
    let mut line = Line::from(Span::styled(left(choice.label(), LABEL), label_style));
    let all: usize = options.iter().map(|option| option.width() + 3).sum();
    let fits = all <= usize::from(width.saturating_sub(LABEL)) + 1;
    for (at, option) in options.iter().enumerate() {
        if !fits && at != chosen {
            continue;
        }
        let (text, style) = match (at == chosen, focused) {
            (true, true) => (format!("[{option}]"), theme.selected),
            (true, false) => (format!("[{option}]"), theme.title),
            (false, _) => (format!(" {option} "), theme.faint),
        };
        let column = line.width() as u16;
        picture.mark(column, text.width() as u16, Spot::Option(choice, at));
        line.push_span(Span::styled(text, style));
        line.push_span(" ");
    }
    if !fits {
        let place = format!("{} of {}", chosen + 1, options.len());
        line.push_span(Span::styled(place, theme.faint));
    }
    picture.lines.push(line);
}

/// What applying would do, or why it can't.
fn message(state: &State, dialog: &Dialog, theme: &Theme) -> (String, Style) {
    if let Some(error) = &dialog.error {
        (error.clone(), theme.error)
    } else if dialog.ended() {
        let subject = dialog.words();
        (
            format!("{subject}: ended; there is nothing left to limit"),
            theme.warning,
        )
    } else if dialog.waiting && !dialog.changed {
        ("applying…".into(), theme.faint)
    } else if let Some(sentence) = dialog.sentence(state.preferences.units) {
        (sentence, theme.title)
    } else {
        (
            "nothing changes until the entry is right".into(),
            theme.faint,
        )
    }
}

fn field(
    picture: &mut Picture,
    dialog: &Dialog,
    direction: Direction,
    label: &str,
    width: u16,
    theme: &Theme,
) {
    let input = dialog.fields.get(direction);
    let focused = dialog.focus == Part::Rate(direction);
    let width = width.saturating_sub(LABEL);
    let scroll = input.visual_scroll(usize::from(width.saturating_sub(1)));
    if focused {
        let column = input.visual_cursor().saturating_sub(scroll) as u16;
        picture.cursor = Some(Position::new(LABEL + column, picture.lines.len() as u16));
    }
    let mut skipped = 0;
    let shown: String = input
        .value()
        .chars()
        .skip_while(|c| {
            skipped += c.to_string().width();
            skipped <= scroll
        })
        .collect();
    let text = match input.value().is_empty() {
        true => Span::styled(left("unlimited", width), theme.faint),
        false => Span::raw(left(&shown, width)),
    };
    let text = text.patch_style(Style::new().add_modifier(Modifier::UNDERLINED));
    let label_style = if focused { theme.key } else { theme.faint };
    let label = Span::styled(left(label, LABEL), label_style);
    picture.mark(0, LABEL + width, Spot::Part(Part::Rate(direction)));
    picture.lines.push(Line::from(vec![label, text]));
}

/// Rates that are put into the field at a click, or with a key.
fn rates(picture: &mut Picture, dialog: &Dialog, width: u16, units: Units, theme: &Theme) {
    let mut line = Line::from(Span::styled(left("Rates", LABEL), theme.faint));
    let now = dialog
        .field()
        .and_then(|direction| dialog.entry(direction).ok().flatten());
    for rate in dialog.rates() {
        let text = match units {
            Units::DecimalBytes => rate.exact(),
            _ => units.figure(*rate).replace(' ', ""),
        };
        let column = line.width() as u16;
        if column + text.width() as u16 > width {
            break;
        }
        picture.mark(column, text.width() as u16, Spot::Rate(*rate));
        let style = if now == Some(*rate) {
            theme.selected
        } else {
            Style::new()
        };
        line.push_span(Span::styled(text, style));
        line.push_span("  ");
    }
    picture.lines.push(line);
}

fn buttons(picture: &mut Picture, dialog: &Dialog, width: u16, theme: &Theme) {
    let mut line = Line::default();
    for button in Button::ALL {
        let text = match width >= 44 {
            true => format!("[ {} ]", button.label()),
            false => format!("[{}]", button.label()),
        };
        let style = match dialog.focus == Part::Button(button) {
            true => theme.selected,
            false => theme.key,
        };
        let column = line.width() as u16;
        picture.mark(
            column,
            text.width() as u16,
            Spot::Part(Part::Button(button)),
        );
        line.push_span(Span::styled(text, style));
        line.push_span(" ");
    }
    picture.lines.push(line);
}

/// What those that are meant do at this moment, to choose a limit by.
fn now(state: &State, dialog: &Dialog) -> String {
    let units = state.preferences.units;
    let rows: Vec<_> = dialog.rows(&state.snapshot).collect();
    if rows.is_empty() {
        return match dialog.ended() {
            true => "ended".into(),
            false => "not listed now: it has no open sockets".into(),
        };
    }
    let sum = |direction| {
        let rates = rows
            .iter()
            .map(|row| row.rate.get(direction).bytes_per_second());
        let rate = units.rate(Rate::from_bytes_per_second(
            rates.fold(0, u64::saturating_add),
        ));
        format!("{rate:>width$}", width = usize::from(units.width()) + 2)
    };
    format!(
        "now ↓ {}  ↑ {}",
        sum(Direction::Download),
        sum(Direction::Upload)
    )
}
