//! Patterns for program names, paths and command lines.

use std::{fmt, hash, str::FromStr};

use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;
use serde_with::{DeserializeFromStr, SerializeDisplay};

/// The longest pattern; what is longer is a mistake.
const LONGEST: usize = 4096;

/// A text (`curl`), a glob (`chrom*`), a regular expression after `re:` (`re:^curl$`), or a text
/// after `=` whose special characters mean themselves (`=[kworker]`).
#[derive(Clone, Debug, SerializeDisplay, DeserializeFromStr)]
pub struct Pattern {
    text: String,
    compiled: Compiled,
}

#[derive(Clone, Debug)]
enum Compiled {
    Exact(String),
    Glob(GlobMatcher),
    Regex(Regex),
}

/// Why a text is no pattern.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// Nothing would ever match it.
    #[error(
        "the pattern is empty; type a name, a glob such as 'chrom*', or 're:' and a regular expression"
    )]
    Empty,
    /// Longer than any name.
    #[error("the pattern is longer than {LONGEST} bytes")]
    TooLong,
    /// A glob that can't be understood.
    #[error("the glob can't be understood: {0}")]
    Glob(#[from] globset::Error),
    /// A regular expression that can't be understood.
    #[error("the regular expression can't be understood: {0}")]
    Regex(#[from] regex::Error),
}

impl Pattern {
    /// A pattern that matches this text and no other, whatever characters it has.
    pub fn exactly(text: &str) -> Self {
        let plain = text
            .parse()
            .is_ok_and(|pattern: Self| pattern.exact() == Some(text));
        Self {
            text: format!("{}{text}", if plain { "" } else { "=" }),
            compiled: Compiled::Exact(text.to_owned()),
        }
    }

    /// Whether all of `text` matches (a regular expression: any part of it).
    pub fn matches(&self, text: &str) -> bool {
        match &self.compiled {
            Compiled::Exact(exact) => exact == text,
            Compiled::Glob(glob) => glob.is_match(text),
            Compiled::Regex(regex) => regex.is_match(text),
        }
    }

    /// The text it was made from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text itself, if the pattern matches nothing else.
    pub fn exact(&self) -> Option<&str> {
        match &self.compiled {
            Compiled::Exact(exact) => Some(exact),
            Compiled::Glob(_) | Compiled::Regex(_) => None,
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > LONGEST {
            return Err(PatternError::TooLong);
        }
        let compiled = if let Some(exact) = text.strip_prefix('=') {
            if exact.is_empty() {
                return Err(PatternError::Empty);
            }
            Compiled::Exact(exact.to_owned())
        } else if let Some(expression) = text.strip_prefix("re:") {
            if expression.is_empty() {
                return Err(PatternError::Empty);
            }
            Compiled::Regex(Regex::new(expression)?)
        } else if text.contains(['*', '?', '[', '{']) {
            Compiled::Glob(GlobBuilder::new(text).build()?.compile_matcher())
        } else {
            Compiled::Exact(text.to_owned())
        };
        Ok(Self {
            text: text.to_owned(),
            compiled,
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl hash::Hash for Pattern {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, text: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().matches(text)
    }

    #[test]
    fn what_matches() {
        for (pattern, text, expected) in [
            ("curl", "curl", true),
            ("curl", "curl2", false),
            ("curl", "libcurl", false),
            ("chrom*", "chromium", true),
            ("chrom*", "xchromium", false),
            ("/usr/bin/*", "/usr/bin/curl", true),
            ("{curl,wget}", "wget", true),
            ("py?hon[23]", "python3", true),
            ("re:^curl( |$)", "curl -O x", true),
            ("re:^curl( |$)", "curly", false),
            ("re:url", "curl", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_refused() {
        for (pattern, message) in [
            ("", "empty"),
            ("re:", "empty"),
            ("a[", "the glob can't be understood"),
            ("re:(", "the regular expression can't be understood"),
        ] {
            let error = pattern.parse::<Pattern>().unwrap_err().to_string();
            assert!(error.contains(message), "{pattern}: {error}");
        }
        assert!("x".repeat(LONGEST + 1).parse::<Pattern>().is_err());
    }

    #[test]
    fn a_name_with_odd_characters_can_be_meant_exactly() {
        assert!(Pattern::exactly("a[*").matches("a[*"));
        assert!(!Pattern::exactly("a*").matches("ab"));
        assert_eq!(Pattern::exactly("curl").to_string(), "curl");
        let odd = Pattern::exactly("=re:x*");
        assert_eq!(odd.to_string().parse::<Pattern>().unwrap(), odd);
        assert!(odd.matches("=re:x*"));
    }

    proptest! {
        #[test]
        fn nothing_typed_panics(text in "\\PC{0,40}", name in "\\PC{0,20}") {
            if let Ok(pattern) = text.parse::<Pattern>() {
                pattern.matches(&name);
                prop_assert_eq!(pattern.to_string(), text);
            }
        }
    }
}
