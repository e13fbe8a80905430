//! The terminal interface.
//!
//! Data flows one way: snapshot → [`state`] → [`view`]; key → [`keymap`] → action → [`update`] →
//! effect → engine. The view does no input or output and changes nothing; `update` gets the time
//! as an argument; only [`terminal`] touches the terminal's modes.

pub mod action;
pub mod dialog;
pub mod keymap;
pub mod notices;
mod session;
pub mod state;
pub mod terminal;
pub mod update;
pub mod view;

use std::path::PathBuf;

pub use session::{Input, Screen, drive, run};

/// Where the log pane gets its lines.
pub trait LogTail {
    /// The last lines, oldest first, at most so many. It must not block.
    fn lines(&self, most: usize) -> Vec<String>;

    /// The file that has all of them, if they go to a file.
    fn path(&self) -> Option<PathBuf>;
}

/// How the screen looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Colours, or only bold, dim and reversed text.
    pub colour: bool,
}

impl Options {
    /// As the environment asks: `NO_COLOR` with any text in it means no colours.
    pub fn from_env() -> Self {
        Self {
            colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}
