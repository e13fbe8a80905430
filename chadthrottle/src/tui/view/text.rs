//! Texts that fit their place.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The text in exactly so many columns, left-aligned; what does not fit gives way to `…`.
pub(super) fn left(text: &str, width: u16) -> String {
    let mut text = cut(text, width);
    let missing = usize::from(width).saturating_sub(text.width());
    text.extend(std::iter::repeat_n(' ', missing));
    text
}

/// The same, right-aligned.
pub(super) fn right(text: &str, width: u16) -> String {
    let text = cut(text, width);
    let missing = usize::from(width).saturating_sub(text.width());
    format!("{}{text}", " ".repeat(missing))
}

/// The text in a table's column, with the space after it.
pub(super) fn cell(text: &str, width: u16, is_number: bool) -> String {
    let mut text = match is_number {
        true => right(text, width),
        false => left(text, width),
    };
    text.push(' ');
    text
}

/// A count in at most so many columns, at least four: `9999`, `10k`, `3M`.
pub(super) fn count(count: u32, width: u16) -> String {
    let exact = count.to_string();
    match count {
        _ if exact.len() <= usize::from(width) => exact,
        0..1_000_000 => format!("{}k", count / 1_000),
        _ => format!("{}M", count / 1_000_000),
    }
}

/// The text without what a program may put into its name to confuse the reader: control
/// characters, and those that turn the direction of writing.
fn clean(text: &str) -> String {
    let confuses = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.replace('\t', " ").replace(confuses, "")
}

/// The text in at most so many columns.
pub(super) fn cut(text: &str, width: u16) -> String {
    let width = usize::from(width);
    let clean = clean(text);
    if clean.width() <= width {
        return clean;
    }
    let mut taken = String::new();
    let mut columns = 0;
    for c in clean.chars() {
        let wide = c.width().unwrap_or(0);
        if columns + wide + 1 > width {
            break;
        }
        columns += wide;
        taken.push(c);
    }
    if width > 0 {
        taken.push('…');
    }
    taken
}

/// The text in lines of at most so many columns.
pub(super) fn wrap(text: &str, width: u16) -> Vec<String> {
    textwrap::wrap(&clean(text), usize::from(width.max(1)))
        .into_iter()
        .map(|line| line.into_owned())
        .collect()
}

/// The same in so many lines at most; what does not fit gives way to `…`.
pub(super) fn wrap_in(text: &str, width: u16, most: usize) -> Vec<String> {
    let mut lines = wrap(text, width);
    if lines.len() > most {
        let rest = lines.split_off(most.saturating_sub(1)).join(" ");
        lines.extend((most > 0).then(|| cut(&rest, width)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_fit() {
        for (text, width, expected) in [
            ("curl", 6, "curl  "),
            ("curl", 4, "curl"),
            ("firefox", 4, "fir…"),
            ("火狐浏览器", 5, "火狐…"),
            ("火狐浏览器", 4, "火… "),
            ("a\x1b[31mb", 8, "a[31mb  "),
            ("a\u{202e}b\tc", 5, "ab c "),
            ("x", 0, ""),
        ] {
            assert_eq!(left(text, width), expected);
        }
        for (most, expected) in [
            (3, vec!["one", "two", "three"]),
            (2, vec!["one", "two t…"]),
            (0, vec![]),
        ] {
            assert_eq!(wrap_in("one two three", 6, most), expected);
        }
        assert_eq!(right("7", 3), "  7");
        for (number, text) in [(9_999, "9999"), (10_000, "10k"), (1_000_000, "1M")] {
            assert_eq!(count(number, 4), text);
        }
        assert_eq!(count(u32::MAX, 5), "4294M");
    }
}
