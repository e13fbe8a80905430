//! The command line of what works without the screen: rules, the daemon, and what speaks with it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand, ValueEnum};

use super::{
    after_help,
    rates::{RateArgs, SharingArgs},
    target::LastingArgs,
};
use crate::{
    log_sink::Format,
    model::{direction::Limits, priority::Priority, rule::Sharing, terms::AtLeast},
    rate::Rate,
    rules::{
        file::{self, FileRule},
        quota::{Allowance, Count, Quota, Then},
        schedule::{self, Days},
    },
};

/// What works without the screen.
#[derive(Debug, Subcommand)]
pub enum Unattended {
    /// Show, check and change the rules file
    #[command(after_help = after_help::RULES)]
    Rules(Box<RulesArgs>),
    /// Apply the rules without a screen until told to stop
    #[command(after_help = after_help::DAEMON)]
    Daemon(DaemonArgs),
    /// Show what a running daemon does
    #[command(after_help = after_help::STATUS)]
    Status {
        /// Print one line of JSON
        #[arg(long)]
        json: bool,
        /// Show only what is known of the link by which background traffic goes
        #[arg(long)]
        link: bool,
    },
    /// End limits in a running daemon; without a name, all that were set by hand
    #[command(after_help = after_help::CLEAR)]
    Clear {
        /// The name of a rule, or else the number of a limit, as `status` shows it
        #[arg(conflicts_with = "all")]
        limits: Vec<String>,
        /// End those of the rules file, too, until `rules apply`
        #[arg(long)]
        all: bool,
    },
    /// Print completions for a shell
    #[command(after_help = after_help::COMPLETIONS)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    #[command(after_help = after_help::MAN)]
    Man {
        /// The folder, for example /usr/local/share/man/man1
        folder: PathBuf,
    },
}

impl Unattended {
    /// How much may pass, if that was said.
    pub(super) fn rates(&self) -> Option<&RateArgs> {
        let Self::Rules(rules) = self else {
            return None;
        };
        match &rules.action {
            RulesAction::Add { rule, .. } | RulesAction::Edit { rule, .. } => Some(&rule.rates),
            _ => None,
        }
    }
}

/// `chadthrottle daemon`.
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// Which rules file.
    #[command(flatten)]
    pub file: RulesPath,
    /// Serve metrics for Prometheus here, for example 127.0.0.1:9184
    #[arg(long, value_name = "ADDRESS", value_parser = file::listen_address)]
    pub metrics: Option<SocketAddr>,
    /// How log lines look
    #[arg(long, value_enum, default_value_t)]
    pub log: Format,
}

/// `chadthrottle rules`.
#[derive(Debug, Args)]
pub struct RulesArgs {
    /// Which file.
    #[command(flatten)]
    pub file: RulesPath,
    /// What to do
    #[command(subcommand)]
    pub action: RulesAction,
}

/// Which rules file.
#[derive(Debug, Args)]
pub struct RulesPath {
    /// The rules file [default: /etc/chadthrottle/rules.toml]
    #[arg(
        long = "config",
        value_name = "FILE",
        env = "CHADTHROTTLE_CONFIG",
        hide_env_values = true,
        global = true
    )]
    given: Option<PathBuf>,
}

impl RulesPath {
    /// The file's path.
    pub fn path(&self) -> &Path {
        self.given.as_deref().unwrap_or(Path::new(file::DEFAULT))
    }

    /// Whether somebody named it.
    pub fn is_given(&self) -> bool {
        self.given.is_some()
    }
}

/// What to do with the rules.
#[derive(Debug, Subcommand)]
pub enum RulesAction {
    /// Print the rules and whether each is in force now
    #[command(after_help = after_help::RULES_LIST)]
    List {
        /// Print one line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Add a rule
    #[command(after_help = after_help::RULES_ADD)]
    Add {
        /// Its name
        name: String,
        /// What it says.
        #[command(flatten)]
        rule: RuleArgs,
        /// Put it before all others
        #[arg(long, conflicts_with = "before")]
        first: bool,
        /// Put it before the rule with this name
        #[arg(long, value_name = "NAME")]
        before: Option<String>,
    },
    /// Change a rule; what is not named stays. Without options, open the file in your editor
    #[command(after_help = after_help::RULES_EDIT)]
    Edit {
        /// Its name
        name: Option<String>,
        /// What it says.
        #[command(flatten)]
        rule: RuleArgs,
        /// Call it this from now on
        #[arg(long, value_name = "NAME")]
        rename: Option<String>,
        /// Take this out of it; may be given several times
        #[arg(long, value_name = "KEY", value_enum)]
        unset: Vec<Unset>,
    },
    /// Remove a rule, with the comment right above it
    #[command(after_help = after_help::RULES_REMOVE)]
    Remove {
        /// Its name
        name: String,
    },
    /// Say whether the file is right, and if not, where and why
    #[command(after_help = after_help::RULES_CHECK)]
    Check,
    /// Make a running daemon read the file again
    #[command(after_help = after_help::RULES_APPLY)]
    Apply,
}

/// What can be taken out of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Unset {
    /// The limit of what is received
    Download,
    /// The limit of what is sent
    Upload,
    /// The block
    Block,
    /// The priority
    Priority,
    /// What it has before everybody else
    AtLeast,
    /// The class of traffic
    Traffic,
    /// That all processes share the limits
    Shared,
    /// The days
    Days,
    /// The time from which on
    From,
    /// The time until when
    Until,
    /// The quota, and what belongs to it
    Quota,
}

/// What a rule says.
#[derive(Debug, Default, PartialEq, Args)]
#[command(group = clap::ArgGroup::new("rates").multiple(true))]
pub struct RuleArgs {
    #[command(flatten)]
    target: LastingArgs,
    #[command(flatten)]
    rates: RateArgs,
    #[command(flatten)]
    sharing: SharingArgs,
    /// On which days, for example mon-fri or sat,sun
    #[arg(long, value_name = "DAYS", value_parser = parse_days)]
    days: Option<Days>,
    /// From when on each of them, for example 22:00
    #[arg(long, value_name = "TIME", value_parser = schedule::time)]
    from: Option<jiff::civil::Time>,
    /// Until when; on the next day if it is earlier
    #[arg(long, value_name = "TIME", value_parser = schedule::time)]
    until: Option<jiff::civil::Time>,
    /// How much may be moved before it limits, for example 5GB/day
    #[arg(long, value_name = "AMOUNT/PERIOD")]
    quota: Option<Allowance>,
    /// What is done when that much was moved
    #[arg(long, value_name = "ACTION", value_enum)]
    then: Option<Then>,
    /// Which direction counts for the quota
    #[arg(long, value_name = "DIRECTION", value_enum)]
    count: Option<Count>,
    /// Leave it out of force
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
    /// Put it in force
    #[arg(long)]
    enable: bool,
}

impl RuleArgs {
    /// A new rule.
    ///
    /// # Errors
    ///
    /// What is missing or wrong.
    pub fn rule(&self, name: &str) -> Result<FileRule, String> {
        let target = self.target.one()?.ok_or(
            "whom is the rule about? Add --program, --path, --command, --cgroup, --unit or --user",
        )?;
        let mut rule = FileRule::new(name, target.clone());
        self.change(&mut rule)?;
        Ok(rule)
    }

    /// Whether nothing is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Changes what is given of a rule.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn change(&self, rule: &mut FileRule) -> Result<(), String> {
        if let Some(target) = self.target.one()? {
            rule.target = target.clone();
        }
        self.rates.change(&mut rule.limits)?;
        if let Some(priority) = self.rates.priority {
            change_terms(rule, |rule| rule.priority = priority);
        }
        if let Some(AtLeast(limits)) = self.rates.at_least {
            change_terms(rule, |rule| rule.at_least = limits);
        }
        if let Some(scope) = self.rates.traffic {
            rule.scope = scope;
        }
        rule.sharing = self.sharing.or(rule.sharing);
        if let Some(days) = self.days {
            rule.schedule.days = days;
        }
        if let Some(from) = self.from {
            rule.schedule.from = Some(from);
        }
        if let Some(until) = self.until {
            rule.schedule.until = Some(until);
        }
        rule.schedule.check()?;
        self.change_quota(rule)?;
        if self.disable {
            rule.enabled = false;
        }
        if self.enable {
            rule.enabled = true;
        }
        Ok(())
    }

    fn change_quota(&self, rule: &mut FileRule) -> Result<(), String> {
        if let Some(Allowance { amount, period }) = self.quota {
            let before = rule.quota;
            rule.quota = Some(Quota {
                amount,
                period,
                then: before.map_or_else(Then::default, |before| before.then),
                count: before.map_or_else(Count::default, |before| before.count),
            });
        }
        match &mut rule.quota {
            Some(quota) => {
                quota.then = self.then.unwrap_or(quota.then);
                quota.count = self.count.unwrap_or(quota.count);
                Ok(())
            }
            None if self.then.is_some() || self.count.is_some() => {
                Err("--then and --count belong to a quota; add --quota, for example 5GB/day".into())
            }
            None => Ok(()),
        }
    }
}

/// Gives a rule other terms. If it is about the traffic that its old ones are about when nothing is said, so it is with the
/// new ones.
fn change_terms(rule: &mut FileRule, change: impl FnOnce(&mut FileRule)) {
    let was_unsaid = rule.scope == rule.terms().scope();
    change(rule);
    if was_unsaid {
        rule.scope = rule.terms().scope();
    }
}

impl Unset {
    /// Takes it out of a rule.
    pub fn apply(self, rule: &mut FileRule) {
        match self {
            Self::Download => rule.limits.download = None,
            Self::Upload => rule.limits.upload = None,
            Self::Block => {
                let passes = |limit: Option<Rate>| limit.filter(|rate| *rate > Rate::ZERO);
                rule.limits = rule.limits.map(passes);
            }
            Self::Priority => change_terms(rule, |rule| rule.priority = Priority::default()),
            Self::AtLeast => change_terms(rule, |rule| rule.at_least = Limits::default()),
            Self::Traffic => rule.scope = rule.terms().scope(),
            Self::Shared => rule.sharing = Sharing::default(),
            Self::Days => rule.schedule.days = Days::default(),
            Self::From => rule.schedule.from = None,
            Self::Until => rule.schedule.until = None,
            Self::Quota => rule.quota = None,
        }
    }
}

fn parse_days(text: &str) -> Result<Days, String> {
    let mut days = Days::default();
    text.split(',').try_for_each(|word| days.add(word))?;
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Action, Cli};
    use clap::Parser as _;

    fn args(line: &str) -> Result<RulesArgs, String> {
        let line = format!("chadthrottle rules {line}");
        let cli = Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        match cli.action {
            Some(Action::Unattended(Unattended::Rules(args))) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    fn added(line: &str) -> Result<FileRule, String> {
        let RulesAction::Add { name, rule, .. } = args(line)?.action else {
            panic!("{line}")
        };
        rule.rule(&name)
    }

    #[test]
    fn a_rule_can_be_given_as_options() {
        let rule = added(
            "add a --program curl --download 1M --block=upload --traffic local --shared \
             --days mon-fri,sun --from 22:00 --until 6:00 --quota 5GB/day --then notify \
             --count upload --disable"
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .as_str(),
        )
        .unwrap();
        let text = r#"
            [[rule]]
            name = "a"
            enabled = false
            program = "curl"
            traffic = "local"
            download = "1M"
            block = "upload"
            shared = true
            days = ["mon-fri", "sun"]
            from = "22:00"
            until = "06:00"
            quota = "5GB/day"
            then = "notify"
            count = "upload"
        "#;
        assert_eq!(file::read(text).unwrap().rules, [rule]);
    }

    #[test]
    fn only_what_is_given_changes() {
        let line = "add a --user guest --download 1M --upload 2M --shared --quota 5GB/day";
        let mut rule = added(line).unwrap();
        let before = rule.clone();
        let line = "edit a --upload 3M --then block --unset download --unset from --unset shared";
        let RulesAction::Edit {
            rule: args, unset, ..
        } = args(line).unwrap().action
        else {
            panic!("{line}")
        };
        for unset in unset {
            unset.apply(&mut rule);
        }
        args.change(&mut rule).unwrap();
        let mut expected = before;
        expected.limits.download = None;
        expected.sharing = Sharing::Each;
        expected.limits.upload = Some("3M".parse().unwrap());
        expected.quota.as_mut().unwrap().then = Then::Block;
        assert_eq!(rule, expected);
    }

    #[test]
    fn a_rule_is_about_rates_or_a_priority_or_both() {
        let mut rule = added("add a --program rclone --priority background").unwrap();
        assert_eq!(rule.priority, Priority::Background);
        assert!(rule.check().is_ok());
        for (line, priority, limited) in [
            ("edit a --days tue", Priority::Background, false),
            ("edit a --upload 3M", Priority::Background, true),
            ("edit a --priority normal", Priority::Normal, true),
            ("edit a --days mon", Priority::Normal, true),
            ("edit a --priority background", Priority::Background, true),
        ] {
            let RulesAction::Edit { rule: args, .. } = args(line).unwrap().action else {
                panic!("{line}")
            };
            args.change(&mut rule).unwrap();
            let found = (rule.priority, !rule.limits.is_unlimited());
            assert_eq!(found, (priority, limited), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, message) in [
            (
                "add a --program x --priority background --block",
                "cannot be used with",
            ),
            ("add a --download 1M", "whom is the rule about?"),
            ("add a --program x --user y", "cannot be used with"),
            ("add a --program x --then block", "belong to a quota"),
            ("add a --program x --days mno", "did you mean 'mon'?"),
            ("add a --program x --quota 5GB", "\"500MB/day\""),
            ("add a --user x --user y --block", "add a rule for each"),
            ("add a --program x --block --upload 1M", "--block=download"),
            ("add a --unit a/x --download 1M", "'cgroup' means a path"),
            ("add a --program x --from 9pm", "no time of day"),
            ("add a --program x --from 9:00 --until 9:00", "same time"),
            ("remvoe a", "remove"),
        ] {
            let error = added(line).unwrap_err();
            assert!(error.contains(message), "{line}: {error}");
        }
    }

    #[test]
    fn the_file_can_be_named_anywhere() {
        for line in ["check --config /x", "--config /x check"] {
            let args = args(line).unwrap();
            assert_eq!(args.file.path(), Path::new("/x"));
        }
        let default = args("check").unwrap();
        assert_eq!(default.file.path(), Path::new(file::DEFAULT));
    }
}
