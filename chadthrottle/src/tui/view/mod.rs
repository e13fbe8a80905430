//! From the state to a picture: one file a part. Nothing here does input or output or changes
//! the state.

pub mod ascii;
pub mod details;
pub mod dialog;
mod fitting;
pub mod footer;
mod graph;
pub mod header;
pub mod help;
pub mod limits;
pub mod log;
mod pane;
pub mod question;
pub mod table;
mod text;
pub mod theme;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Position, Rect, Size},
    text::Line,
};

use super::{
    action::Action,
    dialog::{Choice, Part},
    state::{Overlay, State},
};
use crate::{listing::column::Column, rate::Rate};
use theme::Theme;

/// The smallest terminal that everything fits in.
pub const SMALLEST: Size = Size::new(40, 10);

/// Where the parts of the screen are.
#[derive(Clone, Copy, Debug)]
struct Areas {
    header: Rect,
    body: Rect,
    notice: Rect,
    footer: Rect,
}

impl Areas {
    fn of(area: Rect) -> Self {
        let [header, body, notice, footer] = Layout::vertical([
            Constraint::Length(header::lines(area.as_size())),
            Constraint::Fill(1),
            Constraint::Length(1),
            Constraint::Length(1),
        ])
        .areas(area);
        Self {
            header,
            body,
            notice,
            footer,
        }
    }

    fn of_size(size: Size) -> Self {
        Self::of(Rect::from(size))
    }

    /// Where dialogs lie.
    fn middle(&self) -> Rect {
        self.body.union(self.notice)
    }
}

/// Something that can be pointed at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spot {
    /// A row of the table.
    Row(usize),
    /// A column's heading.
    Heading(Column),
    /// A key's word in the footer, or a button that does the same.
    Key(Action),
    /// A part of the dialog.
    Part(Part),
    /// A row of the list of limits.
    Limit(usize),
    /// One of the dialog's choices.
    Option(Choice, usize),
    /// A rate at hand in the dialog.
    Rate(Rate),
}

/// What is where the mouse points.
pub fn spot(state: &State, position: Position) -> Option<Spot> {
    if too_small(state.size) {
        return None;
    }
    let areas = Areas::of_size(state.size);
    if areas.footer.contains(position) {
        return footer::key_at(state, areas.footer, position).map(Spot::Key);
    }
    match &state.overlay {
        Overlay::None => table::spot(state, areas.body, position),
        Overlay::Dialog(dialog) => dialog::spot(state, dialog, areas.middle(), position),
        Overlay::Question(question) => question::spot(question, areas.middle(), position),
        Overlay::Limits(pane) => limits::spot(state, pane, areas.body, position),
        Overlay::Details(_) | Overlay::Help { .. } | Overlay::Log(_) => None,
    }
}

/// Rows that the table shows at once; the headings take a line.
pub fn table_lines(size: Size) -> usize {
    usize::from(Areas::of_size(size).body.height.saturating_sub(1)).max(1)
}

/// Draws everything.
pub fn render(frame: &mut Frame, state: &State, theme: &Theme) {
    let area = frame.area();
    if too_small(area.as_size()) {
        say_too_small(frame, area);
        return;
    }
    let areas = Areas::of(area);
    header::render(frame, areas.header, state, theme);
    match &state.overlay {
        Overlay::Details(pane) => details::render(frame, areas.body, state, pane, theme),
        Overlay::Help { scroll } => help::render(frame, areas.body, state, *scroll, theme),
        Overlay::Log(pane) => log::render(frame, areas.body, state, pane, theme),
        Overlay::Limits(pane) => limits::render(frame, areas.body, state, pane, theme),
        Overlay::None | Overlay::Dialog(_) | Overlay::Question(_) => {
            table::render(frame, areas.body, state, theme);
        }
    }
    footer::render_notice(frame, areas.notice, state, theme);
    footer::render_keys(frame, areas.footer, state, theme);
    match &state.overlay {
        Overlay::Dialog(dialog) => {
            frame.buffer_mut().set_style(areas.body, theme.behind);
            dialog::render(frame, areas.middle(), state, dialog, theme);
        }
        Overlay::Question(question) => {
            frame.buffer_mut().set_style(areas.body, theme.behind);
            question::render(frame, areas.middle(), question, theme);
        }
        _ => {}
    }
}

fn too_small(size: Size) -> bool {
    size.width < SMALLEST.width || size.height < SMALLEST.height
}

fn say_too_small(frame: &mut Frame, area: Rect) {
    let lines = [
        format!("The terminal is {}×{};", area.width, area.height),
        format!("{}×{} is needed.", SMALLEST.width, SMALLEST.height),
        "q quits".into(),
    ];
    let top = area.height.saturating_sub(lines.len() as u16) / 2;
    for (line, y) in lines.into_iter().zip(top..area.height) {
        let row = Rect::new(area.x, y, area.width, 1);
        frame.render_widget(Line::from(line).centered(), row);
    }
}
