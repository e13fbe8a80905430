//! Limits: setting them, removing them, taking that back.

use std::{collections::HashSet, time::Duration};

use super::say;
use crate::{
    engine::{
        command::Command,
        snapshot::{LimitId, LimitRow, Limits, ProcessRow, Severity},
    },
    listing::rows::Subject,
    rules::{
        rule::{Origin, Rule},
        target::Target,
    },
    tui::{
        action::{Ask, Effect, Restore, Undo},
        dialog::{Button, Dialog, Part},
        reach::{Reach, limits_of},
        state::{LimitsPane, Overlay, Probation, Question, State, Yes},
        text::{counted, subject, terms},
    },
};

/// How long a limit of what carries the terminal stays unless the person says that it may.
const PROBATION: Duration = Duration::from_secs(30);

/// Changes that can be taken back.
const UNDOABLE: usize = 20;

/// Opens the list of limits.
pub(super) fn list(state: &mut State) {
    state.overlay = Overlay::Limits(LimitsPane::default());
    state.select_limit(0);
}

/// What is meant: all that is tagged, else the selected row. In words, too.
fn meant(state: &State) -> Option<(Vec<&ProcessRow>, String)> {
    let running = state.snapshot.processes.iter().filter(|row| !row.ended);
    if !state.tags.is_empty() {
        let rows: Vec<&ProcessRow> = running
            .filter(|row| state.tags.iter().any(|tag| tag.holds(row)))
            .collect();
        let words = counted(rows.len(), "tagged process", "tagged processes");
        return Some((rows, words));
    }
    let row = state.selected_row()?;
    let lead = state.lead(row)?;
    let words = match &row.subject {
        Subject::Process(_) => subject(lead),
        Subject::Program(name) => format!("the program {name}"),
        Subject::Unit(_) => format!("the unit {}", row.name(&state.snapshot)),
        Subject::User(user) => format!("the user {user}"),
    };
    let rows = running.filter(|other| row.subject.holds(other));
    Some((rows.collect(), words))
}

/// What a limit of what is meant may apply to.
fn reaches(state: &State) -> Vec<Reach> {
    if state.tags.is_empty() {
        let Some(row) = state.selected_row() else {
            return Vec::new();
        };
        let lead = state.lead(row).filter(|lead| match row.subject {
            Subject::Process(_) => !lead.ended,
            _ => true,
        });
        return lead.map_or(Vec::new(), |lead| Reach::of_row(&row.subject, lead));
    }
    let rows = || state.rows.iter();
    let tagged = rows().filter(|row| state.tags.contains(&row.subject));
    let targets: Vec<Target> = tagged
        .filter_map(|row| row.subject.target(state.lead(row)?))
        .collect();
    // What the filter hides stays tagged.
    let hidden = state.tags.iter().filter_map(|tag| match tag {
        Subject::Process(key) => Some(Target::from(*key)),
        _ => None,
    });
    let hidden = hidden.filter(|target| !targets.contains(target));
    let mut all: Vec<Target> = targets.iter().cloned().chain(hidden).collect();
    all.dedup();
    if all.is_empty() {
        return Vec::new();
    }
    let processes = all.iter().all(|t| matches!(t, Target::Process(_)));
    vec![Reach::of_tagged(all, processes)]
}

/// Opens the dialog.
pub(super) fn open(state: &mut State, filled: Option<Limits>) {
    let last_used = &state.preferences.last_used;
    let mut dialog = if let Overlay::Limits(_) = state.overlay {
        let Some(limit) = state.selected_limit().cloned() else {
            return;
        };
        let reach = Reach::of_rule(&limit.rule, &state.snapshot.processes);
        Dialog::new(state.next_dialog, vec![reach], Some(limit), last_used)
    } else {
        let reaches = reaches(state);
        let Some((rows, words)) = meant(state) else {
            return;
        };
        if reaches.is_empty() {
            say(
                state,
                match rows.is_empty() {
                    true => format!("{words} has ended: there is nothing to limit"),
                    false => format!("{words} can't be limited as one; its processes can"),
                },
            );
            return;
        }
        let changes = present(&reaches, &rows, &state.snapshot.limits);
        Dialog::new(state.next_dialog, reaches, changes, last_used)
    };
    if let Some(limits) = filled {
        dialog.fill(limits);
        dialog.focus = Part::Button(Button::Apply);
    }
    dialog.meet(&state.snapshot);
    dialog.changed = false;
    state.next_dialog += 1;
    // From here on this row is meant, whatever overtakes it.
    state.select(state.line());
    state.lay_over(Overlay::Dialog(Box::new(dialog)));
}

/// The rule that limits what is meant, if the dialog can change it; of tagged processes with the
/// same limits, one of them.
fn present(reaches: &[Reach], rows: &[&ProcessRow], limits: &[LimitRow]) -> Option<LimitRow> {
    let first = rows.first()?;
    let theirs = |row: &ProcessRow| -> Vec<LimitRow> {
        let limits = limits_of(row, limits).into_iter();
        limits
            .filter(|limit| limit.rule.origin == Origin::Hand)
            .cloned()
            .collect()
    };
    let found = theirs(first).into_iter().find(|limit| {
        let parts = limit.rule.target.parts();
        let mut reaches = reaches.iter();
        reaches.any(|reach| reach.targets == [limit.rule.target.clone()] || reach.targets == parts)
    });
    let alike = |limit: &LimitRow| {
        let Rule { limits, scope, .. } = limit.rule;
        rows.iter().all(|row| {
            let mut theirs = theirs(row).into_iter();
            theirs.any(|l| (l.rule.limits, l.rule.scope) == (limits, scope))
        })
    };
    match reaches {
        [reach] if reach.targets.len() > 1 => found
            .or_else(|| theirs(first).into_iter().next())
            .filter(alike),
        _ => found,
    }
}

/// The rules in force, to be compared with those after a change.
fn before(state: &State) -> Option<Vec<(LimitId, Rule)>> {
    let limits = state.limits_in_force().iter();
    Some(limits.map(|limit| (limit.id, limit.rule.clone())).collect())
}

/// Removes the rules that limit what is meant, or the one selected in the list.
pub(super) fn remove(state: &mut State) -> Option<Effect> {
    let (rules, within, words): (Vec<LimitRow>, Vec<bool>, String) =
        if let Overlay::Limits(_) = state.overlay {
            let limit = state.selected_limit()?.clone();
            let words = Reach::of_rule(&limit.rule, &state.snapshot.processes).words;
            (vec![limit], vec![true], words)
        } else {
            let (rows, words) = meant(state)?;
            let mut seen = HashSet::new();
            let all = rows
                .iter()
                .flat_map(|row| limits_of(row, &state.snapshot.limits));
            let rules: Vec<LimitRow> = all.filter(|l| seen.insert(l.id)).cloned().collect();
            let whole = reaches(state);
            let within = rules.iter().map(|limit| {
                let target = &limit.rule.target;
                let is_whole = whole
                    .first()
                    .is_some_and(|reach| reach.targets.contains(target));
                let named = |part: &Target| match part {
                    Target::Process(id) => rows.iter().any(|row| id.is(row.key)),
                    _ => false,
                };
                is_whole || target.parts().iter().all(named)
            });
            (rules.clone(), within.collect(), words)
        };
    if rules.is_empty() {
        say(state, format!("{words} is not limited"));
        return None;
    }
    let (mine, files): (Vec<_>, Vec<_>) = rules
        .iter()
        .zip(within)
        .partition(|(limit, _)| limit.rule.origin == Origin::Hand);
    if let (true, Some((limit, _))) = (mine.is_empty(), files.first()) {
        let name = match &limit.rule.origin {
            Origin::File(name) => name,
            Origin::Hand => "",
        };
        let text = format!(
            "the rule {name} is in the rules file: remove it there; a limit set here comes before it"
        );
        state.notices.add(Severity::Warning, text, state.now);
        return None;
    }
    let wider = mine.iter().find(|(_, within)| !within);
    let names = match mine.as_slice() {
        [(limit, _)] => Reach::of_rule(&limit.rule, &state.snapshot.processes).words,
        several => format!("{} limits of {words}", several.len()),
    };
    let more = match files.is_empty() {
        true => "",
        false => "; what the rules file limits stays",
    };
    let ask = Ask {
        commands: mine.iter().map(|(l, _)| Command::Remove(l.id)).collect(),
        done: format!("removed the limit of {names}{more}"),
        before: before(state),
        subject: names,
        dialog: None,
        on_probation: false,
    };
    let Some((limit, _)) = wider else {
        return Some(Effect::Ask(ask));
    };
    let reach = Reach::of_rule(&limit.rule, &state.snapshot.processes);
    let count = counted(limit.members as usize, "process", "processes");
    let question = Question {
        title: "Remove a limit of more than this".into(),
        text: vec![
            format!(
                "{words} is limited as part of {}: {count} now.",
                reach.words
            ),
            "Remove that limit for all of them? u takes it back.".into(),
        ],
        yes: Yes::Ask(Box::new(ask)),
    };
    state.lay_over(Overlay::Question(Box::new(question)));
    None
}

/// Removes all limits, after asking.
pub(super) fn remove_all(state: &mut State) {
    let count = state.limits().count();
    if count == 0 {
        say(state, "nothing is limited".into());
        return;
    }
    let limits = counted(count, "limit", "limits");
    let from_file = state
        .limits()
        .any(|limit| matches!(limit.rule.origin, Origin::File(_)));
    let more = match from_file {
        true => " Rules of the file come back when it is read again.",
        false => "",
    };
    let ask = Ask {
        commands: vec![Command::RemoveAll],
        done: format!("removed {limits}"),
        before: before(state),
        subject: limits.clone(),
        dialog: None,
        on_probation: false,
    };
    state.lay_over(Overlay::Question(Box::new(Question {
        title: "Remove all limits".into(),
        text: vec![
            format!("This removes {limits}; u takes that back.{more}"),
            "Remove?".into(),
        ],
        yes: Yes::Ask(Box::new(ask)),
    })));
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
pub(super) fn undo(state: &mut State) -> Option<Effect> {
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

/// Enter in the dialog.
pub(super) fn press(state: &mut State) -> Option<Effect> {
    let Overlay::Dialog(dialog) = &mut state.overlay else {
        return None;
    };
    match dialog.focus {
        Part::Rate(_) | Part::Choice(_) | Part::Button(Button::Apply) => apply(state),
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
            state.close();
            None
        }
    }
}

fn apply(state: &mut State) -> Option<Effect> {
    let units = state.preferences.units;
    let before = before(state);
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
    let subject = dialog.words().to_owned();
    if dialog.ended() {
        dialog.error = Some(format!("{subject}: ended; nothing was limited"));
        return None;
    }
    let rules = dialog.rules_for(limits);
    let targets: Vec<Target> = rules.iter().map(|rule| rule.target.clone()).collect();
    let changed = dialog
        .changes
        .as_ref()
        .filter(|_| dialog.changes_in_place());
    let moved = changed.filter(|old| !rules.iter().any(|rule| rule.replaces(&old.rule)));
    let moved = moved.map(|old| Command::Remove(old.id));
    let set = rules.into_iter().map(|rule| Command::Set(Box::new(rule)));
    let ask = Ask {
        commands: set.chain(moved).collect(),
        done: match limits.is_unlimited() {
            true => format!("{subject}: unlimited"),
            false => format!("limited {subject}{}", terms(&limits, units)),
        },
        before,
        dialog: Some(dialog.id),
        on_probation: false,
        subject,
    };
    let carrier = state.carriers.iter().find(|key| {
        let named = |target: &Target| target.processes().iter().any(|id| id.is(**key));
        dialog.met.contains(key) || targets.iter().any(named)
    });
    if let Some(carrier) = carrier
        && !limits.is_unlimited()
    {
        let pid = carrier.pid;
        let ask = Ask {
            dialog: None,
            on_probation: true,
            ..ask
        };
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
