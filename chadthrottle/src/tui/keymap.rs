//! Which key does what, where; also what the help and the footer are made from.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tui_input::InputRequest;

use super::{
    action::{Action, Step},
    shown::Keeper,
};
use crate::model::priority::Priority;

/// What the keys go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Context {
    /// The table.
    Table,
    /// The filter's line; characters without a binding are typed into it.
    Filter,
    /// All about one row.
    Details,
    /// The limits in force.
    Limits,
    /// The throttle dialog; characters without a binding are typed into its field.
    Dialog,
    /// A question that is to be answered with yes or no.
    Question,
    /// The help.
    Help,
    /// Notices and log lines.
    Log,
}

impl Context {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Table,
        Self::Filter,
        Self::Details,
        Self::Limits,
        Self::Dialog,
        Self::Question,
        Self::Help,
        Self::Log,
    ];

    /// What the help calls it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Table => "Table",
            Self::Filter => "Filter",
            Self::Details => "Details",
            Self::Limits => "Limits in force",
            Self::Dialog => "Throttle dialog",
            Self::Question => "Question",
            Self::Help => "Help",
            Self::Log => "Notices and log",
        }
    }

    /// Whether characters are typed into a field.
    pub const fn takes_text(self) -> bool {
        matches!(self, Self::Filter | Self::Dialog)
    }
}

/// A key, perhaps with Ctrl. Shift is in the character itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    code: KeyCode,
    ctrl: bool,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.ctrl {
            f.write_str("Ctrl-")?;
        }
        match self.code {
            KeyCode::Char(c) if self.ctrl => write!(f, "{}", c.to_ascii_uppercase()),
            KeyCode::Char(' ') => f.write_str("Space"),
            KeyCode::Char(c) => write!(f, "{c}"),
            KeyCode::Up => f.write_str("↑"),
            KeyCode::Down => f.write_str("↓"),
            KeyCode::Left => f.write_str("←"),
            KeyCode::Right => f.write_str("→"),
            KeyCode::PageUp => f.write_str("PgUp"),
            KeyCode::PageDown => f.write_str("PgDn"),
            KeyCode::BackTab => f.write_str("Shift-Tab"),
            KeyCode::Backspace => f.write_str("Backspace"),
            code => write!(f, "{code}"),
        }
    }
}

/// Keys that do the same in some contexts.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// Where it holds.
    pub contexts: &'static [Context],
    /// Any of these.
    pub keys: &'static [Key],
    /// What they do.
    pub action: Action,
    /// The same in words, for the help.
    pub help: &'static str,
    /// A word for the footer, for the keys that belong there.
    pub short: Option<&'static str>,
}

impl Binding {
    /// What its keys do in words, where limits are kept so.
    pub const fn words(&self, keeper: Keeper) -> &'static str {
        match (self.action, keeper) {
            (Action::Quit, Keeper::Daemon { .. }) => "quit; the daemon keeps its limits",
            _ => self.help,
        }
    }
}

const fn key(code: KeyCode) -> Key {
    Key { code, ctrl: false }
}

const fn char(c: char) -> Key {
    key(KeyCode::Char(c))
}

const fn ctrl(c: char) -> Key {
    Key {
        code: KeyCode::Char(c),
        ctrl: true,
    }
}

const fn bind(
    contexts: &'static [Context],
    keys: &'static [Key],
    action: Action,
    short: Option<&'static str>,
    help: &'static str,
) -> Binding {
    Binding {
        contexts,
        keys,
        action,
        help,
        short,
    }
}

use Context::{Details, Dialog, Filter, Help, Limits, Log, Question, Table};

const LISTS: &[Context] = &[Table, Details, Limits, Help, Log];
const PANES: &[Context] = &[Details, Help, Log];
const TEXTS: &[Context] = &[Dialog, Filter];
const ROWS: &[Context] = &[Table, Details];
const LIMITED: &[Context] = &[Table, Details, Limits];
const UP: &[Key] = &[key(KeyCode::Up), char('k')];
const DOWN: &[Key] = &[key(KeyCode::Down), char('j')];
const ENTER: Key = key(KeyCode::Enter);
const ESC: Key = key(KeyCode::Esc);
const QUIT: &str = "quit; limits end with it";

/// Every key there is.
#[rustfmt::skip]
pub const BINDINGS: &[Binding] = &[
    bind(&[Table, Limits], UP, Action::Move(Step::Up), Some("select"), "the row above"),
    bind(&[Table, Limits], DOWN, Action::Move(Step::Down), Some("select"), "the row below"),
    bind(PANES, UP, Action::Move(Step::Up), Some("scroll"), "a line up"),
    bind(PANES, DOWN, Action::Move(Step::Down), Some("scroll"), "a line down"),
    bind(LISTS, &[key(KeyCode::PageUp), ctrl('b')], Action::Move(Step::PageUp), None, "a page up"),
    bind(LISTS, &[key(KeyCode::PageDown), ctrl('f')], Action::Move(Step::PageDown), None, "a page down"),
    bind(LISTS, &[key(KeyCode::Home), char('g')], Action::Move(Step::First), None, "to the top, and stay there"),
    bind(LISTS, &[key(KeyCode::End), char('G')], Action::Move(Step::Last), None, "to the end"),
    bind(&[Table], &[ENTER], Action::Details, Some("details"), "all about it; the processes of a group"),
    bind(&[Details], &[ESC, ENTER], Action::Back, Some("back"), "back to the table"),
    bind(ROWS, &[char('t')], Action::Throttle, Some("throttle"), "limit it, or all that is tagged"),
    bind(ROWS, &[char('b')], Action::Block, None, "the same, filled in to block"),
    bind(ROWS, &[char('1')], Action::Prioritize(Priority::Background), None, "in the background: what others leave"),
    bind(ROWS, &[char('2')], Action::Prioritize(Priority::Normal), None, "as everybody again"),
    bind(ROWS, &[char('3')], Action::Prioritize(Priority::High), None, "before everybody else"),
    bind(&[Limits], &[ENTER, char('t')], Action::Throttle, Some("change"), "change it"),
    bind(LIMITED, &[char('r')], Action::RemoveLimit, Some("remove"), "remove what limits it"),
    bind(LIMITED, &[char('u')], Action::Undo, Some("undo"), "take the last change back"),
    bind(&[Table], &[char('l')], Action::Limits, Some("limits"), "the limits in force"),
    bind(&[Limits], &[ESC, char('l')], Action::Back, Some("back"), "back to the table"),
    bind(&[Table, Limits], &[char('R')], Action::RemoveAll, None, "remove all limits"),
    bind(LIMITED, &[char('K')], Action::Keep, None, "keep a limit that would be taken back"),
    bind(&[Table], &[char('/')], Action::Filter, Some("filter"), "show only some; see below"),
    bind(&[Table], &[char(' ')], Action::Tag, Some("tag"), "tag it; dialog and keys mean all tagged"),
    bind(&[Table], &[ESC], Action::Back, None, "drop tags, then the filter"),
    bind(&[Table], &[char('s'), char('>')], Action::Sort { forward: true }, Some("sort"), "sort by the next column"),
    bind(&[Table], &[char('S'), char('<')], Action::Sort { forward: false }, None, "by the one before"),
    bind(&[Table], &[char('i')], Action::Reverse, None, "the other way round"),
    bind(&[Table], &[char('v'), key(KeyCode::Tab)], Action::View { forward: true }, Some("view"), "processes, programs, units, users"),
    bind(&[Table], &[char('V'), key(KeyCode::BackTab)], Action::View { forward: false }, None, "the other way round"),
    bind(&[Details], &[char('n')], Action::Names, Some("names"), "look up names of addresses, or not"),
    bind(ROWS, &[char('f')], Action::Freeze, Some("freeze"), "hold the picture still, or go on"),
    bind(ROWS, &[char('+')], Action::Interval { longer: true }, None, "samples less often"),
    bind(ROWS, &[char('-')], Action::Interval { longer: false }, None, "samples more often"),
    bind(ROWS, &[char('x')], Action::Units, None, "bytes or bits, in thousands or 1024s"),
    bind(ROWS, &[char('C')], Action::Palette, None, "colours for dark, light; none"),
    bind(ROWS, &[char('m')], Action::Mouse, None, "leave the mouse to the terminal, or take it"),
    bind(&[Log], &[key(KeyCode::Tab)], Action::Next, Some("other part"), "scroll the other part"),
    bind(&[Help, Log], &[ESC], Action::Back, Some("back"), "back"),
    bind(LISTS, &[char('L')], Action::Log, Some("log"), "notices and log, and back"),
    bind(LISTS, &[char('?'), char('h')], Action::Help, Some("help"), "these keys, and back"),
    bind(LISTS, &[char('q')], Action::Quit, Some("quit"), QUIT),
    bind(&[Question], &[char('y'), ENTER], Action::Apply, Some("yes"), "yes"),
    bind(&[Question], &[char('n'), ESC, char('q')], Action::Back, Some("no"), "no"),
    bind(&[Filter], &[ENTER, key(KeyCode::Down)], Action::Apply, Some("keep"), "keep it, and back to the table"),
    bind(&[Filter], &[ESC], Action::Back, Some("drop"), "drop it"),
    bind(&[Dialog], &[ENTER], Action::Apply, Some("apply"), "apply, or press the button"),
    bind(&[Dialog], &[key(KeyCode::Tab), key(KeyCode::Down)], Action::Next, Some("next"), "the next field"),
    bind(&[Dialog], &[key(KeyCode::BackTab), key(KeyCode::Up)], Action::Previous, None, "the field before"),
    bind(&[Dialog], &[key(KeyCode::PageDown)], Action::Choose { forward: true }, Some("choose"), "the next choice, or rate: last used first"),
    bind(&[Dialog], &[key(KeyCode::PageUp)], Action::Choose { forward: false }, Some("choose"), "the one before; ← → do so, too"),
    bind(&[Dialog], &[ESC], Action::Back, Some("leave"), "leave without a change"),
    bind(TEXTS, &[key(KeyCode::Left), ctrl('b')], Action::Edit(InputRequest::GoToPrevChar), None, "left"),
    bind(TEXTS, &[key(KeyCode::Right), ctrl('f')], Action::Edit(InputRequest::GoToNextChar), None, "right"),
    bind(TEXTS, &[key(KeyCode::Home), ctrl('a')], Action::Edit(InputRequest::GoToStart), None, "to the start"),
    bind(TEXTS, &[key(KeyCode::End), ctrl('e')], Action::Edit(InputRequest::GoToEnd), None, "to the end"),
    bind(TEXTS, &[key(KeyCode::Backspace), ctrl('h')], Action::Edit(InputRequest::DeletePrevChar), None, "delete to the left"),
    bind(TEXTS, &[key(KeyCode::Delete), ctrl('d')], Action::Edit(InputRequest::DeleteNextChar), None, "delete to the right"),
    bind(TEXTS, &[ctrl('u'), ctrl('w')], Action::Edit(InputRequest::DeleteLine), None, "empty the field"),
    bind(&[Table, Filter, Details, Limits, Dialog, Help, Log], &[ctrl('c')], Action::Quit, None, QUIT),
    bind(&[Question], &[ctrl('c')], Action::QuitNow, None, "quit, whatever was asked"),
    bind(&Context::ALL, &[ctrl('l')], Action::Redraw, None, "draw the screen anew"),
    bind(&Context::ALL, &[ctrl('z')], Action::Suspend, None, "stop until fg; limits stay"),
];

/// What a key does.
pub fn action(context: Context, event: KeyEvent) -> Option<Action> {
    if event.kind == KeyEventKind::Release || event.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    let pressed = Key {
        code: event.code,
        ctrl: event.modifiers.contains(KeyModifiers::CONTROL),
    };
    let bound = in_context(context).find(|binding| binding.keys.contains(&pressed));
    match (bound, pressed) {
        (Some(binding), _) => Some(binding.action),
        (
            None,
            Key {
                code: KeyCode::Char(c),
                ctrl: false,
            },
        ) if context.takes_text() => Some(Action::Edit(InputRequest::InsertChar(c))),
        _ => None,
    }
}

/// The bindings of a context, in the order of the help.
pub fn in_context(context: Context) -> impl Iterator<Item = &'static Binding> {
    BINDINGS
        .iter()
        .filter(move |binding| binding.contexts.contains(&context))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_key_means_two_things() {
        for context in Context::ALL {
            let mut seen = HashSet::new();
            for binding in in_context(context) {
                for key in binding.keys {
                    assert!(seen.insert(*key), "{key} twice in {context:?}");
                }
            }
        }
    }

    #[test]
    fn every_place_can_be_left() {
        for context in Context::ALL {
            let quits = |b: &Binding| matches!(b.action, Action::Quit | Action::QuitNow);
            assert!(in_context(context).any(quits));
            assert!(in_context(context).any(|b| b.action == Action::Back));
        }
    }

    #[test]
    fn what_keys_do() {
        let none = KeyModifiers::NONE;
        for (context, code, modifiers, expected) in [
            (
                Table,
                KeyCode::Char('j'),
                none,
                Some(Action::Move(Step::Down)),
            ),
            (
                Table,
                KeyCode::Char('G'),
                KeyModifiers::SHIFT,
                Some(Action::Move(Step::Last)),
            ),
            (
                Table,
                KeyCode::Char('c'),
                KeyModifiers::CONTROL,
                Some(Action::Quit),
            ),
            (Table, KeyCode::Char('t'), KeyModifiers::ALT, None),
            (Table, KeyCode::Char('h'), none, Some(Action::Help)),
            (
                Dialog,
                KeyCode::Char('q'),
                none,
                Some(Action::Edit(InputRequest::InsertChar('q'))),
            ),
            (
                Dialog,
                KeyCode::BackTab,
                KeyModifiers::SHIFT,
                Some(Action::Previous),
            ),
            (Dialog, KeyCode::Char('x'), KeyModifiers::CONTROL, None),
            (Help, KeyCode::Char('t'), none, None),
            (Log, KeyCode::Esc, none, Some(Action::Back)),
        ] {
            assert_eq!(
                action(context, KeyEvent::new(code, modifiers)),
                expected,
                "{code:?}"
            );
        }
    }
}
