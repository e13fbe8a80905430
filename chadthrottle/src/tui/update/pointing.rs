//! What the mouse means where it is.

use ratatui::layout::Position;

use super::{act, apply, filtering};
use crate::tui::{
    action::{Action, Effect, Mouse, Step},
    dialog::Part,
    state::{Overlay, State},
    view::{Spot, spot},
};

/// Lines that a turn of the wheel moves by.
const WHEEL: usize = 3;

/// The mouse did something.
pub(super) fn pointed(state: &mut State, mouse: Mouse, position: Position) -> Option<Effect> {
    match mouse {
        Mouse::Wheel { up } => {
            let step = if up { Step::Up } else { Step::Down };
            for _ in 0..WHEEL {
                act(state, Action::Move(step));
            }
            None
        }
        Mouse::Press => pressed(state, spot(state, position)?),
    }
}

fn pressed(state: &mut State, spot: Spot) -> Option<Effect> {
    match spot {
        Spot::Key(action) => return act(state, action),
        Spot::Heading(column) => filtering::sort_by(state, column),
        Spot::Row(line) if line == state.line() => return act(state, Action::Details),
        Spot::Row(line) => {
            state.select(line);
            state.settle();
        }
        Spot::Limit(line) => {
            let selected = state.selected_limit().map(|limit| limit.id);
            state.select_limit(line);
            if selected == state.selected_limit().map(|limit| limit.id) {
                return act(state, Action::Throttle);
            }
        }
        Spot::Option(choice, at) => {
            if let Overlay::Dialog(dialog) = &mut state.overlay {
                dialog.focus = Part::Choice(choice);
                dialog.set_option(choice, at);
                dialog.meet(&state.snapshot);
            }
        }
        Spot::Part(part) => {
            let Overlay::Dialog(dialog) = &mut state.overlay else {
                return None;
            };
            dialog.focus = part;
            if matches!(part, Part::Button(_)) {
                return apply(state);
            }
        }
        Spot::Rate(rate) => {
            if let Overlay::Dialog(dialog) = &mut state.overlay {
                dialog.put_focused(rate);
            }
        }
    }
    None
}
