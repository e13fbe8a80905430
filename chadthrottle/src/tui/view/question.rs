//! A question to be answered with yes or no.

use ratatui::{
    Frame,
    layout::{Position, Rect},
    text::{Line, Span},
    widgets::{Clear, Padding},
};

use super::{Spot, pane, text::wrap, theme::Theme};
use crate::tui::{action::Action, state::Question};

/// As wide as a sentence is read well.
const WIDEST: u16 = 64;

/// The buttons, with what they do, in their columns.
const BUTTONS: [(&str, Action, u16); 2] = [
    ("[ Yes y ]", Action::Apply, 0),
    ("[ No n ]", Action::Back, 11),
];

fn place(question: &Question, area: Rect) -> (Rect, Vec<String>) {
    let width = area.width.min(WIDEST);
    let words = question.text.iter();
    let lines: Vec<String> = words
        .flat_map(|text| wrap(text, width.saturating_sub(4)))
        .collect();
    let place = pane::over(area, WIDEST, lines.len() + 2);
    (place, lines)
}

fn button(place: Rect, column: u16, label: &str) -> Rect {
    Rect {
        x: place.x + 2 + column,
        y: place.bottom().saturating_sub(2),
        width: label.len() as u16,
        height: 1,
    }
}

/// Draws it over `area`.
pub fn render(frame: &mut Frame, area: Rect, question: &Question, theme: &Theme) {
    let (place, lines) = place(question, area);
    let title = format!(" {} ", question.title);
    let block = pane::block(&title, theme.warning, theme).padding(Padding::horizontal(1));
    let inner = block.inner(place);
    frame.render_widget(Clear, place);
    frame.render_widget(block, place);
    for (line, y) in lines
        .into_iter()
        .zip(inner.top()..inner.bottom().saturating_sub(1))
    {
        frame.render_widget(
            Line::from(line),
            Rect {
                y,
                height: 1,
                ..inner
            },
        );
    }
    for (label, _, column) in BUTTONS {
        let area = button(place, column, label);
        frame.render_widget(Span::styled(label, theme.key), area.intersection(inner));
    }
}

/// What is where the mouse points.
pub fn spot(question: &Question, area: Rect, position: Position) -> Option<Spot> {
    let (place, _) = place(question, area);
    let mut buttons = BUTTONS.iter();
    let pressed =
        buttons.find(|(label, _, column)| button(place, *column, label).contains(position));
    pressed.map(|(_, action, _)| Spot::Key(*action))
}
