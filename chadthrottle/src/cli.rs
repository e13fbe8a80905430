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
use rates::{RateArgs, SharingArgs};
use target::TargetArgs;

/// Shows what every process sends and receives, and limits any of them on a keypress.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, args_conflicts_with_subcommands = true, after_help = after_help::CHADTHROTTLE)]
pub struct Cli {
    /// Open the interface over a made-up world, without root
    #[arg(long)]
    pub demo: bool,
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
            Some(Action::Limit(args)) => args.rates.check_by_hand(),
            Some(Action::Run(args)) => args.rates.check_by_hand(),
            Some(Action::Unattended(action)) => action
                .rates()
                .map_or(Ok(()), |rates| rates.limits().map(drop)),
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
mod tests {
    use super::*;
    use crate::{
        model::{process::Pid, rule::Scope},
        rate::Rate,
    };
    use clap::CommandFactory as _;

    fn parse(line: &str) -> Result<Cli, String> {
        let cli = Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        cli.check().map(|()| cli)
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_limit_is_read() {
        let cli =
            parse("chadthrottle limit --pid 7 --pid 8 --download 500K --duration 30s").unwrap();
        let Some(Action::Limit(limit)) = cli.action else {
            panic!("limit")
        };
        assert_eq!(limit.duration, Some(Duration::from_secs(30)));
        let rules = limit.rules().unwrap();
        let targets: Vec<&Target> = rules.iter().map(|rule| &rule.target).collect();
        assert_eq!(targets, [&Target::from(Pid(7)), &Target::from(Pid(8))]);
        let half_a_megabyte = Some(Rate::from_bytes_per_second(500_000));
        for rule in rules {
            assert_eq!(
                (rule.limits.download, rule.limits.upload),
                (half_a_megabyte, None)
            );
            assert_eq!((rule.scope, rule.sharing), (Scope::All, Sharing::Each));
        }
    }

    #[test]
    fn targets_of_all_kinds_are_read() {
        let cli = parse(
            "chadthrottle limit --tree 7 --program curl --path /opt/* --command re:x \
             --cgroup /a/ --unit nginx --user 0 --user 0 --block --shared --traffic local",
        )
        .unwrap();
        let Some(Action::Limit(limit)) = cli.action else {
            panic!("limit")
        };
        let rules = limit.rules().unwrap();
        assert_eq!(
            rules[0].target.to_string(),
            "process 7 and its descendants, program curl, program file /opt/*, command line re:x, \
             cgroup /a, unit nginx.service, user root"
        );
        assert_eq!(
            (rules.len(), rules[0].sharing, rules[0].scope),
            (1, Sharing::Shared, Scope::Local)
        );
        assert!(rules[0].limits.is_blocked());
    }

    #[test]
    fn a_unit_is_named_as_systemctl_has_it_and_a_container_as_it_is_shown() {
        for (typed, meant) in [
            ("nginx", "unit nginx.service"),
            ("backup.scope", "unit backup.scope"),
            ("libpod-3f4e8a2b9c01", "unit libpod-3f4e8a2b9c01"),
            ("3f4e8a2b9c01", "unit 3f4e8a2b9c01"),
        ] {
            let line = format!("chadthrottle limit --unit {typed} --block");
            let Some(Action::Limit(limit)) = parse(&line).unwrap().action else {
                panic!("limit")
            };
            assert_eq!(limit.rules().unwrap()[0].target.to_string(), meant);
        }
    }

    #[test]
    fn what_is_limited_shares_or_not() {
        use Sharing::{Each, Shared};
        for (option, limited, run) in [
            ("", Each, Shared),
            ("--each ", Each, Each),
            ("--shared ", Shared, Shared),
        ] {
            let line = format!("chadthrottle limit {option}--pid 7 --block");
            let Some(Action::Limit(limit)) = parse(&line).unwrap().action else {
                panic!("limit")
            };
            assert_eq!(limit.rules().unwrap()[0].sharing, limited, "{line}");
            let line = format!("chadthrottle run {option}--block -- true");
            let Some(Action::Run(args)) = parse(&line).unwrap().action else {
                panic!("run")
            };
            let rule = args.rule(Pid(7).into(), Limits::default());
            assert_eq!(rule.sharing, run, "{line}");
        }
    }

    #[test]
    fn a_priority_takes_the_place_of_rates() {
        let line = "chadthrottle limit --program rclone --priority background --traffic internet";
        let Some(Action::Limit(limit)) = parse(line).unwrap().action else {
            panic!("limit")
        };
        let rules = limit.rules().unwrap();
        let expected = Rule {
            scope: Scope::Internet,
            ..Rule::in_background(Target::program("rclone"))
        };
        assert_eq!(rules, [expected]);
    }

    #[test]
    fn users_of_a_limit_must_exist() {
        let line = "chadthrottle limit --user nobody-has-this-name --block";
        let Some(Action::Limit(limit)) = parse(line).unwrap().action else {
            panic!("limit")
        };
        let error = limit.rules().unwrap_err();
        assert!(
            error.contains("there is no user 'nobody-has-this-name'"),
            "{error}"
        );
    }

    #[test]
    fn limit_and_rules_name_targets_alike() {
        let command = Cli::command();
        let options = |path: &[&str]| {
            let mut command = &command;
            for name in path {
                command = command.find_subcommand(name).unwrap();
            }
            let named = ["program", "path", "command", "cgroup", "unit", "user"];
            named.map(|name| {
                let mut all = command.get_arguments();
                let option = all.find(|option| option.get_long() == Some(name)).unwrap();
                option.get_help().unwrap().to_string()
            })
        };
        assert_eq!(options(&["limit"]), options(&["rules", "add"]));
        assert_eq!(options(&["limit"]), options(&["rules", "edit"]));
    }

    #[test]
    fn a_table_is_ordered_and_narrowed() {
        let cli = parse("chadthrottle top --by program --sort used --reverse --filter user:ada");
        let Some(Action::Top(top)) = cli.unwrap().action else {
            panic!("top")
        };
        assert_eq!(
            (top.by, top.sort, top.reverse),
            (View::Programs, Some(Column::OfLimit), true)
        );
        assert_eq!(top.filter, Some(Filter::new("user:ada")));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, message) in [
            ("chadthrottle limit --pid 7", "--download <RATE>"),
            ("chadthrottle limit --download 1M", "--pid <PID>"),
            (
                "chadthrottle limit --program curl --block --download 1M",
                "contradict each other",
            ),
            (
                "chadthrottle limit --pid 7 --priority background --download 1M",
                "cannot be used with",
            ),
            (
                "chadthrottle run --priority normal -- true",
                "normal is what every process is",
            ),
            (
                "chadthrottle run --block=upload --upload 1M -- true",
                "contradict each other",
            ),
            (
                "chadthrottle rules edit a --block --upload 1M",
                "contradict each other",
            ),
            (
                "chadthrottle run --shared --each --block -- true",
                "cannot be used with",
            ),
            (
                "chadthrottle limit --cgroup user.slice --block",
                "a path from the root of the hierarchy",
            ),
            (
                "chadthrottle limit --program /bin/x --block",
                "'path' means its file",
            ),
            (
                "chadthrottle limit --program re:( --block",
                "the regular expression can't be understood",
            ),
            (
                "chadthrottle limit --pid x --download 1M",
                "a process id is a number",
            ),
            (
                "chadthrottle limit --pid 0 --download 1M",
                "0 is no process",
            ),
            (
                "chadthrottle limit --pid -4 --download 1M",
                "unexpected argument '-4'",
            ),
            (
                "chadthrottle limit --pid 7 --download 8Mbps",
                "type 8MB for bytes or 8mbit",
            ),
            (
                "chadthrottle limit --pid 7 --download -1",
                "can't be negative",
            ),
            (
                "chadthrottle limit --pid 7 --download 1M --duration 0s",
                "no time at all",
            ),
            ("chadthrottle top --interval 1ms", "between 100ms and 1h"),
            ("chadthrottle top --count 0", "1.."),
            ("chadthrottle top --json --csv", "cannot be used with"),
            ("chadthrottle top --by cgruop", "'cgroup'"),
            ("chadthrottle top --sort mark", "total-download"),
            ("chadthrottle top --filter port:x", "port:443"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(message), "{line}: {error}");
        }
    }
}
