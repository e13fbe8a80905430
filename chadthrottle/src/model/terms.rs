//! What processes may have: limits, how important they are, and a part of the link that is guaranteed to them.

use std::{fmt, str::FromStr};

use chadthrottle_common::traffic::Direction;

use super::{
    direction::{Limits, PerDirection},
    link::pair,
    priority::Priority,
    scope::Scope,
};
use crate::rate::Rate;

/// What processes may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Not more than this.
    pub limits: Limits,
    /// How important their traffic is.
    pub priority: Priority,
    /// So much of the link before everybody else.
    pub at_least: Limits,
}

impl Terms {
    /// Limits, and nothing about how important they are.
    pub fn limits(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Whether they have what others leave.
    pub fn is_background(&self) -> bool {
        self.priority == Priority::Background
    }

    /// Whether they have what they ask for before everybody else.
    pub fn is_high(&self) -> bool {
        self.priority == Priority::High
    }

    /// Whether they come before everybody else, with all that they ask for or with a part of the link.
    pub fn comes_first(&self) -> bool {
        self.is_high() || !self.at_least.is_unlimited()
    }

    /// Whether they are about how a link is shared.
    pub fn is_about_link(&self) -> bool {
        self.is_background() || self.comes_first()
    }

    /// Whether they say anything.
    pub fn says_anything(&self) -> bool {
        self.is_about_link() || !self.limits.is_unlimited()
    }

    /// Which traffic they are about if nothing was said: a link that is worth more to some than to others is the way to the
    /// internet, and what stays on local networks need not wait for it.
    pub fn scope(&self) -> Scope {
        match self.comes_first() {
            true => Scope::Internet,
            false => Scope::All,
        }
    }

    /// Whether they make sense together.
    ///
    /// # Errors
    ///
    /// Which word contradicts another, and why.
    pub fn check(&self) -> Result<(), (Word, &'static str)> {
        let more = |direction| {
            let (least, most) = (self.at_least.get(direction), self.limits.get(direction));
            matches!((least, most), (Some(least), Some(most)) if least > most)
        };
        let guaranteed = !self.at_least.is_unlimited();
        Err(match self.priority {
            Priority::Background if self.limits.is_blocked() => (
                Word::Priority,
                "background traffic has what others leave, and what is blocked has nothing",
            ),
            Priority::High if self.limits.is_blocked() => (
                Word::Priority,
                "what is important has what it wants, and what is blocked has nothing",
            ),
            Priority::Background if guaranteed => (
                Word::AtLeast,
                "background traffic has what others leave, and nothing is guaranteed to it",
            ),
            Priority::High if guaranteed => (
                Word::AtLeast,
                "what is important has what it wants, and that is no less than a part",
            ),
            _ if Direction::BOTH.into_iter().any(more) => (
                Word::AtLeast,
                "it can't have at least more than it may have at the most",
            ),
            _ => return Ok(()),
        })
    }
}

/// A word of [`Terms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// How important it is.
    Priority,
    /// The part that is guaranteed.
    AtLeast,
}

/// A part of the link that is guaranteed, as it is typed: `2M` each way, or `2M/500K` down and up, with `-` for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtLeast(pub Limits);

impl FromStr for AtLeast {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |text: &str| match text.trim() {
            "-" => Some(None),
            text => text.parse().ok().map(Some),
        };
        let limits = match text.parse::<Rate>() {
            Ok(rate) => PerDirection {
                download: Some(rate),
                upload: Some(rate),
            },
            Err(error) => {
                let (download, upload) = pair(text, one).ok_or(format!(
                    "{error}; or what it has down and up, for example 2M/500K, or 2M/- for downloads alone"
                ))?;
                PerDirection { download, upload }
            }
        };
        if limits.is_unlimited() || limits.is_blocked() {
            return Err(
                "a guarantee is of something: for example 2M, or 2M/- for downloads alone"
                    .to_owned(),
            );
        }
        Ok(Self(limits))
    }
}

/// As it may be typed.
impl fmt::Display for AtLeast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PerDirection { download, upload } = self.0;
        let one = |rate: Option<Rate>| rate.map_or("-".to_owned(), Rate::exact);
        match download == upload {
            true => f.write_str(&one(download)),
            false => write!(f, "{}/{}", one(download), one(upload)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guarantee_as_it_is_typed() {
        for (text, shown) in [
            ("2M", "2M"),
            ("2M/500K", "2M/500K"),
            ("2 MB/s/500 KB/s", "2M/500K"),
            ("2M/-", "2M/-"),
            ("-/16mbit", "-/2M"),
            ("1M/1M", "1M"),
        ] {
            let read: AtLeast = text.parse().unwrap();
            assert_eq!(read.to_string(), shown, "{text}");
            assert_eq!(shown.parse(), Ok(read));
        }
        for text in ["", "0", "-", "-/-", "0/1M", "fast", "1M/2M/3M"] {
            let error = text.parse::<AtLeast>().unwrap_err();
            assert!(error.contains("2M"), "{text}: {error}");
        }
    }

    #[test]
    fn words_that_contradict_each_other() {
        let rate = |bytes| Some(Rate::from_bytes_per_second(bytes));
        let both = |bytes| Limits::of(|_| rate(bytes));
        let (background, high) = (Priority::Background, Priority::High);
        for (limit, priority, least, wrong) in [
            (1, Priority::Normal, 1, None),
            (1, Priority::Normal, 2, Some(Word::AtLeast)),
            (1, background, 1, Some(Word::AtLeast)),
            (1, high, 1, Some(Word::AtLeast)),
            (0, high, 0, Some(Word::Priority)),
            (1, high, 0, None),
            (0, background, 0, Some(Word::Priority)),
        ] {
            let terms = Terms {
                limits: both(limit),
                priority,
                at_least: if least > 0 {
                    both(least)
                } else {
                    Limits::default()
                },
            };
            assert_eq!(
                terms.check().err().map(|(word, _)| word),
                wrong,
                "{terms:?}"
            );
            assert_eq!(terms.comes_first(), least > 0 || priority == high);
        }
    }
}
