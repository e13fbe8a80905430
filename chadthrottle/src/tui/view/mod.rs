//! From the state to a picture: one file a part. Nothing here does input or output or changes
//! the state.

pub mod dialog;
pub mod footer;
pub mod header;
pub mod help;
pub mod log;
mod pane;
pub mod table;
mod text;
pub mod theme;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect, Size},
    text::Line,
};

use super::state::{Overlay, State};
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
            Constraint::Length(2),
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
}

/// Processes that the table shows at once; the header takes a line.
pub fn table_lines(size: Size) -> usize {
    usize::from(Areas::of_size(size).body.height.saturating_sub(1)).max(1)
}

/// Draws everything.
pub fn render(frame: &mut Frame, state: &State, theme: &Theme) {
    let area = frame.area();
    if area.width < SMALLEST.width || area.height < SMALLEST.height {
        too_small(frame, area);
        return;
    }
    let areas = Areas::of(area);
    header::render(frame, areas.header, state, theme);
    match &state.overlay {
        Overlay::Help { scroll } => help::render(frame, areas.body, *scroll, theme),
        Overlay::Log(pane) => log::render(frame, areas.body, state, pane, theme),
        Overlay::None | Overlay::Dialog(_) => table::render(frame, areas.body, state, theme),
    }
    footer::render_notice(frame, areas.notice, state, theme);
    footer::render_keys(frame, areas.footer, state, theme);
    if let Overlay::Dialog(dialog) = &state.overlay {
        frame.buffer_mut().set_style(areas.body, theme.faint);
        dialog::render(frame, areas.body.union(areas.notice), state, dialog, theme);
    }
}

fn too_small(frame: &mut Frame, area: Rect) {
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
