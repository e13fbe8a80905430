//! The only place where the state changes: a message in, at most one effect out.

mod filtering;
mod limiting;
mod pointing;

use std::time::SystemTime;

use super::{
    action::{Action, Effect, Message, Step},
    shown::{Keeper, Phase},
    state::{DetailsPane, LogPane, LogPart, Overlay, Selection, State, Yes},
    text::counted,
    view,
};
use crate::{listing::rows::Subject, model::notice::Severity};

/// Changes the state as the message says.
pub fn update(state: &mut State, message: Message, now: SystemTime) -> Option<Effect> {
    state.now = now;
    match message {
        Message::Act(action) => return act(state, action),
        Message::Mouse(mouse, position) => return pointing::pointed(state, mouse, position),
        Message::Paste(text) => match &mut state.overlay {
            Overlay::Dialog(dialog) => dialog.paste(&text),
            Overlay::None => filtering::paste(state, &text),
            _ => {}
        },
        Message::Started {
            snapshot,
            past,
            keeper,
        } => state.start(snapshot, &past, keeper),
        Message::Snapshot(snapshot) => state.take(snapshot),
        Message::EngineStopped => {
            let keeper = state.phase.keeper();
            state.phase = Phase::Stopped(keeper);
            // That a daemon has stopped is said by whoever spoke with it.
            if keeper == Keeper::This {
                let text = "the engine has stopped: nothing is measured or limited any more";
                state.notices.add(Severity::Warning, text.into(), now);
            }
        }
        Message::Answered(ask, result) => limiting::answered(state, ask, result),
        Message::Log(lines, path) => {
            state.log = lines;
            state.log_path = path;
        }
        Message::Names(names) => state.names.extend(names),
        Message::Carriers(carriers) => state.carriers = carriers.into_iter().collect(),
        Message::Resize(size) => {
            state.size = size;
            state.settle();
        }
        Message::Tick => return limiting::revert_if_due(state),
    }
    None
}

fn act(state: &mut State, action: Action) -> Option<Effect> {
    match action {
        Action::Quit => return quit(state),
        Action::QuitNow => return Some(Effect::Quit),
        Action::Suspend => return Some(Effect::Suspend),
        Action::Redraw => return Some(Effect::Redraw),
        Action::Move(step) => move_by(state, step),
        Action::Details => details(state),
        Action::Throttle => limiting::open(state, None),
        Action::Prioritize(priority) => return limiting::prioritize(state, priority),
        Action::Block => limiting::open(state, Some(super::dialog::BLOCKED)),
        Action::RemoveLimit => return limiting::remove(state),
        Action::RemoveAll => limiting::remove_all(state),
        Action::Undo => return limiting::undo(state),
        Action::Keep => limiting::keep(state),
        Action::Tag => tag(state),
        Action::Filter => filtering::open(state),
        Action::Sort { forward } => filtering::sort_next(state, forward),
        Action::Reverse => filtering::reverse(state),
        Action::View { forward } => filtering::view_next(state, forward),
        Action::Freeze => freeze(state),
        Action::Units => {
            state.preferences.units = state.preferences.units.next();
            say(
                state,
                format!("amounts are shown in {}", state.preferences.units.name()),
            );
        }
        Action::Interval { longer } => {
            state.preferences.change_interval(longer);
            let every = humantime::format_duration(state.preferences.interval);
            say(state, format!("a sample every {every}"));
        }
        Action::Palette => {
            state.preferences.palette = state.preferences.palette.next();
            say(state, state.preferences.palette.name().to_owned());
        }
        Action::Mouse => {
            state.preferences.mouse = !state.preferences.mouse;
            let text = match state.preferences.mouse {
                true => "the mouse selects, scrolls, sorts and presses buttons",
                false => "the mouse is the terminal's own: it selects text",
            };
            say(state, text.to_owned());
        }
        Action::Names => state.show_names = !state.show_names,
        Action::Help => {
            state.beneath = None;
            state.overlay = match state.overlay {
                Overlay::Help { .. } => Overlay::None,
                _ => Overlay::Help { scroll: 0 },
            };
        }
        Action::Log => {
            state.beneath = None;
            state.overlay = match state.overlay {
                Overlay::Log(_) => Overlay::None,
                _ => Overlay::Log(LogPane {
                    focus: LogPart::Lines,
                    back: [0; 2],
                }),
            };
        }
        Action::Limits => limiting::list(state),
        Action::Back => back(state),
        Action::Next | Action::Previous => match &mut state.overlay {
            Overlay::Dialog(dialog) => dialog.go(action == Action::Next),
            Overlay::Log(pane) => {
                pane.focus = match pane.focus {
                    LogPart::Notices => LogPart::Lines,
                    LogPart::Lines => LogPart::Notices,
                };
            }
            _ => {}
        },
        Action::Choose { forward } => {
            if let Overlay::Dialog(dialog) = &mut state.overlay {
                dialog.choose(forward);
                dialog.meet(&state.snapshot);
            }
        }
        Action::Edit(request) => match &mut state.overlay {
            Overlay::Dialog(dialog) => {
                dialog.edit(request);
                if matches!(dialog.focus, super::dialog::Part::Choice(_)) {
                    dialog.meet(&state.snapshot);
                }
            }
            Overlay::None => filtering::edit(state, request),
            _ => {}
        },
        Action::Apply => return apply(state),
    }
    None
}

fn apply(state: &mut State) -> Option<Effect> {
    match &state.overlay {
        Overlay::Dialog(_) => limiting::press(state),
        Overlay::None => {
            state.editing = None;
            None
        }
        Overlay::Question(question) => {
            let yes = question.yes.clone();
            state.close();
            Some(match yes {
                Yes::Ask(ask) => Effect::Ask(*ask),
                Yes::Quit => Effect::Quit,
            })
        }
        _ => None,
    }
}

/// Says something for a moment.
fn say(state: &mut State, text: String) {
    state.notices.add(Severity::Info, text, state.now);
}

fn back(state: &mut State) {
    match state.overlay {
        Overlay::None if state.editing.is_some() => filtering::drop_edit(state),
        Overlay::None if !state.tags.is_empty() => state.tags.clear(),
        Overlay::None => filtering::widen(state),
        _ => state.close(),
    }
}

fn quit(state: &mut State) -> Option<Effect> {
    let limited = state.limits().count();
    let Phase::Running(keeper) = state.phase else {
        return Some(Effect::Quit);
    };
    if limited == 0 {
        return Some(Effect::Quit);
    }
    let limits = counted(limited, "limit", "limits");
    let (end, stay, them) = match limited {
        1 => ("ends", "stays", "it"),
        _ => ("end", "stay", "them"),
    };
    let text = match keeper {
        Keeper::This => format!("{limits} in force {end} when you leave."),
        Keeper::Daemon { pid } => format!(
            "{limits} {stay} in force when you leave: the daemon (process {pid}) keeps {them}."
        ),
    };
    state.lay_over(Overlay::Question(Box::new(super::state::Question {
        title: "Quit".into(),
        text: vec![text, "Quit?".into()],
        yes: Yes::Quit,
    })));
    None
}

fn freeze(state: &mut State) {
    if state.phase == Phase::Starting {
        return;
    }
    match state.frozen.take() {
        Some(latest) => {
            state.take(latest);
            say(state, "the picture moves again".into());
        }
        None => {
            state.frozen = Some(state.snapshot.clone());
            say(
                state,
                "the picture is held still; limits still work; f goes on".into(),
            );
        }
    }
}

fn tag(state: &mut State) {
    let Some(row) = state.selected_row() else {
        return;
    };
    let subject = row.subject.clone();
    if state.lead(row).is_some_and(|row| row.ended) {
        return;
    }
    if !state.tags.remove(&subject) {
        state.tags.insert(subject);
    }
    // On to the next, as in htop, so that several are tagged quickly.
    move_by(state, Step::Down);
}

fn details(state: &mut State) {
    let Some(row) = state.selected_row() else {
        return;
    };
    let subject = row.subject.clone();
    if !matches!(subject, Subject::Process(_)) {
        filtering::narrow(state, &subject);
        return;
    }
    let Some(last) = state.selected().cloned() else {
        return;
    };
    state.select(state.line());
    state.overlay = Overlay::Details(Box::new(DetailsPane {
        subject,
        last,
        scroll: 0,
    }));
}

fn move_by(state: &mut State, step: Step) {
    let [rows, page] = match &state.overlay {
        Overlay::None => [state.rows.len(), view::table_lines(state.size)],
        Overlay::Limits(_) => [state.limits().count(), view::limits::lines(state.size)],
        Overlay::Details(_) => view::details::lines_and_page(state),
        Overlay::Help { .. } => view::help::lines_and_page(state.size),
        Overlay::Log(pane) => view::log::lines_and_page(state, pane.focus),
        Overlay::Dialog(_) | Overlay::Question(_) => return,
    };
    let last_first = rows.saturating_sub(page);
    match &mut state.overlay {
        Overlay::None => {
            match step {
                // The first line is kept selected, whatever comes to it.
                Step::First => state.selection = Selection::Top,
                _ => state.select(stepped(state.line(), step, page, rows.saturating_sub(1))),
            }
            state.settle();
        }
        Overlay::Limits(pane) => {
            let line = stepped(pane.line, step, page, rows.saturating_sub(1));
            state.select_limit(line);
        }
        Overlay::Details(pane) => pane.scroll = stepped(pane.scroll, step, page, last_first),
        Overlay::Help { scroll } => *scroll = stepped(*scroll, step, page, last_first),
        Overlay::Log(pane) => {
            // It is kept as lines back from the newest, so that new lines don't move it off.
            let back = &mut pane.back[pane.focus as usize];
            let first = last_first.saturating_sub(*back);
            *back = last_first - stepped(first, step, page, last_first);
        }
        Overlay::Dialog(_) | Overlay::Question(_) => {}
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

#[cfg(test)]
mod tests;
