//! The parts of the dialog that keys go to.

use chadthrottle_common::traffic::Direction;

use crate::model::{
    priority::Priority,
    rule::{Scope, Sharing},
};

/// A part of the dialog that keys go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The field of a rate.
    Rate(Direction),
    /// A choice of several.
    Choice(Choice),
    /// A button.
    Button(Button),
}

/// What can be chosen in the dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// What the limit applies to.
    Applies,
    /// How important it is.
    Priority,
    /// Which traffic is limited.
    Traffic,
    /// Whether processes share the limit.
    Sharing,
}

impl Choice {
    /// All of them, from top to bottom.
    pub const ALL: [Self; 4] = [Self::Applies, Self::Traffic, Self::Sharing, Self::Priority];

    /// What stands before it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Priority => "Priority",
            Self::Applies => "Applies to",
            Self::Traffic => "Traffic",
            Self::Sharing => "Limit is",
        }
    }
}

/// What the choices are of, in the order in which they stand.
pub const PRIORITIES: [Priority; 3] = [Priority::Background, Priority::Normal, Priority::High];
/// See [`PRIORITIES`].
pub const SCOPES: [Scope; 3] = [Scope::All, Scope::Internet, Scope::Local];
/// See [`PRIORITIES`].
pub const SHARINGS: [Sharing; 2] = [Sharing::Each, Sharing::Shared];

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
pub const PARTS: [Part; 10] = [
    Part::Rate(Direction::Download),
    Part::Rate(Direction::Upload),
    Part::Choice(Choice::Applies),
    Part::Choice(Choice::Traffic),
    Part::Choice(Choice::Sharing),
    Part::Choice(Choice::Priority),
    Part::Button(Button::Apply),
    Part::Button(Button::Block),
    Part::Button(Button::Unlimited),
    Part::Button(Button::Leave),
];
