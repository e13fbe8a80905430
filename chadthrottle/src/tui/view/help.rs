//! The keys, made from the keymap itself, and the marks.

use ratatui::{
    Frame,
    layout::{Rect, Size},
    text::{Line, Span},
};

use super::{Areas, pane, text::left, theme::Theme};
use crate::tui::keymap::{self, Binding, Context};

/// Words of the filter; all that are typed must hold.
const FILTER: &[(&str, &str)] = &[
    ("nginx", "in name, path, user or cgroup; or its id"),
    ("user:ada", "of this user"),
    ("pid:42", "ids that begin so; several with commas"),
    ("port:443", "has such a local or remote port"),
    ("program: unit:", "of this program or unit"),
    ("limited blocked", "has a limit; is blocked"),
    ("!user:root", "not so"),
];

/// Columns of the keys and signs.
const SIGN: u16 = 16;

/// Columns of a section, its words included.
const SECTION: u16 = 54;

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
    [lines(inner.width, &theme).len(), usize::from(inner.height)]
}

/// Draws it.
pub fn render(frame: &mut Frame, area: Rect, scroll: usize, theme: &Theme) {
    let lines = lines(pane::inner(area).width, theme);
    let height = area.height.min(lines.len() as u16 + 2);
    let area = Rect { height, ..area };
    pane::render(frame, area, " Keys ", lines, scroll, theme.border, theme);
}

/// In one column, or in two where they fit beside each other.
fn lines(width: u16, theme: &Theme) -> Vec<Line<'static>> {
    let everywhere = |binding: &Binding| binding.contexts.len() == Context::ALL.len();
    let in_table = |binding: &Binding| binding.contexts.contains(&Context::Table);
    let keys = |context: Context, also: &dyn Fn(&Binding) -> bool| {
        let bindings = keymap::in_context(context).filter(|binding| also(binding));
        section(context.title(), bindings.map(entry_of), theme)
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
    first.extend(section("Anywhere", anywhere.map(entry_of), theme));
    let mut second = section("Marks and rates", listed(LEGEND), theme);
    second.extend(section("What can be filtered by", listed(FILTER), theme));
    second.extend(own(Context::Details));
    second.extend(own(Context::Limits));
    second.extend(own(Context::Dialog));
    second.extend(own(Context::Filter));
    second.extend(own(Context::Log));

    // The blank line after the last section is no line of the help.
    second.pop();
    if width < 2 * SECTION {
        first.append(&mut second);
        return first;
    }
    first.pop();
    let height = first.len().max(second.len());
    first.resize_with(height, Line::default);
    for (line, more) in first.iter_mut().zip(second) {
        let gap = usize::from(SECTION).saturating_sub(line.width());
        line.push_span(" ".repeat(gap));
        line.spans.extend(more.spans);
    }
    first
}

fn entry_of(binding: &Binding) -> (String, &'static str) {
    let keys: Vec<String> = binding.keys.iter().map(ToString::to_string).collect();
    (keys.join(" "), binding.help)
}

fn section(
    title: &'static str,
    entries: impl Iterator<Item = (String, &'static str)>,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let mut lines = vec![Line::from(Span::styled(title, theme.title))];
    lines.extend(entries.map(|(sign, meaning)| {
        let sign = Span::styled(left(&sign, SIGN), theme.key);
        Line::from(vec![sign, Span::raw("  "), Span::raw(meaning)])
    }));
    lines.push(Line::default());
    lines
}
