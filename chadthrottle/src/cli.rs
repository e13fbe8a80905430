//! The command line.

mod after_help;
pub mod rates;
pub mod rules;
pub mod target;

use std::{ffi::OsString, time::Duration};

use clap::{Parser, Subcommand};

use crate::{
    listing::{column::Column, filter::Filter, rows::View},
    model::{
        direction::Limits,
        rule::{Rule, Sharing},
        target::Target,
    },
};
use rates::{LinkArgs, RateArgs, SharingArgs};
use target::TargetArgs;

/// Shows what every process sends and receives, and limits any of them on a keypress.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, args_conflicts_with_subcommands = true, after_help = after_help::CHADTHROTTLE)]
pub struct Cli {
    /// Open the interface over a made-up world, without root
    #[arg(long)]
    pub demo: bool,
    /// What is known of the link.
    #[command(flatten)]
    pub link: LinkArgs,
    /// What decides what happens in the made-up world
    #[arg(
        long,
        value_name = "SEED",
        requires = "demo",
        default_value_t = 1,
        hide = true
    )]
    pub demo_seed: u64,
    /// How many processes the made-up world has
    #[arg(
        long,
        value_name = "COUNT",
        requires = "demo",
        default_value_t = 40,
        hide = true
    )]
    pub demo_processes: usize,
    /// What to do; without it the interface opens.
    #[command(subcommand)]
    pub action: Option<Action>,
}

impl Cli {
    /// Whether what was read makes sense together, as far as the parser can't tell.
    ///
    /// # Errors
    ///
    /// What contradicts what.
    pub fn check(&self) -> Result<(), String> {
        match &self.action {
            Some(Action::Limit(args)) => args.rates.check_by_hand(&args.link),
            Some(Action::Run(args)) => args.rates.check_by_hand(&args.link),
            Some(Action::Unattended(action)) => action
                .rates()
                .map_or(Ok(()), |rates| rates.limits().map(drop)),
            None if self.demo && self.link.link.is_some() => {
                Err("the made-up world of --demo has a link of its own".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Limit processes, programs, cgroups, units or users until Ctrl-C, or until the time is up
    Limit(Box<LimitArgs>),
    /// Start a command, limited from its first byte, with all that it starts
    Run(RunArgs),
    /// Wait for a word on a descriptor, then become a command: the inner half of `run`
    #[command(hide = true)]
    Hold {
        /// The descriptor.
        ear: i32,
        /// Who runs the command.
        #[arg(long)]
        user: Option<String>,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Print the table of processes without a screen
    Top(TopArgs),
    /// Say what this machine has and lacks
    #[command(after_help = after_help::DOCTOR)]
    Doctor {
        /// First take away what a killed run left on network devices
        #[arg(long)]
        fix: bool,
        /// Print one line of JSON
        #[arg(long)]
        json: bool,
    },
    /// What works without the screen.
    #[command(flatten)]
    Unattended(rules::Unattended),
}

/// `chadthrottle limit`.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("rates").required(true).multiple(true),
    after_help = after_help::LIMIT
)]
pub struct LimitArgs {
    /// What to limit.
    #[command(flatten)]
    pub targets: TargetArgs,
    /// How much.
    #[command(flatten)]
    pub rates: RateArgs,
    /// How it is shared; each its own unless said otherwise.
    #[command(flatten)]
    pub sharing: SharingArgs,
    /// What is known of the link.
    #[command(flatten)]
    pub link: LinkArgs,
    /// End after this time, for example 30s or 5min
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Print a line of JSON for every event and sample
    #[arg(long)]
    pub json: bool,
}

impl LimitArgs {
    /// The rules that were asked for.
    ///
    /// # Errors
    ///
    /// A user that doesn't exist, or a direction that has a rate and is blocked.
    pub fn rules(&self) -> Result<Vec<Rule>, String> {
        let mut targets = self.targets.targets()?;
        let sharing = self.sharing.or(Sharing::Each);
        if sharing == Sharing::Shared && targets.len() > 1 {
            targets = vec![Target::Any(targets)];
        }
        let limits = self.rates.limits()?;
        Ok((targets.into_iter())
            .map(|target| self.rates.rule(target, limits, sharing))
            .collect())
    }
}

/// `chadthrottle run`.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("rates").required(true).multiple(true),
    after_help = after_help::RUN
)]
pub struct RunArgs {
    /// How much.
    #[command(flatten)]
    pub rates: RateArgs,
    /// How it is shared; by all together unless said otherwise.
    #[command(flatten)]
    pub sharing: SharingArgs,
    /// What is known of the link.
    #[command(flatten)]
    pub link: LinkArgs,
    /// Run the command as this user, with a login's groups and home [default: whoever calls; under sudo, root]
    #[arg(long, value_name = "NAME|UID")]
    pub user: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

impl RunArgs {
    /// The rule that was asked for.
    pub fn rule(&self, target: Target, limits: Limits) -> Rule {
        let sharing = self.sharing.or(Sharing::Shared);
        self.rates.rule(target, limits, sharing)
    }
}

/// `chadthrottle top`.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help::TOP)]
pub struct TopArgs {
    /// Print one sample and end; the same as --count 1
    #[arg(long, conflicts_with = "count")]
    pub once: bool,
    /// The time between samples
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    pub interval: Duration,
    /// End after so many samples
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// What a row is
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub by: View,
    /// What the order is by, numbers from the largest, words from A [default: what moves most]
    #[arg(long, value_enum, value_name = "COLUMN")]
    pub sort: Option<Column>,
    /// The order the other way round
    #[arg(long)]
    pub reverse: bool,
    /// Only what this text means, as after '/' in the interface: 'firefox', 'user:ada !port:443'
    #[arg(long, value_name = "TEXT", value_parser = Filter::complete)]
    pub filter: Option<Filter>,
    /// Print a line of JSON a sample
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print comma-separated values: a heading, then a line a row
    #[arg(long)]
    pub csv: bool,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; type for example 30s, 5min or 1h30min"))?;
    if duration.is_zero() {
        return Err("that is no time at all".to_owned());
    }
    Ok(duration)
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if !(Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&interval) {
        return Err("an interval is between 100ms and 1h".to_owned());
    }
    Ok(interval)
}

#[cfg(test)]
mod tests;
