//! Limits: listing and setting them.

mod removing;
mod undoing;

use super::say;
pub(super) use removing::{remove, remove_all};
use undoing::PROBATION;
pub(super) use undoing::{answered, keep, revert_if_due, undo};

use crate::{
    listing::rows::Subject,
    model::{
        command::Command,
        direction::Limits,
        limit::LimitRow,
        priority::Priority,
        rule::{Origin, Rule},
        snapshot::ProcessRow,
        target::Target,
    },
    tui::{
        action::{Ask, Effect},
        dialog::{Button, Dialog, Part},
        reach::{Reach, limits_of},
        state::{LimitsPane, Overlay, Question, State, Yes},
        text::{counted, subject, terms},
    },
};

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

/// From here on the selected row is meant, whatever overtakes it.
fn hold_on(state: &mut State) {
    state.select(state.line());
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
            say(state, nothing_to_limit(&words, rows.is_empty()));
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
    hold_on(state);
    state.lay_over(Overlay::Dialog(Box::new(dialog)));
}

/// Gives what is meant a priority in place of a limit that was set here.
pub(super) fn prioritize(state: &mut State, priority: Priority) -> Option<Effect> {
    hold_on(state);
    let (rows, subject) = meant(state)?;
    let Some(reach) = reaches(state).into_iter().next() else {
        say(state, nothing_to_limit(&subject, rows.is_empty()));
        return None;
    };
    // One for each: it takes the place of a limit, and all background traffic is together in any case.
    let rule = |target| match priority {
        Priority::Background => Rule::in_background(target),
        Priority::Normal => Rule::by_hand(target, Limits::default()),
        Priority::High => Rule::with_high_priority(target),
    };
    let rules: Vec<Rule> = reach.targets.into_iter().map(rule).collect();
    // One about other traffic is not replaced, and would count still.
    let is_other = |limit: &&LimitRow| {
        let old = &limit.rule;
        let of_it = |new: &Rule| new.target == old.target && new.scope != old.scope;
        old.origin == Origin::Hand && old.is_about_link() && rules.iter().any(of_it)
    };
    let others = state.snapshot.limits.iter().filter(is_other);
    let others: Vec<Command> = others.map(|old| Command::Remove(old.id)).collect();
    let done = match priority {
        Priority::Background => format!("{subject}: in the background, has what others leave"),
        Priority::Normal => format!("{subject}: as everybody again"),
        Priority::High => format!("{subject}: comes before everybody else"),
    };
    let set = rules.into_iter().map(|rule| Command::Set(Box::new(rule)));
    Some(Effect::Ask(Ask {
        commands: others.into_iter().chain(set).collect(),
        done,
        before: undoing::before(state),
        dialog: None,
        on_probation: false,
        subject,
    }))
}

/// Why what is meant can't be limited.
fn nothing_to_limit(words: &str, have_ended: bool) -> String {
    match have_ended {
        true => format!("{words} has ended: there is nothing to limit"),
        false => format!("{words} can't be limited as one; its processes can"),
    }
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

/// Enter in the dialog.
pub(super) fn press(state: &mut State) -> Option<Effect> {
    let Overlay::Dialog(dialog) = &mut state.overlay else {
        return None;
    };
    match dialog.focus {
        Part::Rate(_) | Part::Choice(_) | Part::Button(Button::Apply) => apply(state),
        Part::Button(Button::Block) => {
            dialog.fill_alone(crate::tui::dialog::BLOCKED);
            dialog.focus = Part::Button(Button::Apply);
            None
        }
        Part::Button(Button::Unlimited) => {
            dialog.fill_alone(Limits::default());
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
    let before = undoing::before(state);
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
    let given = dialog.terms(limits);
    if let Err((_, why)) = given.check() {
        dialog.error = Some(why.to_owned());
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
        done: match given.is_about_link() {
            true => format!("{subject}{}", terms(given, units)),
            false if limits.is_unlimited() => format!("{subject}: unlimited"),
            false => format!("limited {subject}{}", terms(given, units)),
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
