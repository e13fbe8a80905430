//! Limits: setting them, removing them, taking that back.

use std::time::Duration;

use super::say;
use crate::{
    engine::{
        command::Command,
        snapshot::{Limits, ProcessRow, Severity},
    },
    tui::{
        action::{Ask, Effect, Undo},
        dialog::{Button, Dialog, Member, Part},
        rows::Subject,
        state::{Overlay, Probation, Question, State, Yes},
        text::{counted, subject, terms},
    },
};

/// How long a limit of what carries the terminal stays unless the person says that it may.
const PROBATION: Duration = Duration::from_secs(30);

/// Changes that can be taken back.
const UNDOABLE: usize = 20;

/// Who is meant: all that is tagged, else the selected row. In words, too.
fn meant(state: &State) -> Option<(Vec<Member>, String)> {
    let tagged = |row: &&ProcessRow| state.tags.iter().any(|tag| tag.holds(row));
    if !state.tags.is_empty() {
        let members: Vec<Member> = state
            .snapshot
            .processes
            .iter()
            .filter(|row| !row.ended)
            .filter(tagged)
            .map(Member::from)
            .collect();
        let words = counted(members.len(), "tagged process", "tagged processes");
        return Some((members, words));
    }
    let row = state.selected_row()?;
    let lead = state.lead(row)?;
    let members = state.members(&row.subject).filter(|row| !row.ended);
    let members: Vec<Member> = members.map(Member::from).collect();
    let processes = counted(members.len(), "process", "processes");
    let words = match &row.subject {
        Subject::Process(_) => subject(lead),
        Subject::Program(name) => format!("{processes} of {name}"),
        Subject::Unit(_) => format!("{processes} in {}", row.name(&state.snapshot)),
        Subject::User(user) => format!("{processes} of user {user}"),
    };
    Some((members, words))
}

/// Opens the dialog.
pub(super) fn open(state: &mut State, filled: Option<Limits>) {
    let Some((members, subject)) = meant(state) else {
        return;
    };
    if members.is_empty() {
        say(
            state,
            format!("{subject} has ended: there is nothing to limit"),
        );
        return;
    }
    let mut dialog = Dialog::new(
        state.next_dialog,
        members,
        subject,
        &state.preferences.last_used,
    );
    if let Some(limits) = filled {
        dialog.fill(limits);
        dialog.focus = Part::Button(Button::Apply);
    }
    dialog.changed = false;
    state.next_dialog += 1;
    // From here on this row is meant, whatever overtakes it.
    state.select(state.line());
    state.overlay = Overlay::Dialog(Box::new(dialog));
}

/// What restores the limits that processes have now.
fn undo_of(members: &[Member], subject: &str) -> Undo {
    let restore = |member: &Member| Command::limit(member.key, member.before);
    Undo {
        subject: subject.to_owned(),
        commands: members.iter().filter(|m| !m.ended).map(restore).collect(),
    }
}

/// Removes the limits of what is meant.
pub(super) fn remove(state: &mut State) -> Option<Effect> {
    let (mut members, subject) = meant(state)?;
    members.retain(|member| !member.before.is_unlimited());
    if members.is_empty() {
        say(state, format!("{subject} is not limited"));
        return None;
    }
    let unlimited = |member: &Member| Command::limit(member.key, Limits::default());
    Some(Effect::Ask(Ask {
        commands: members.iter().map(unlimited).collect(),
        done: format!("{subject}: unlimited"),
        undo: Some(undo_of(&members, &subject)),
        subject,
        dialog: None,
        on_probation: false,
    }))
}

/// Removes all limits, after asking.
pub(super) fn remove_all(state: &mut State) {
    let limited = state
        .snapshot
        .processes
        .iter()
        .filter(|row| row.limit.is_some());
    let members: Vec<Member> = limited.map(Member::from).collect();
    if members.is_empty() {
        say(state, "nothing is limited".into());
        return;
    }
    let limits = counted(members.len(), "limit", "limits");
    let ask = Ask {
        commands: vec![Command::RemoveAll],
        done: format!("removed {limits}"),
        undo: Some(undo_of(&members, &limits)),
        subject: limits.clone(),
        dialog: None,
        on_probation: false,
    };
    state.overlay = Overlay::Question(Box::new(Question {
        title: "Remove all limits".into(),
        text: vec![
            format!("This removes {limits}; u takes that back."),
            "Remove?".into(),
        ],
        yes: Yes::Ask(Box::new(ask)),
    }));
}

/// Takes the last change back.
pub(super) fn undo(state: &mut State) -> Option<Effect> {
    let Some(Undo { subject, commands }) = state.undo.pop() else {
        say(state, "there is nothing to take back".into());
        return None;
    };
    state.probation = None;
    Some(Effect::Ask(Ask {
        commands,
        done: format!("{subject}: limits are as they were before"),
        subject,
        undo: None,
        dialog: None,
        on_probation: false,
    }))
}

/// Enter in the dialog.
pub(super) fn press(state: &mut State) -> Option<Effect> {
    let Overlay::Dialog(dialog) = &mut state.overlay else {
        return None;
    };
    match dialog.focus {
        Part::Rate(_) | Part::Button(Button::Apply) => apply(state),
        Part::Button(Button::Block) => {
            dialog.fill(crate::tui::dialog::BLOCKED);
            dialog.focus = Part::Button(Button::Apply);
            None
        }
        Part::Button(Button::Unlimited) => {
            dialog.fill(Limits::default());
            dialog.focus = Part::Button(Button::Apply);
            None
        }
        Part::Button(Button::Leave) => {
            state.overlay = Overlay::None;
            None
        }
    }
}

fn apply(state: &mut State) -> Option<Effect> {
    let units = state.preferences.units;
    let Overlay::Dialog(dialog) = &mut state.overlay else {
        return None;
    };
    if dialog.waiting && !dialog.changed {
        // The same twice.
        return None;
    }
    let limits = match dialog.limits() {
        Ok(limits) => limits,
        Err(wrong) => {
            dialog.focus = Part::Rate(wrong);
            dialog.insisted = true;
            return None;
        }
    };
    if dialog.ended() {
        dialog.error = Some(format!("{}: ended; nothing was limited", dialog.subject));
        return None;
    }
    let set = |member: &Member| Command::limit(member.key, limits);
    let subject = dialog.subject.clone();
    let mut ask = Ask {
        commands: dialog.running().map(set).collect(),
        done: match limits.is_unlimited() {
            true => format!("{subject}: unlimited"),
            false => format!("limited {subject}{}", terms(&limits, units)),
        },
        undo: Some(undo_of(&dialog.members, &subject)),
        dialog: Some(dialog.id),
        on_probation: false,
        subject,
    };
    let carriers = &state.carriers;
    let carrier = dialog
        .running()
        .find(|member| carriers.contains(&member.key));
    if let Some(carrier) = carrier
        && !limits.is_unlimited()
    {
        let pid = carrier.key.pid;
        ask.dialog = None;
        ask.on_probation = true;
        state.preferences.use_limits(limits);
        state.overlay = Overlay::Question(Box::new(Question {
            title: "This may cut you off".into(),
            text: vec![
                format!(
                    "Process {pid} carries this terminal: what you see and type passes through it."
                ),
                format!(
                    "Unless you press K within {} s, the limit is taken back.",
                    PROBATION.as_secs()
                ),
                format!(
                    "{}?",
                    capitalized(&ask.done.replacen("limited", "limit", 1))
                ),
            ],
            yes: Yes::Ask(Box::new(ask)),
        }));
        return None;
    }
    dialog.error = None;
    dialog.waiting = true;
    dialog.changed = false;
    state.preferences.use_limits(limits);
    Some(Effect::Ask(ask))
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

/// The engine's answer.
pub(super) fn answered(state: &mut State, ask: Ask, result: Result<(), String>) {
    let waiting = match &mut state.overlay {
        Overlay::Dialog(dialog) if Some(dialog.id) == ask.dialog => Some(dialog),
        _ => None,
    };
    // Of several some may have been changed before one was refused.
    let changed = result.is_ok() || ask.commands.len() > 1;
    if let Some(undo) = ask.undo.filter(|_| changed) {
        if ask.on_probation {
            state.probation = Some(Probation {
                until: state.now + PROBATION,
                undo: undo.clone(),
            });
        }
        if state.undo.len() == UNDOABLE {
            state.undo.remove(0);
        }
        state.undo.push(undo);
    }
    let (severity, text) = match result {
        Ok(()) => {
            match waiting {
                // Typed on meanwhile: what is in the fields now was not applied.
                Some(dialog) if dialog.changed => dialog.waiting = false,
                Some(_) => {
                    state.overlay = Overlay::None;
                    state.tags.clear();
                }
                None => {}
            }
            (Severity::Info, ask.done)
        }
        Err(error) => {
            // Where the person is looking; the log pane has it too.
            if let Some(dialog) = waiting {
                dialog.waiting = false;
                if !dialog.changed {
                    dialog.error = Some(error.clone());
                }
            }
            (Severity::Warning, format!("{}: {error}", ask.subject))
        }
    };
    state.notices.add(severity, text, state.now);
}

/// The person can still see this: what was on probation stays.
pub(super) fn keep(state: &mut State) {
    match state.probation.take() {
        Some(probation) => say(
            state,
            format!("kept the limit of {}", probation.undo.subject),
        ),
        None => say(state, "no limit is about to be taken back".into()),
    }
}

/// Takes back what was on probation for long enough.
pub(super) fn revert_if_due(state: &mut State) -> Option<Effect> {
    let due = state.probation.as_ref()?.until <= state.now;
    let Undo { subject, commands } = state.probation.take_if(|_| due)?.undo;
    state.undo.retain(|undo| undo.commands != commands);
    Some(Effect::Ask(Ask {
        commands,
        done: format!("{subject}: the limit was taken back, because nobody pressed K"),
        subject,
        undo: None,
        dialog: None,
        on_probation: false,
    }))
}
