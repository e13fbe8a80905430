//! Colours and other styles, by what they mean.

use ratatui::style::{Color, Modifier, Style};

/// Styles by meaning. Only the terminal's own 16 colours, so that they fit its background, and
/// nothing is told by colour alone.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    /// Titles and column names.
    pub title: Style,
    /// What matters less: zeros, units, hints.
    pub faint: Style,
    /// Downloads in the header.
    pub download: Style,
    /// Uploads in the header.
    pub upload: Style,
    /// The selected row, the focused field.
    pub selected: Style,
    /// Limited.
    pub limited: Style,
    /// Blocked.
    pub blocked: Style,
    /// Something does not work as asked.
    pub warning: Style,
    /// Wrong.
    pub error: Style,
    /// Names of keys.
    pub key: Style,
    /// Borders of panes and dialogs.
    pub border: Style,
}

impl Theme {
    /// The styles, with colours or without.
    pub fn new(colour: bool) -> Self {
        let paint = |c: Color| {
            if colour {
                Style::new().fg(c)
            } else {
                Style::new()
            }
        };
        Self {
            title: Style::new().add_modifier(Modifier::BOLD),
            faint: Style::new().add_modifier(Modifier::DIM),
            download: paint(Color::Cyan).add_modifier(Modifier::BOLD),
            upload: paint(Color::Magenta).add_modifier(Modifier::BOLD),
            selected: Style::new().add_modifier(Modifier::REVERSED),
            limited: paint(Color::Yellow),
            blocked: paint(Color::Red),
            warning: paint(Color::Yellow).add_modifier(Modifier::BOLD),
            error: paint(Color::Red).add_modifier(Modifier::BOLD),
            key: paint(Color::Cyan).add_modifier(Modifier::BOLD),
            border: Style::new().add_modifier(Modifier::DIM),
        }
    }
}
