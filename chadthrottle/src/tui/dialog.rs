//! The throttle dialog's state: its fields, what they mean, and what came of applying them.

use chadthrottle_common::traffic::Direction;
use tui_input::{Input, InputRequest};

use super::text::{terms, their};
use crate::{
    engine::snapshot::{Limits, PerDirection, ProcessRow},
    process::ProcessKey,
    rate::{Rate, RateError, Units},
};

/// Longer than any rate; what is pasted beyond it is cut.
const LONGEST_ENTRY: usize = 64;

/// Rates that people often want, in bytes a second.
const USUAL: [u64; 9] = [
    64_000, 128_000, 256_000, 512_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 50_000_000,
];

/// A part of the dialog that keys go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The field of a rate.
    Rate(Direction),
    /// A button.
    Button(Button),
}

/// A button of the dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    /// Applies what is in the fields.
    Apply,
    /// Fills both fields in to block.
    Block,
    /// Empties both fields.
    Unlimited,
    /// Leaves without a change.
    Leave,
}

impl Button {
    /// All of them, from left to right.
    pub const ALL: [Self; 4] = [Self::Apply, Self::Block, Self::Unlimited, Self::Leave];

    /// What stands on it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Block => "Block",
            Self::Unlimited => "Unlimited",
            Self::Leave => "Leave",
        }
    }
}

/// The parts, in the order in which keys go through them.
const PARTS: [Part; 6] = [
    Part::Rate(Direction::Download),
    Part::Rate(Direction::Upload),
    Part::Button(Button::Apply),
    Part::Button(Button::Block),
    Part::Button(Button::Unlimited),
    Part::Button(Button::Leave),
];

/// A process that is to be limited.
#[derive(Clone, Debug)]
pub struct Member {
    /// Which.
    pub key: ProcessKey,
    /// The limits that it has.
    pub before: Limits,
    /// It has ended meanwhile.
    pub ended: bool,
}

impl From<&ProcessRow> for Member {
    fn from(row: &ProcessRow) -> Self {
        let before = row.limit.as_ref().map(|limit| limit.limits);
        Self {
            key: row.key,
            before: before.unwrap_or_default(),
            ended: row.ended,
        }
    }
}

/// The dialog.
#[derive(Clone, Debug)]
pub struct Dialog {
    /// Tells one opening of the dialog from the next, for answers that come late.
    pub id: u64,
    /// Who is to be limited, each on its own.
    pub members: Vec<Member>,
    /// Them in words, kept for when they are gone.
    pub subject: String,
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
    /// Opens it, filled with the present limits if all have the same.
    pub fn new(id: u64, members: Vec<Member>, subject: String, last_used: &[Limits]) -> Self {
        let first = members.first().map(|member| member.before);
        let common = first.filter(|limits| members.iter().all(|m| m.before == *limits));
        let rates = |direction| rates_at_hand(last_used, direction);
        let mut dialog = Self {
            id,
            members,
            subject,
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
        };
        dialog.fill(common.unwrap_or_default());
        dialog
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
            Part::Button(_) => None,
        }
    }

    /// Changes the focused field.
    pub fn edit(&mut self, request: InputRequest) {
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

    /// Puts the next of the rates at hand into the focused field.
    pub fn choose(&mut self, forward: bool) {
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

    /// Whether nobody is left.
    pub fn ended(&self) -> bool {
        self.members.iter().all(|member| member.ended)
    }

    /// Those that still run.
    pub fn running(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.ended)
    }

    /// What applying would do, in one sentence; nothing while an entry is wrong.
    pub fn sentence(&self, units: Units) -> Option<String> {
        let (subject, limits) = (&self.subject, self.limits().ok()?);
        let limited = self.members.iter().any(|m| !m.before.is_unlimited());
        let several = self.members.len() > 1;
        let each = if several { ", each" } else { "" };
        Some(match (limits.is_unlimited(), limited) {
            (false, _) if limits == BLOCKED => format!("blocks {subject}, both ways"),
            (false, _) => format!("limits {subject}{}{each}", terms(&limits, units)),
            (true, true) => format!("removes the limits of {subject}"),
            (true, false) => format!(
                "{subject} {}; type a rate to limit {}",
                if several {
                    "stay unlimited"
                } else {
                    "stays unlimited"
                },
                their(several)
            ),
        })
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
