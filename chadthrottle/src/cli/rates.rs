//! How much may pass, as it is written on the command line.

use clap::{Args, ValueEnum};

use crate::{
    model::{
        direction::{Limits, PerDirection},
        link::LinkSpeed,
        priority::Priority,
        rule::{Rule, Scope, Sharing},
        target::Target,
        terms::{AtLeast, Terms, Word},
    },
    rate::Rate,
};

/// How much of which traffic is let through. A command that needs an answer requires the group
/// `rates`.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct RateArgs {
    /// The most it may receive, for example 500K or 8mbit; 0 blocks
    #[arg(long, value_name = "RATE", group = "rates", allow_hyphen_values = true)]
    pub download: Option<Rate>,
    /// The most it may send
    #[arg(long, value_name = "RATE", group = "rates", allow_hyphen_values = true)]
    pub upload: Option<Rate>,
    /// Let nothing through, in both directions or one
    #[arg(
        long,
        group = "rates",
        value_name = "DIRECTION",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "both"
    )]
    pub block: Option<Block>,
    /// How important it is, in place of a rate or besides: 'background' has what others leave of the link, 'high' what it
    /// asks for before everybody else
    #[arg(
        long,
        value_enum,
        group = "rates",
        value_name = "PRIORITY",
        conflicts_with = "block"
    )]
    pub priority: Option<Priority>,
    /// So much of the link it has before everybody else while it uses it, down and up: 2M, 2M/500K or 2M/-
    #[arg(long, value_name = "RATE", group = "rates", conflicts_with = "block")]
    pub at_least: Option<AtLeast>,
    /// Limit only this part of the traffic, by its remote address
    #[arg(long, value_enum, value_name = "PART")]
    pub traffic: Option<Scope>,
}

/// What somebody knows of the link.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct LinkArgs {
    /// How fast the link is, down and up, if you know: 50mbit/10mbit. Background traffic never uses more
    #[arg(long, value_name = "DOWN/UP")]
    pub link: Option<LinkSpeed>,
}

/// How those that a limit is for share it.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct SharingArgs {
    /// All processes share the limits
    #[arg(long, conflicts_with = "each")]
    shared: bool,
    /// Each process has the limits for itself
    #[arg(long)]
    each: bool,
}

impl SharingArgs {
    /// What was said, or else this.
    pub fn or(&self, unsaid: Sharing) -> Sharing {
        match (self.shared, self.each) {
            (true, _) => Sharing::Shared,
            (_, true) => Sharing::Each,
            _ => unsaid,
        }
    }
}

/// Directions to block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Block {
    /// Both
    Both,
    /// What is received
    Download,
    /// What is sent
    Upload,
}

impl RateArgs {
    /// The limits, where none are yet.
    ///
    /// # Errors
    ///
    /// A direction has a rate and is blocked.
    pub fn limits(&self) -> Result<Limits, String> {
        let mut limits = Limits::default();
        self.change(&mut limits)?;
        Ok(limits)
    }

    /// What of it makes no sense for a limit that is set by hand.
    ///
    /// # Errors
    ///
    /// As [`Self::limits`]; or it says that everything is as it is.
    pub fn check_by_hand(&self, link: &LinkArgs) -> Result<(), String> {
        if link.link.is_some() && !self.terms(Limits::default()).is_about_link() {
            return Err(
                "--link is for --priority background or high and for --at-least: nothing else asks how fast the link is".to_owned(),
            );
        }
        if self.priority == Some(Priority::Normal) {
            return Err(
                "normal is what every process is that has no other priority; end the command that set the other one"
                    .to_owned(),
            );
        }
        let terms = self.terms(self.limits()?);
        terms.check().map_err(|(word, why)| {
            let word = match word {
                Word::Priority => "--priority",
                Word::AtLeast => "--at-least",
            };
            format!("{why}; leave out {word} or what contradicts it")
        })
    }

    /// On which terms, with these limits.
    fn terms(&self, limits: Limits) -> Terms {
        Terms {
            limits,
            priority: self.priority.unwrap_or_default(),
            at_least: (self.at_least).map_or_else(Limits::default, |AtLeast(limits)| limits),
        }
    }

    /// A rule set by hand that says this, with these [`Self::limits`], for processes that have them each or together.
    pub fn rule(&self, target: Target, limits: Limits, sharing: Sharing) -> Rule {
        let rule = match self.priority {
            Some(Priority::Background) => Rule::in_background(target),
            _ => Rule {
                sharing,
                ..Rule::by_hand(target, limits)
            },
        };
        Rule {
            scope: self.scope(),
            ..rule.with(self.terms(limits))
        }
    }

    /// Which traffic they are for, if nothing else was said before.
    pub fn scope(&self) -> Scope {
        let terms = self.terms(Limits::default());
        self.traffic.unwrap_or(terms.scope())
    }

    /// Changes what is given of the limits.
    ///
    /// # Errors
    ///
    /// As [`Self::limits`].
    pub fn change(&self, limits: &mut Limits) -> Result<(), String> {
        let blocked = PerDirection {
            download: matches!(self.block, Some(Block::Both | Block::Download)),
            upload: matches!(self.block, Some(Block::Both | Block::Upload)),
        };
        for (name, rate, blocked, limit) in [
            (
                "download",
                self.download,
                blocked.download,
                &mut limits.download,
            ),
            ("upload", self.upload, blocked.upload, &mut limits.upload),
        ] {
            if rate.is_some() && blocked {
                return Err(format!(
                    "--{name} and --block contradict each other; block the other direction alone \
                     with --block={}",
                    if name == "download" {
                        "upload"
                    } else {
                        "download"
                    }
                ));
            }
            *limit = rate.or(blocked.then_some(Rate::ZERO)).or(*limit);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(download: Option<u64>, upload: Option<u64>, block: Option<Block>) -> RateArgs {
        RateArgs {
            download: download.map(Rate::from_bytes_per_second),
            upload: upload.map(Rate::from_bytes_per_second),
            block,
            priority: None,
            at_least: None,
            traffic: None,
        }
    }

    #[test]
    fn what_is_not_given_stays() {
        let bytes = |limits: Limits| {
            let bytes = |rate: Option<Rate>| rate.map(|rate| rate.bytes_per_second());
            (bytes(limits.download), bytes(limits.upload))
        };
        let mut limits = args(Some(1), None, None).limits().unwrap();
        assert_eq!(bytes(limits), (Some(1), None));
        args(None, Some(2), None).change(&mut limits).unwrap();
        assert_eq!(bytes(limits), (Some(1), Some(2)));
        let block = args(Some(3), None, Some(Block::Upload));
        block.change(&mut limits).unwrap();
        assert_eq!(bytes(limits), (Some(3), Some(0)));
        args(None, None, Some(Block::Both))
            .change(&mut limits)
            .unwrap();
        assert_eq!(bytes(limits), (Some(0), Some(0)));
    }

    #[test]
    fn a_rate_and_a_block_contradict_each_other() {
        for (args, advice) in [
            (args(Some(1), None, Some(Block::Both)), "--block=upload"),
            (args(None, Some(1), Some(Block::Upload)), "--block=download"),
        ] {
            let error = args.limits().unwrap_err();
            assert!(error.contains(advice), "{error}");
        }
    }
}
