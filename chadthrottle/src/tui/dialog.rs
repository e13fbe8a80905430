//! The throttle dialog's state: its fields, what they mean, and what came of applying them.

mod parts;

use std::collections::HashSet;

use chadthrottle_common::traffic::Direction;
use tui_input::{Input, InputRequest};

pub use parts::{Button, Choice, Part};
use parts::{PARTS, PRIORITIES, SCOPES, SHARINGS};

use super::{reach::Reach, text::may};
use crate::{
    model::{
        direction::{Limits, PerDirection},
        limit::LimitRow,
        priority::Priority,
        process::ProcessKey,
        rule::{Origin, Rule, Scope, Sharing},
        snapshot::{ProcessRow, Snapshot},
        target::Target,
        terms::Terms,
    },
    rate::{Rate, RateError, Units},
};

/// Longer than any rate; what is pasted beyond it is cut.
const LONGEST_ENTRY: usize = 64;

/// Rates that people often want, in bytes a second.
const USUAL: [u64; 9] = [
    64_000, 128_000, 256_000, 512_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 50_000_000,
];

/// The dialog.
#[derive(Clone, Debug)]
pub struct Dialog {
    /// Tells one opening of the dialog from the next, for answers that come late.
    pub id: u64,
    /// What the limit may apply to.
    reaches: Vec<Reach>,
    /// Which of them is chosen.
    chosen: usize,
    /// How important it is.
    pub priority: Priority,
    /// What the rule that is changed guarantees, which has no field here.
    at_least: Limits,
    /// Which traffic is limited.
    pub scope: Scope,
    /// Whether processes share the limit.
    pub sharing: Sharing,
    /// Somebody has chosen that; else it goes with what the limit applies to.
    sharing_is_chosen: bool,
    /// The rule that is changed; nothing for a new one.
    pub changes: Option<LimitRow>,
    /// The processes in the table that are meant.
    pub met: HashSet<ProcessKey>,
    /// Processes that ended since it was opened.
    gone: HashSet<ProcessKey>,
    /// There is a rule whose place this one takes.
    replaces: bool,
    /// What was typed.
    pub fields: PerDirection<Input>,
    /// What keys go to.
    pub focus: Part,
    /// Applied while an entry was wrong: the explanation is an error now, not a hint.
    pub insisted: bool,
    /// The engine has been asked and has not answered yet.
    pub waiting: bool,
    /// Something was changed since the engine was asked: its answer is not about this.
    pub changed: bool,
    /// Why applying failed.
    pub error: Option<String>,
    /// Rates at hand, last used ones first.
    rates: PerDirection<Vec<Rate>>,
}

impl Dialog {
    /// Opens it for the first of these, or for a rule that is in force.
    pub fn new(
        id: u64,
        reaches: Vec<Reach>,
        changes: Option<LimitRow>,
        last_used: &[Limits],
    ) -> Self {
        let rates = |direction| rates_at_hand(last_used, direction);
        let rule = changes.as_ref().map(|limit| &limit.rule);
        // What background traffic has at present is nobody's choice.
        let asked = rule.map(Rule::asked).unwrap_or_default();
        let is_of = |reach: &Reach| rule.is_some_and(|rule| reach.targets == [rule.target.clone()]);
        let chosen = reaches.iter().position(is_of).unwrap_or(0);
        let usual = reaches.get(chosen).map(Reach::usual_sharing);
        let mut dialog = Self {
            id,
            chosen,
            priority: asked.priority,
            at_least: asked.at_least,
            scope: rule.map(|rule| rule.scope).unwrap_or_default(),
            sharing: rule.map(|rule| rule.sharing).or(usual).unwrap_or_default(),
            sharing_is_chosen: rule.is_some(),
            reaches,
            met: HashSet::new(),
            gone: HashSet::new(),
            replaces: false,
            fields: PerDirection::default(),
            focus: PARTS[0],
            insisted: false,
            waiting: false,
            changed: false,
            error: None,
            rates: PerDirection {
                download: rates(Direction::Download),
                upload: rates(Direction::Upload),
            },
            changes,
        };
        dialog.fill(asked.limits);
        dialog
    }

    /// What the limit applies to.
    pub fn reach(&self) -> &Reach {
        &self.reaches[self.chosen]
    }

    /// Them in words.
    pub fn words(&self) -> &str {
        &self.reach().words
    }

    /// Finds out who is meant.
    pub fn meet(&mut self, snapshot: &Snapshot) {
        let rows = || snapshot.processes.iter();
        // A process that is not listed may live: it only has no sockets. An ended one stays so.
        let ended = rows().filter(|row| row.ended).map(|row| row.key);
        self.gone.extend(ended);
        let reach = &self.reaches[self.chosen];
        let met = rows().filter(|row| !row.ended && reach.holds(row));
        self.met = met.map(|row| row.key).collect();
        let replaced = |rule: Rule| snapshot.limits.iter().any(|old| rule.replaces(&old.rule));
        self.replaces =
            self.changes_in_place() || self.rules_for(Limits::default()).into_iter().any(replaced);
    }

    /// Whether the rule that is changed ends if another one is set.
    pub fn changes_in_place(&self) -> bool {
        self.in_place().is_some()
    }

    /// The rule that ends if another one is set.
    fn in_place(&self) -> Option<&Rule> {
        let rule = self.changes.as_ref().map(|limit| &limit.rule);
        rule.filter(|rule| {
            rule.origin == Origin::Hand && self.reach().targets == [rule.target.clone()]
        })
    }

    /// The rules that applying would set.
    pub fn rules_for(&self, limits: Limits) -> Vec<Rule> {
        let mut targets: Vec<Target> = self.reach().targets.clone();
        if targets.len() > 1 {
            targets.retain(|target| !self.is_gone(target));
            if self.sharing == Sharing::Shared {
                targets = vec![Target::Any(targets)];
            }
        }
        let rule = |target: Target| Rule {
            scope: self.scope,
            sharing: match target {
                Target::Process(_) => Sharing::Each,
                _ => self.sharing,
            },
            metered: self.in_place().is_some_and(|rule| rule.metered),
            ..Rule::by_hand(target, Limits::default()).with(self.terms(limits))
        };
        targets.into_iter().map(rule).collect()
    }

    /// What was asked for with these limits; what the dialog has no field for stays as it is.
    pub fn terms(&self, limits: Limits) -> Terms {
        Terms {
            limits,
            priority: self.priority,
            at_least: match self.changes_in_place() {
                true => self.at_least,
                false => Limits::default(),
            },
        }
    }

    fn is_gone(&self, target: &Target) -> bool {
        let processes = target.processes();
        let mut gone = self.gone.iter();
        match target {
            Target::Process(_) | Target::Tree(_) => {
                processes.iter().all(|id| gone.any(|key| id.is(*key)))
            }
            _ => false,
        }
    }

    /// Whether nobody is left, nor can come.
    pub fn ended(&self) -> bool {
        self.reach()
            .targets
            .iter()
            .all(|target| self.is_gone(target))
    }

    /// The texts of a choice, and which is chosen.
    pub fn options(&self, choice: Choice) -> (Vec<&'static str>, usize) {
        match choice {
            Choice::Applies => (
                self.reaches.iter().map(|reach| reach.word).collect(),
                self.chosen,
            ),
            Choice::Priority => (
                vec!["background", "normal", "high"],
                PRIORITIES
                    .iter()
                    .position(|priority| *priority == self.priority)
                    .unwrap_or(1),
            ),
            Choice::Traffic => (
                vec!["all", "internet", "local"],
                SCOPES.iter().position(|s| *s == self.scope).unwrap_or(0),
            ),
            Choice::Sharing if !self.reach().shares() => (vec!["its own"], 0),
            Choice::Sharing => (
                vec!["each process's own", "shared by all"],
                usize::from(self.sharing == Sharing::Shared),
            ),
        }
    }

    /// Chooses one of a choice's.
    pub fn set_option(&mut self, choice: Choice, at: usize) {
        match choice {
            Choice::Applies => {
                self.chosen = at.min(self.reaches.len() - 1);
                if !self.sharing_is_chosen {
                    self.sharing = self.reach().usual_sharing();
                }
            }
            Choice::Priority => {
                let unsaid = |dialog: &Self| dialog.terms(Limits::default()).scope();
                let was_unsaid = self.scope == unsaid(self);
                self.priority = PRIORITIES[at.min(2)];
                if was_unsaid {
                    self.scope = unsaid(self);
                }
            }
            Choice::Traffic => self.scope = SCOPES[at.min(2)],
            Choice::Sharing if self.reach().shares() => {
                self.sharing = SHARINGS[at.min(1)];
                self.sharing_is_chosen = true;
            }
            Choice::Sharing => {}
        }
        self.edited();
    }

    /// Puts rates into the fields, and takes all else out.
    pub fn fill_alone(&mut self, limits: Limits) {
        self.at_least = Limits::default();
        self.set_option(Choice::Priority, 1);
        self.fill(limits);
    }

    /// Puts rates into the fields.
    pub fn fill(&mut self, limits: Limits) {
        for direction in Direction::BOTH {
            self.put(direction, *limits.get(direction));
        }
    }

    fn put(&mut self, direction: Direction, rate: Option<Rate>) {
        let text = rate.map(Rate::exact).unwrap_or_default();
        *self.fields.get_mut(direction) = Input::new(text);
        self.edited();
    }

    /// Puts a rate into the field that keys are typed into, or the first.
    pub fn put_focused(&mut self, rate: Rate) {
        self.put(self.field().unwrap_or(Direction::Download), Some(rate));
    }

    fn edited(&mut self) {
        self.insisted = false;
        self.error = None;
        self.changed = true;
    }

    /// Goes to the next part, or the one before.
    pub fn go(&mut self, forward: bool) {
        let at = PARTS.iter().position(|part| *part == self.focus);
        let step = if forward { 1 } else { PARTS.len() - 1 };
        self.focus = PARTS[(at.unwrap_or(0) + step) % PARTS.len()];
    }

    /// The field that keys are typed into.
    pub fn field(&self) -> Option<Direction> {
        match self.focus {
            Part::Rate(direction) => Some(direction),
            Part::Choice(_) | Part::Button(_) => None,
        }
    }

    /// Changes the focused field, or goes through the focused choice.
    pub fn edit(&mut self, request: InputRequest) {
        if let Part::Choice(_) = self.focus {
            match request {
                InputRequest::GoToPrevChar => self.choose(false),
                InputRequest::GoToNextChar | InputRequest::InsertChar(' ') => self.choose(true),
                _ => {}
            }
            return;
        }
        let Some(direction) = self.field() else {
            return;
        };
        let field = self.fields.get_mut(direction);
        if matches!(request, InputRequest::InsertChar(c) if c.is_control())
            || matches!(request, InputRequest::InsertChar(_))
                && field.value().chars().count() >= LONGEST_ENTRY
        {
            return;
        }
        if field.handle(request).is_some_and(|changed| changed.value) {
            self.edited();
        }
    }

    /// Types a pasted text.
    pub fn paste(&mut self, text: &str) {
        for c in first_line(text).chars() {
            self.edit(InputRequest::InsertChar(c));
        }
    }

    /// Goes to the next of what is to be chosen from; in a field to the next of the rates at hand.
    pub fn choose(&mut self, forward: bool) {
        if let Part::Choice(choice) = self.focus {
            let (options, at) = self.options(choice);
            let step = if forward { 1 } else { options.len() - 1 };
            let next = (at + step) % options.len();
            self.set_option(choice, next);
            return;
        }
        let direction = self.field().unwrap_or(Direction::Download);
        let rates = self.rates.get(direction);
        let now = self.entry(direction).ok().flatten();
        let at = now.and_then(|now| rates.iter().position(|rate| *rate == now));
        let next = match (at, forward) {
            (None, true) => 0,
            (None, false) => rates.len() - 1,
            (Some(at), true) => (at + 1) % rates.len(),
            (Some(at), false) => (at + rates.len() - 1) % rates.len(),
        };
        let rate = rates.get(next).copied();
        self.put(direction, rate);
    }

    /// The rates at hand for the focused field.
    pub fn rates(&self) -> &[Rate] {
        self.rates.get(self.field().unwrap_or(Direction::Download))
    }

    /// What one field means; an empty one is unlimited.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for the person who typed it.
    pub fn entry(&self, direction: Direction) -> Result<Option<Rate>, RateError> {
        match self.fields.get(direction).value().parse() {
            Ok(rate) => Ok(Some(rate)),
            Err(RateError::Empty) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What both fields mean.
    ///
    /// # Errors
    ///
    /// The first field that is wrong.
    pub fn limits(&self) -> Result<Limits, Direction> {
        let entry = |direction| self.entry(direction).map_err(|_| direction);
        Ok(Limits {
            download: entry(Direction::Download)?,
            upload: entry(Direction::Upload)?,
        })
    }

    /// What applying would do, in one sentence; nothing while an entry is wrong.
    pub fn sentence(&self, units: Units) -> Option<String> {
        let (reach, terms) = (self.reach(), self.terms(self.limits().ok()?));
        let words = self.words();
        if !terms.says_anything() {
            return Some(match self.replaces {
                true => format!("The limit of {words} is removed."),
                false => format!(
                    "{}: nothing is set here; type a rate or choose a priority.",
                    capital(words)
                ),
            });
        }
        let whom = capital(&reach.whom(self.sharing));
        let over = match self.scope {
            Scope::All => "",
            Scope::Internet => " over the internet",
            Scope::Local => " in the local network",
        };
        let count = match self.met.len() {
            _ if !reach.is_countable() => String::new(),
            0 => "; none runs now".into(),
            1 => "; 1 runs now".into(),
            count => format!("; {count} run now"),
        };
        Some(format!("{whom} {}{over}{count}.", may(terms, units)))
    }

    /// The rows of those that are meant.
    pub fn rows<'a>(&self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a ProcessRow> {
        let rows = snapshot.processes.iter();
        rows.filter(|row| self.met.contains(&row.key))
    }
}

/// A sentence begins with a capital letter, but a process's name stays as it is.
fn capital(words: &str) -> String {
    match words.strip_prefix("the ") {
        Some(rest) => format!("The {rest}"),
        None => words.to_owned(),
    }
}

/// No payload either way.
pub const BLOCKED: Limits = PerDirection {
    download: Some(Rate::ZERO),
    upload: Some(Rate::ZERO),
};

/// Of several pasted lines the first that says something.
pub fn first_line(text: &str) -> &str {
    // Terminals send a pasted line end as a carriage return.
    let mut lines = text.split(['\r', '\n']).map(str::trim);
    lines.find(|line| !line.is_empty()).unwrap_or_default()
}

fn rates_at_hand(last_used: &[Limits], direction: Direction) -> Vec<Rate> {
    let usual = USUAL.map(Rate::from_bytes_per_second);
    let used = last_used.iter().filter_map(|limits| *limits.get(direction));
    let mut rates: Vec<Rate> = Vec::new();
    for rate in used.chain(usual) {
        if !rates.contains(&rate) {
            rates.push(rate);
        }
    }
    rates
}
