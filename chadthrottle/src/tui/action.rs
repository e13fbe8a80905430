//! What can happen to the screen's state, and what the state asks of the world.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use ratatui::layout::{Position, Size};
use tui_input::InputRequest;

use super::shown::Keeper;
use crate::model::{
    command::Command,
    limit::{LimitId, LimitRow},
    priority::Priority,
    process::ProcessKey,
    rule::Rule,
    snapshot::Snapshot,
};

/// What a key asks for; the keymap says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Moves the selection, or scrolls what is open.
    Move(Step),
    /// Shows all there is to know of the selected row.
    Details,
    /// Opens the throttle dialog for the selected row, or for what is tagged.
    Throttle,
    /// The same, filled in to block.
    Block,
    /// Gives the selected row, or what is tagged, a priority in place of a limit.
    Prioritize(Priority),
    /// Removes the limits of the selected row, or of what is tagged.
    RemoveLimit,
    /// Removes all limits, after asking.
    RemoveAll,
    /// Takes the last change back.
    Undo,
    /// Tags the selected row, or no longer.
    Tag,
    /// Opens the filter's line.
    Filter,
    /// Sorts by the next column, or the one before.
    Sort {
        /// The next.
        forward: bool,
    },
    /// Turns the order round.
    Reverse,
    /// Shows other rows: programs, units, users.
    View {
        /// The next.
        forward: bool,
    },
    /// Stops taking samples, or takes them again.
    Freeze,
    /// Changes what amounts are shown in.
    Units,
    /// Changes the time between samples.
    Interval {
        /// Longer.
        longer: bool,
    },
    /// Changes the colours.
    Palette,
    /// Takes the mouse, or leaves it to the terminal.
    Mouse,
    /// Shows names of addresses, or the addresses.
    Names,
    /// Keeps limits that would be taken back in a moment.
    Keep,
    /// Shows or hides the keys.
    Help,
    /// Shows or hides the limits in force.
    Limits,
    /// Shows or hides notices and log lines.
    Log,
    /// Leaves what is open.
    Back,
    /// Goes to the next field or part.
    Next,
    /// Goes to the previous field or part.
    Previous,
    /// Puts the next of the rates at hand into the field, or chooses the next of what there is.
    Choose {
        /// The next.
        forward: bool,
    },
    /// Applies the dialog, keeps the filter, says yes.
    Apply,
    /// Changes the text of the focused field.
    Edit(InputRequest),
    /// Draws everything anew.
    Redraw,
    /// Stops as Ctrl-Z stops any program.
    Suspend,
    /// Ends the program, after asking if limits end with it.
    Quit,
    /// Ends the program.
    QuitNow,
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

/// What the mouse does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mouse {
    /// The first button goes down.
    Press,
    /// The wheel turns.
    Wheel {
        /// Away from the person.
        up: bool,
    },
}

/// Everything that changes the state, from wherever it comes.
#[derive(Clone, Debug)]
pub enum Message {
    /// A key that the keymap knows.
    Act(Action),
    /// The mouse, and where it is.
    Mouse(Mouse, Position),
    /// A pasted text.
    Paste(String),
    /// The engine is loaded.
    Started {
        /// Its latest sample.
        snapshot: Arc<Snapshot>,
        /// Those before, oldest first.
        past: Vec<Arc<Snapshot>>,
        /// What becomes of its limits when the screen is left.
        keeper: Keeper,
    },
    /// A new sample.
    Snapshot(Arc<Snapshot>),
    /// The engine will send no more samples.
    EngineStopped,
    /// The engine's answer, with its error in words.
    Answered(Ask, Result<(), String>),
    /// The last log lines, oldest first, and the file they are in.
    Log(Vec<String>, Option<PathBuf>),
    /// Names of addresses; nothing where there is none.
    Names(Vec<(IpAddr, Option<String>)>),
    /// The processes through which the person sees this.
    Carriers(Vec<ProcessKey>),
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

/// What the engine is asked to do in one go, and what its answer is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// What it is to do, one after the other.
    pub commands: Vec<Command>,
    /// What is to be said when it was done: `limited curl (4242) to 500 KB/s down`.
    pub done: String,
    /// Whom it is about, in words: `curl (4242)`.
    pub subject: String,
    /// The rules in force before, if it can be taken back.
    pub before: Option<Vec<(LimitId, Rule)>>,
    /// The dialog that waits for the answer.
    pub dialog: Option<u64>,
    /// Limits that are taken back unless the person says that they can still see this.
    pub on_probation: bool,
}

/// How a change is taken back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Undo {
    /// Whom it is about, in words.
    pub subject: String,
    /// What restores the limits there were, one after the other.
    pub steps: Vec<Restore>,
}

/// A step of taking a change back.
#[derive(Clone, Debug, PartialEq)]
pub enum Restore {
    /// This rule was in force.
    Was(Rule),
    /// This one was not. If it was removed and set again since, it has another number.
    WasNot(LimitId, Rule),
}

impl Undo {
    /// What the engine is to do, with these limits in force.
    pub fn commands(&self, limits: &[LimitRow]) -> Vec<Command> {
        let command = |step: &Restore| match step {
            Restore::Was(rule) => Some(Command::Set(Box::new(rule.clone()))),
            Restore::WasNot(id, rule) => {
                let numbered = limits.iter().find(|limit| limit.id == *id);
                let mut alike = limits.iter();
                let limit = numbered.or_else(|| alike.find(|limit| rule.replaces(&limit.rule)))?;
                Some(Command::Remove(limit.id))
            }
        };
        self.steps.iter().filter_map(command).collect()
    }
}
