//! What is wrong with a rules file, and where.

use std::{fmt, ops::Range};

/// Something wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// What is wrong, and what was expected.
    pub text: String,
}

impl Mistake {
    /// What is wrong with a part of a text, by its bytes.
    pub fn at(text: &str, place: Option<Range<usize>>, what: impl Into<String>) -> Self {
        let start = place.map_or(0, |place| place.start).min(text.len());
        let before = text.get(..start).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            text: what.into(),
        }
    }
}

/// All that is wrong with a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl Mistakes {
    /// One a line, each with the file's name, as compilers do.
    pub fn in_file<'a>(&'a self, file: &'a std::path::Path) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| {
            for (nth, mistake) in self.0.iter().enumerate() {
                let end = if nth > 0 { "\n" } else { "" };
                write!(f, "{end}{}:{mistake}", file.display())?;
            }
            Ok(())
        })
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.text)
    }
}

/// What people write for a key that has another name.
const SYNONYMS: &[(&str, &str)] = &[
    ("class", "traffic"),
    ("scope", "traffic"),
    ("down", "download"),
    ("ingress", "download"),
    ("receive", "download"),
    ("up", "upload"),
    ("egress", "upload"),
    ("send", "upload"),
    ("exe", "path"),
    ("file", "path"),
    ("cmdline", "command"),
    ("args", "command"),
    ("process", "program"),
    ("comm", "program"),
    ("uid", "user"),
    ("service", "unit"),
    ("slice", "unit"),
    ("to", "until"),
    ("start", "from"),
    ("end", "until"),
    ("action", "then"),
    ("disabled", "enabled"),
    ("rules", "rule"),
];

/// `; did you mean 'download'?`, or all there are.
pub fn did_you_mean(typed: &str, known: &[&str]) -> String {
    let lower = typed.to_lowercase();
    let synonym = SYNONYMS
        .iter()
        .find(|(from, to)| *from == lower && known.contains(to))
        .map(|(_, to)| *to);
    let like = || {
        let nearest = known
            .iter()
            .map(|word| (strsim::osa_distance(&lower, word), *word))
            .min_by_key(|(edits, _)| *edits)?;
        let most = (lower.chars().count() / 3).max(1);
        (nearest.0 <= most).then_some(nearest.1)
    };
    match synonym.or_else(like) {
        Some(word) => format!("; did you mean '{word}'?"),
        None => format!("; known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let text = "a = 1\n# ä\nbä = 2\n";
        let at = |start| {
            let mistake = Mistake::at(text, Some(start..start + 1), "x");
            (mistake.line, mistake.column)
        };
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(text.find("= 2").unwrap()), (3, 4));
        assert_eq!(at(1000), (4, 1));
    }

    #[test]
    fn words_that_were_meant() {
        let keys = ["download", "upload", "traffic", "program"];
        for (typed, hint) in [
            ("donwload", "; did you mean 'download'?"),
            ("Download", "; did you mean 'download'?"),
            ("class", "; did you mean 'traffic'?"),
            ("zzz", "; known are download, upload, traffic, program"),
            ("exe", "; known are download, upload, traffic, program"),
        ] {
            assert_eq!(did_you_mean(typed, &keys), hint, "{typed}");
        }
    }
}
