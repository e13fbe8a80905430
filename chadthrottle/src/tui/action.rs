//! What can happen to the screen's state, and what the state asks of the world.

use std::{path::PathBuf, sync::Arc};

use ratatui::layout::Size;
use tui_input::InputRequest;

use crate::engine::{
    command::Command,
    snapshot::{Limits, Snapshot},
};

/// What a key asks for; the keymap says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Moves the selection, or scrolls what is open.
    Move(Step),
    /// Opens the throttle dialog for the selected process.
    Throttle,
    /// Removes the limit of the selected process.
    RemoveLimit,
    /// Shows or hides the keys.
    Help,
    /// Shows or hides notices and log lines.
    Log,
    /// Leaves what is open.
    Back,
    /// Goes to the next field or part.
    Next,
    /// Goes to the previous field or part.
    Previous,
    /// Applies the dialog.
    Apply,
    /// Changes the text of the focused field.
    Edit(InputRequest),
    /// Draws everything anew.
    Redraw,
    /// Stops as Ctrl-Z stops any program.
    Suspend,
    /// Ends the program.
    Quit,
}

/// How far to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// One line up.
    Up,
    /// One line down.
    Down,
    /// A screenful up.
    PageUp,
    /// A screenful down.
    PageDown,
    /// To the first line.
    First,
    /// To the last line.
    Last,
}

/// Everything that changes the state, from wherever it comes.
#[derive(Clone, Debug)]
pub enum Message {
    /// A key that the keymap knows.
    Act(Action),
    /// A pasted text.
    Paste(String),
    /// A new sample.
    Snapshot(Arc<Snapshot>),
    /// The engine will send no more samples.
    EngineStopped,
    /// The engine's answer, with its error in words.
    Answered(Ask, Result<(), String>),
    /// The last log lines, oldest first, and the file they are in.
    Log(Vec<String>, Option<PathBuf>),
    /// The terminal's size.
    Resize(Size),
    /// Only time has passed.
    Tick,
}

/// What the state asks of the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask the engine.
    Ask(Ask),
    /// Draw everything anew.
    Redraw,
    /// Stop as Ctrl-Z stops any program.
    Suspend,
    /// End the program.
    Quit,
}

/// A question to the engine, and what its answer is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// What the engine is to do.
    pub command: Command,
    /// The process in words: name and id.
    pub subject: String,
    /// The limits it is to have.
    pub limits: Limits,
    /// The dialog that waits for the answer.
    pub dialog: Option<u64>,
}
