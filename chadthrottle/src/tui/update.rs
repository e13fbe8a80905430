//! The only place where the state changes: a message in, at most one effect out.

use std::time::SystemTime;

use super::{
    action::{Action, Ask, Effect, Message, Step},
    dialog::{Dialog, subject, terms},
    state::{LogPane, LogPart, Overlay, Selection, State},
    view,
};
use crate::engine::{
    command::Command,
    snapshot::{Limits, Severity},
};

/// Changes the state as the message says.
pub fn update(state: &mut State, message: Message, now: SystemTime) -> Option<Effect> {
    state.now = now;
    match message {
        Message::Act(action) => return act(state, action),
        Message::Paste(text) => {
            if let Overlay::Dialog(dialog) = &mut state.overlay {
                dialog.paste(&text);
            }
        }
        Message::Snapshot(snapshot) => state.take(snapshot),
        Message::EngineStopped => {
            state.engine_stopped = true;
            let text = "the engine has stopped: nothing is measured or limited any more";
            state.notices.add(Severity::Warning, text.into(), now);
        }
        Message::Answered(ask, result) => answered(state, &ask, result),
        Message::Log(lines, path) => {
            state.log = lines;
            state.log_path = path;
        }
        Message::Resize(size) => {
            state.size = size;
            state.settle();
        }
        Message::Tick => {}
    }
    None
}

fn act(state: &mut State, action: Action) -> Option<Effect> {
    match action {
        Action::Quit => return Some(Effect::Quit),
        Action::Suspend => return Some(Effect::Suspend),
        Action::Redraw => return Some(Effect::Redraw),
        Action::Move(step) => move_by(state, step),
        Action::Throttle => throttle(state),
        Action::RemoveLimit => return remove_limit(state),
        Action::Help => {
            state.overlay = match state.overlay {
                Overlay::Help { .. } => Overlay::None,
                _ => Overlay::Help { scroll: 0 },
            };
        }
        Action::Log => {
            state.overlay = match state.overlay {
                Overlay::Log(_) => Overlay::None,
                _ => Overlay::Log(LogPane {
                    focus: LogPart::Lines,
                    back: [0; 2],
                }),
            };
        }
        Action::Back => state.overlay = Overlay::None,
        Action::Next | Action::Previous => match &mut state.overlay {
            Overlay::Dialog(dialog) => dialog.switch(),
            Overlay::Log(pane) => {
                pane.focus = match pane.focus {
                    LogPart::Notices => LogPart::Lines,
                    LogPart::Lines => LogPart::Notices,
                };
            }
            Overlay::None | Overlay::Help { .. } => {}
        },
        Action::Edit(request) => {
            if let Overlay::Dialog(dialog) = &mut state.overlay {
                dialog.edit(request);
            }
        }
        Action::Apply => {
            if let Overlay::Dialog(dialog) = &mut state.overlay {
                return apply(dialog);
            }
        }
    }
    None
}

fn move_by(state: &mut State, step: Step) {
    let [rows, page] = match &state.overlay {
        Overlay::None => [state.order.len(), view::table_lines(state.size)],
        Overlay::Help { .. } => view::help::lines_and_page(state.size),
        Overlay::Log(pane) => view::log::lines_and_page(state, pane.focus),
        Overlay::Dialog(_) => return,
    };
    let last_first = rows.saturating_sub(page);
    match &mut state.overlay {
        Overlay::None => {
            match step {
                // The first line is kept selected, whatever comes to it.
                Step::First => state.selection = Selection::Busiest,
                _ => state.select(stepped(state.line(), step, page, rows.saturating_sub(1))),
            }
            state.settle();
        }
        Overlay::Help { scroll } => *scroll = stepped(*scroll, step, page, last_first),
        Overlay::Log(pane) => {
            // It is kept as lines back from the newest, so that new lines don't move it off.
            let back = &mut pane.back[pane.focus as usize];
            let first = last_first.saturating_sub(*back);
            *back = last_first - stepped(first, step, page, last_first);
        }
        Overlay::Dialog(_) => {}
    }
}

fn stepped(from: usize, step: Step, page: usize, last: usize) -> usize {
    let page = page.saturating_sub(1).max(1);
    match step {
        Step::Up => from.saturating_sub(1),
        Step::Down => from + 1,
        Step::PageUp => from.saturating_sub(page),
        Step::PageDown => from + page,
        Step::First => 0,
        Step::Last => last,
    }
    .min(last)
}

fn throttle(state: &mut State) {
    let Some(row) = state.selected() else { return };
    if row.ended {
        let text = format!("{} has ended: there is nothing to limit", subject(row));
        state.notices.add(Severity::Info, text, state.now);
        return;
    }
    let dialog = Dialog::new(state.next_dialog, row);
    state.next_dialog += 1;
    // From here on this process is meant, whatever overtakes it.
    state.select(state.line());
    state.overlay = Overlay::Dialog(Box::new(dialog));
}

fn remove_limit(state: &mut State) -> Option<Effect> {
    let row = state.selected()?;
    let (key, subject) = (row.key, subject(row));
    if row.limit.is_none() {
        let text = format!("{subject} is not limited");
        state.notices.add(Severity::Info, text, state.now);
        return None;
    }
    let limits = Limits::default();
    Some(Effect::Ask(Ask {
        command: Command::limit(key, limits),
        subject,
        limits,
        dialog: None,
    }))
}

fn apply(dialog: &mut Dialog) -> Option<Effect> {
    if dialog.waiting {
        return None;
    }
    let limits = match dialog.limits() {
        Ok(limits) => limits,
        Err(wrong) => {
            dialog.focus = wrong;
            dialog.insisted = true;
            return None;
        }
    };
    if dialog.ended {
        dialog.error = Some(format!("{} has ended; nothing was limited", dialog.subject));
        return None;
    }
    dialog.error = None;
    dialog.waiting = true;
    Some(Effect::Ask(Ask {
        command: Command::limit(dialog.key, limits),
        subject: dialog.subject.clone(),
        limits,
        dialog: Some(dialog.id),
    }))
}

fn answered(state: &mut State, ask: &Ask, result: Result<(), String>) {
    let Ask { subject, .. } = ask;
    let waiting = match &mut state.overlay {
        Overlay::Dialog(dialog) if Some(dialog.id) == ask.dialog => Some(dialog),
        _ => None,
    };
    let (severity, text) = match (result, waiting) {
        (Ok(()), waiting) => {
            if waiting.is_some() {
                state.overlay = Overlay::None;
            }
            let text = match ask.limits.is_unlimited() {
                true => format!("{subject} is unlimited"),
                false => format!("limited {subject}{}", terms(&ask.limits)),
            };
            (Severity::Info, text)
        }
        (Err(error), Some(dialog)) => {
            // Where the person is looking; the log pane has it too.
            dialog.waiting = false;
            dialog.error = Some(error.clone());
            (Severity::Warning, format!("{subject}: {error}"))
        }
        (Err(error), None) => (Severity::Warning, format!("{subject}: {error}")),
    };
    state.notices.add(severity, text, state.now);
}

#[cfg(test)]
mod tests;
