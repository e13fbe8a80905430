//! The same picture where the terminal's locale has no Unicode.

use ratatui::buffer::Buffer;

/// What stands for what; everything else becomes a question mark.
const PLAIN: &[(&str, &str)] = &[
    ("─━═", "-"),
    ("│┃║┤├", "|"),
    ("╭╮╰╯┌┐└┘┼┬┴", "+"),
    ("▼", "V"),
    ("▽", "v"),
    ("■", "X"),
    ("†", "x"),
    ("✓", "*"),
    ("▾", "v"),
    ("▴", "^"),
    ("…", "~"),
    ("·", "-"),
    ("–—", "-"),
    ("×", "x"),
    ("↓", "v"),
    ("↑", "^"),
    ("←", "<"),
    ("→", ">"),
    ("▁", "_"),
    ("▂", "."),
    ("▃", ":"),
    ("▄", "-"),
    ("▅", "="),
    ("▆", "+"),
    ("▇", "*"),
    ("█", "#"),
    ("▏▎▍", ":"),
    ("▌▋▊▉", "="),
    ("µ", "u"),
];

/// Replaces what is not ASCII; columns stay where they are.
pub fn plain(picture: &mut Buffer) {
    for cell in &mut picture.content {
        let symbol = cell.symbol();
        if symbol.is_ascii() {
            continue;
        }
        let mut known = PLAIN.iter();
        let replacement = known.find(|(from, _)| from.contains(symbol));
        let braille = |c: char| ('\u{2800}'..='\u{28ff}').contains(&c);
        let plain = match replacement {
            Some((_, to)) => to,
            None if symbol == "\u{2800}" => " ",
            None if symbol.chars().all(braille) => ".",
            None => "?",
        };
        cell.set_symbol(plain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_ascii_afterwards() {
        let mut picture = Buffer::with_lines(["╭─ ▼ 火 ⣿ ü ─╮"]);
        plain(&mut picture);
        let text: String = picture.content.iter().map(|cell| cell.symbol()).collect();
        assert_eq!(text, "+- V ?  . ? -+");
    }
}
