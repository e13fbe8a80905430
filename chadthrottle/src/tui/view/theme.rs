//! Colours and other styles, by what they mean.

use ratatui::style::{Color, Modifier, Style};
use serde::{Deserialize, Serialize};

/// Which colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Palette {
    /// For the background that the terminal says it has; for a dark one if it doesn't say.
    #[default]
    Auto,
    /// Bright ones, for a dark background.
    Dark,
    /// Deep ones, for a light background.
    Light,
    /// None: bold, faint and reversed text only.
    Plain,
}

impl Palette {
    /// The one after this.
    pub const fn next(self) -> Self {
        match self {
            Self::Auto => Self::Dark,
            Self::Dark => Self::Light,
            Self::Light => Self::Plain,
            Self::Plain => Self::Auto,
        }
    }

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "colours for the terminal's background",
            Self::Dark => "colours for a dark background",
            Self::Light => "colours for a light background",
            Self::Plain => "no colours",
        }
    }
}

/// Styles by meaning. Only the terminal's own 16 colours, so that they fit its scheme, and
/// nothing is told by colour alone.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    /// Titles and column names.
    pub title: Style,
    /// What matters less: zeros, units, hints.
    pub faint: Style,
    /// Downloads.
    pub download: Style,
    /// Uploads.
    pub upload: Style,
    /// The selected row, the focused field.
    pub selected: Style,
    /// Limited, and below the limit.
    pub limited: Style,
    /// Held at its limit.
    pub at_limit: Style,
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
    /// The table behind a dialog.
    pub behind: Style,
}

impl Theme {
    /// The styles of a palette.
    pub fn new(palette: Palette) -> Self {
        let paint = |dark: Color, light: Color| match palette {
            Palette::Auto | Palette::Dark => Style::new().fg(dark),
            Palette::Light => Style::new().fg(light),
            Palette::Plain => Style::new(),
        };
        // Yellow and cyan can't be read on white.
        let accent = paint(Color::Cyan, Color::Blue);
        let other = paint(Color::Magenta, Color::Magenta);
        let amber = paint(Color::Yellow, Color::Red);
        let red = paint(Color::Red, Color::Red);
        let bold = Modifier::BOLD;
        // Many terminals draw faint text on white too light to be read.
        let faint = match palette {
            Palette::Light => Style::new().fg(Color::DarkGray),
            _ => Style::new().add_modifier(Modifier::DIM),
        };
        Self {
            title: Style::new().add_modifier(bold),
            faint,
            download: accent.add_modifier(bold),
            upload: other.add_modifier(bold),
            selected: Style::new().add_modifier(Modifier::REVERSED),
            limited: amber,
            at_limit: amber.add_modifier(bold),
            blocked: red.add_modifier(bold),
            warning: amber.add_modifier(bold),
            error: red.add_modifier(bold),
            key: accent.add_modifier(bold),
            border: faint,
            behind: Style::new()
                .remove_modifier(Modifier::REVERSED | bold)
                .patch(faint),
        }
    }
}
