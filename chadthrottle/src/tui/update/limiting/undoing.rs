//! What came of a change, and taking it back.

use std::time::Duration;

use super::super::say;
use crate::{
    model::{
        command::Command,
        limit::{LimitId, LimitRow},
        notice::Severity,
        rule::Rule,
    },
    tui::{
        action::{Ask, Effect, Restore, Undo},
        state::{Overlay, Probation, State},
    },
};

/// How long a limit of what carries the terminal stays unless the person says that it may.
pub(super) const PROBATION: Duration = Duration::from_secs(30);

/// Changes that can be taken back.
const UNDOABLE: usize = 20;

/// The rules in force, to be compared with those after a change.
pub(super) fn before(state: &State) -> Option<Vec<(LimitId, Rule)>> {
    let limits = state.limits_in_force().iter();
    Some(limits.map(|limit| (limit.id, limit.rule.clone())).collect())
}

/// What brings the rules back that were in force before the commands, as far as the commands
/// changed them.
fn undo_of(commands: &[Command], before: &[(LimitId, Rule)], after: &[LimitRow]) -> Vec<Restore> {
    let now = |id: LimitId| after.iter().find(|limit| limit.id == id);
    let set = |rule: &Rule| Restore::Was(rule.clone());
    let mut undo = Vec::new();
    for command in commands {
        match command {
            Command::Set(new) => {
                let replaced = before.iter().find(|(_, old)| new.replaces(old));
                match replaced {
                    Some((id, old)) if now(*id).is_none_or(|limit| limit.rule != *old) => {
                        undo.push(set(old));
                    }
                    Some(_) => {}
                    None => {
                        let mut after = after.iter();
                        let added = after.find(|limit| new.replaces(&limit.rule));
                        undo.extend(
                            added.map(|limit| Restore::WasNot(limit.id, limit.rule.clone())),
                        );
                    }
                }
            }
            Command::Remove(id) if now(*id).is_none() => {
                let old = before.iter().find(|(old, _)| old == id);
                undo.extend(old.map(|(_, rule)| set(rule)));
            }
            Command::RemoveAll => {
                let gone = before.iter().filter(|(id, _)| now(*id).is_none());
                undo.extend(gone.map(|(_, rule)| set(rule)));
            }
            _ => {}
        }
    }
    // Of several set by hand the newest comes first: what came first is set last.
    undo.reverse();
    undo
}

/// Takes the last change back.
pub(in super::super) fn undo(state: &mut State) -> Option<Effect> {
    let Some(undo) = state.undo.pop() else {
        say(state, "there is nothing to take back".into());
        return None;
    };
    let commands = undo.commands(state.limits_in_force());
    let subject = undo.subject;
    state.probation = None;
    Some(Effect::Ask(Ask {
        commands,
        done: format!("{subject}: limits are as they were before"),
        subject,
        before: None,
        dialog: None,
        on_probation: false,
    }))
}

/// The engine's answer.
pub(in super::super) fn answered(state: &mut State, ask: Ask, result: Result<(), String>) {
    let waiting = match &mut state.overlay {
        Overlay::Dialog(dialog) if Some(dialog.id) == ask.dialog => Some(dialog),
        _ => None,
    };
    // Of several commands some may have been carried out before one was refused.
    let after = &state.frozen.as_ref().unwrap_or(&state.snapshot).limits;
    let undo = ask.before.as_ref().map(|before| Undo {
        subject: ask.subject.clone(),
        steps: undo_of(&ask.commands, before, after),
    });
    if let Some(undo) = undo.filter(|undo| !undo.steps.is_empty()) {
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
                    state.close();
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
pub(in super::super) fn keep(state: &mut State) {
    match state.probation.take() {
        Some(probation) => say(
            state,
            format!("kept the limit of {}", probation.undo.subject),
        ),
        None => say(state, "no limit is about to be taken back".into()),
    }
}

/// Takes back what was on probation for long enough.
pub(in super::super) fn revert_if_due(state: &mut State) -> Option<Effect> {
    let due = state.probation.as_ref()?.until <= state.now;
    let undo = state.probation.take_if(|_| due)?.undo;
    state.undo.retain(|other| *other != undo);
    let commands = undo.commands(state.limits_in_force());
    let subject = undo.subject;
    Some(Effect::Ask(Ask {
        commands,
        done: format!("{subject}: the limit was taken back, because nobody pressed K"),
        subject,
        before: None,
        dialog: None,
        on_probation: false,
    }))
}
