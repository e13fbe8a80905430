//! Removing limits.

use std::collections::HashSet;

use super::{super::say, hold_on, meant, reaches, undoing::before};
use crate::{
    model::{command::Command, limit::LimitRow, notice::Severity, rule::Origin, target::Target},
    tui::{
        Phase,
        action::{Ask, Effect},
        reach::{Reach, limits_of},
        state::{Overlay, Question, State, Yes},
        text::counted,
    },
};

/// Removes the rules that limit what is meant, or the one selected in the list.
pub(in super::super) fn remove(state: &mut State) -> Option<Effect> {
    let (rules, within, words): (Vec<LimitRow>, Vec<bool>, String) =
        if let Overlay::Limits(_) = state.overlay {
            let limit = state.selected_limit()?.clone();
            let words = Reach::of_rule(&limit.rule, &state.snapshot.processes).words;
            (vec![limit], vec![true], words)
        } else {
            hold_on(state);
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
    let wider: Vec<&LimitRow> = mine
        .iter()
        .filter(|(_, within)| !within)
        .map(|(limit, _)| *limit)
        .collect();
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
    if wider.is_empty() {
        return Some(Effect::Ask(ask));
    }
    let part = |limit: &LimitRow| {
        let reach = Reach::of_rule(&limit.rule, &state.snapshot.processes);
        let count = counted(limit.members as usize, "process", "processes");
        format!(
            "{words} is limited as part of {}: {count} now.",
            reach.words
        )
    };
    let mut text: Vec<String> = wider.iter().map(|limit| part(limit)).collect();
    let those = match wider.len() {
        1 => "that limit",
        _ => "those limits",
    };
    text.push(format!("Remove {those} for all of them? u takes it back."));
    let question = Question {
        title: "Remove a limit of more than this".into(),
        text,
        yes: Yes::Ask(Box::new(ask)),
    };
    state.lay_over(Overlay::Question(Box::new(question)));
    None
}

/// Removes all limits, after asking.
pub(in super::super) fn remove_all(state: &mut State) {
    let count = state.limits().count();
    if count == 0 {
        let text = match state.phase {
            Phase::Starting => "limits are not known yet: the engine is being loaded",
            _ => "nothing is limited",
        };
        say(state, text.into());
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
