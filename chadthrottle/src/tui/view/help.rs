//! The keys, made from the keymap itself, and the marks.

use ratatui::{
    Frame,
    layout::{Rect, Size},
    text::{Line, Span},
};

use super::{
    Areas, pane,
    text::{left, wrap},
    theme::Theme,
};
use crate::tui::{
    Keeper,
    keymap::{self, Binding, Context},
    state::State,
};

/// Words of the filter; all that are typed must hold.
const FILTER: &[(&str, &str)] = &[
    ("nginx", "in name, path, user or cgroup; or its id"),
    ("user:ada", "of this user"),
    ("pid:42", "ids that begin so; several with commas"),
    ("port:443", "has such a local or remote port"),
    ("program: unit:", "of this program or unit"),
    ("command:up.py", "in its command line"),
    ("limited blocked", "has a limit; is blocked"),
    ("!user:root", "not so"),
];

/// Columns of the keys and signs.
const SIGN: u16 = 16;

/// Columns of a section beside another, its words included: at least, and at most.
const SECTION: (u16, u16) = (56, 64);

/// What stands in the table's first column, and what a rate may look like.
const LEGEND: &[(&str, &str)] = &[
    ("▽", "limited, and below the limit"),
    ("▼", "held at its limit"),
    ("■", "blocked, in one direction or both"),
    ("!", "its limit is not fully enforced"),
    ("†", "ended"),
    ("✓", "tagged"),
    ("500K  1.5MB/s", "decimal bytes a second"),
    ("1MiB", "binary bytes a second"),
    ("8mbit  1.5Gbit", "bits a second"),
    ("0", "blocked; an empty field is unlimited"),
];

/// Lines there are, and lines shown at once.
pub fn lines_and_page(size: Size) -> [usize; 2] {
    let inner = pane::inner(Areas::of_size(size).body);
    let theme = Theme::new(super::theme::Palette::Plain);
    let lines = lines(inner.width, Keeper::This, &theme);
    [lines.len(), usize::from(inner.height)]
}

/// Draws it.
pub fn render(frame: &mut Frame, area: Rect, state: &State, scroll: usize, theme: &Theme) {
    let lines = lines(pane::inner(area).width, state.phase.keeper(), theme);
    let height = area.height.min(lines.len() as u16 + 2);
    let area = Rect { height, ..area };
    pane::render(frame, area, " Keys ", lines, scroll, theme.border, theme);
}

/// In one column, or in two where they fit beside each other.
fn lines(width: u16, keeper: Keeper, theme: &Theme) -> Vec<Line<'static>> {
    let entry_of = |binding: &Binding| entry_of(binding, keeper);
    let everywhere = |binding: &Binding| binding.contexts.len() == Context::ALL.len();
    let in_table = |binding: &Binding| binding.contexts.contains(&Context::Table);
    let beside = width >= 2 * SECTION.0;
    let section_width = if beside {
        SECTION.1.min(width / 2)
    } else {
        width
    };
    let section = |title, entries: &mut dyn Iterator<Item = (String, &'static str)>| {
        section(title, entries, section_width, theme)
    };
    let keys = |context: Context, also: &dyn Fn(&Binding) -> bool| {
        let bindings = keymap::in_context(context).filter(|binding| also(binding));
        section(context.title(), &mut bindings.map(entry_of))
    };
    let listed = |list: &'static [(&'static str, &'static str)]| {
        list.iter()
            .map(|(sign, meaning)| ((*sign).to_owned(), *meaning))
    };
    let anywhere = keymap::in_context(Context::Table).filter(|binding| everywhere(binding));
    let own = |context| {
        keys(context, &|binding| {
            !everywhere(binding) && !in_table(binding)
        })
    };
    let mut first = keys(Context::Table, &|binding| !everywhere(binding));
    first.extend(section("Anywhere", &mut anywhere.map(entry_of)));
    let mut second = section("Marks and rates", &mut listed(LEGEND));
    second.extend(section("What can be filtered by", &mut listed(FILTER)));
    second.extend(own(Context::Details));
    second.extend(own(Context::Limits));
    second.extend(own(Context::Dialog));
    second.extend(own(Context::Filter));
    second.extend(own(Context::Log));

    // The blank line after the last section is no line of the help.
    second.pop();
    if !beside {
        first.append(&mut second);
        return first;
    }
    first.pop();
    let height = first.len().max(second.len());
    first.resize_with(height, Line::default);
    for (line, more) in first.iter_mut().zip(second) {
        let gap = usize::from(section_width).saturating_sub(line.width());
        line.push_span(" ".repeat(gap));
        line.spans.extend(more.spans);
    }
    first
}

fn entry_of(binding: &Binding, keeper: Keeper) -> (String, &'static str) {
    let keys: Vec<String> = binding.keys.iter().map(ToString::to_string).collect();
    (keys.join(" "), binding.words(keeper))
}

/// What is said of a sign stands beside it, in as many lines as it takes.
fn section(
    title: &'static str,
    entries: &mut dyn Iterator<Item = (String, &'static str)>,
    width: u16,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let sign_width = SIGN.min(width / 3);
    let mut lines = vec![Line::from(Span::styled(title, theme.title))];
    for (sign, meaning) in entries {
        let words = wrap(meaning, width.saturating_sub(sign_width + 3));
        let mut signs = wrap(&sign, sign_width).into_iter();
        let mut words = words.into_iter();
        loop {
            let (sign, words) = (signs.next(), words.next());
            if sign.is_none() && words.is_none() {
                break;
            }
            let sign = left(&sign.unwrap_or_default(), sign_width);
            lines.push(Line::from(vec![
                Span::styled(sign, theme.key),
                Span::raw("  "),
                Span::raw(words.unwrap_or_default()),
            ]));
        }
    }
    lines.push(Line::default());
    lines
}
