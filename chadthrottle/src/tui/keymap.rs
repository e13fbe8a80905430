//! Which key does what, where; also what the help and the footer are made from.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tui_input::InputRequest;

use super::action::{Action, Step};

/// What the keys go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Context {
    /// The process table.
    Table,
    /// The throttle dialog; characters without a binding are typed into its field.
    Dialog,
    /// The help.
    Help,
    /// Notices and log lines.
    Log,
}

impl Context {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Table, Self::Dialog, Self::Help, Self::Log];

    /// What the help calls it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Table => "Processes",
            Self::Dialog => "Throttle dialog",
            Self::Help => "Help",
            Self::Log => "Notices and log",
        }
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

use Context::{Dialog, Help, Log, Table};

const LISTS: &[Context] = &[Table, Help, Log];
const PANES: &[Context] = &[Help, Log];
const UP: &[Key] = &[key(KeyCode::Up), char('k')];
const DOWN: &[Key] = &[key(KeyCode::Down), char('j')];

/// Every key there is.
#[rustfmt::skip]
pub const BINDINGS: &[Binding] = &[
    bind(&[Table], UP, Action::Move(Step::Up), Some("select"), "the process above"),
    bind(&[Table], DOWN, Action::Move(Step::Down), Some("select"), "the process below"),
    bind(PANES, UP, Action::Move(Step::Up), Some("scroll"), "a line up"),
    bind(PANES, DOWN, Action::Move(Step::Down), Some("scroll"), "a line down"),
    bind(LISTS, &[key(KeyCode::PageUp), ctrl('b')], Action::Move(Step::PageUp), None, "a page up"),
    bind(LISTS, &[key(KeyCode::PageDown), ctrl('f')], Action::Move(Step::PageDown), None, "a page down"),
    bind(LISTS, &[key(KeyCode::Home), char('g')], Action::Move(Step::First), None, "to the top, and stay there"),
    bind(LISTS, &[key(KeyCode::End), char('G')], Action::Move(Step::Last), None, "to the end"),
    bind(&[Table], &[char('t')], Action::Throttle, Some("throttle"), "limit the selected process"),
    bind(&[Table], &[char('r')], Action::RemoveLimit, Some("remove"), "remove its limit"),
    bind(&[Log], &[key(KeyCode::Tab)], Action::Next, Some("other part"), "scroll the other part"),
    bind(PANES, &[key(KeyCode::Esc)], Action::Back, Some("back"), "back to the processes"),
    bind(LISTS, &[char('L')], Action::Log, Some("log"), "notices and log, and back"),
    bind(LISTS, &[char('?'), char('h')], Action::Help, Some("help"), "these keys, and back"),
    bind(LISTS, &[char('q')], Action::Quit, Some("quit"), "quit; limits end with it"),
    bind(&[Dialog], &[key(KeyCode::Enter)], Action::Apply, Some("apply"), "apply both fields"),
    bind(&[Dialog], &[key(KeyCode::Tab), key(KeyCode::Down)], Action::Next, Some("next field"), "the next field"),
    bind(&[Dialog], &[key(KeyCode::BackTab), key(KeyCode::Up)], Action::Previous, None, "the field before"),
    bind(&[Dialog], &[key(KeyCode::Esc)], Action::Back, Some("leave"), "leave without a change"),
    bind(&[Dialog], &[key(KeyCode::Left), ctrl('b')], Action::Edit(InputRequest::GoToPrevChar), None, "left"),
    bind(&[Dialog], &[key(KeyCode::Right), ctrl('f')], Action::Edit(InputRequest::GoToNextChar), None, "right"),
    bind(&[Dialog], &[key(KeyCode::Home), ctrl('a')], Action::Edit(InputRequest::GoToStart), None, "to the start"),
    bind(&[Dialog], &[key(KeyCode::End), ctrl('e')], Action::Edit(InputRequest::GoToEnd), None, "to the end"),
    bind(&[Dialog], &[key(KeyCode::Backspace), ctrl('h')], Action::Edit(InputRequest::DeletePrevChar), None, "delete to the left"),
    bind(&[Dialog], &[key(KeyCode::Delete), ctrl('d')], Action::Edit(InputRequest::DeleteNextChar), None, "delete to the right"),
    bind(&[Dialog], &[ctrl('u'), ctrl('w')], Action::Edit(InputRequest::DeleteLine), None, "empty the field"),
    bind(&Context::ALL, &[ctrl('c')], Action::Quit, None, "quit"),
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
        ) if context == Dialog => Some(Action::Edit(InputRequest::InsertChar(c))),
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
            assert!(in_context(context).any(|b| b.action == Action::Quit));
            let back = in_context(context).any(|b| b.action == Action::Back);
            assert_eq!(back, context != Table, "{context:?}");
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
