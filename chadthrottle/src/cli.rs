//! The command line.

use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::{process::Pid, rate::Rate};

/// Shows what every process sends and receives, and limits any of them on a keypress.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do; without it the interface opens.
    #[command(subcommand)]
    pub action: Option<Action>,
}

const EXAMPLES: &str = "\
Rates are payload bytes a second, as curl shows them: 500K, 1.5M, 2MB/s, 1MiB, 8mbit, 1.5Gbit.

Examples:
  sudo chadthrottle                                        open the interface
  sudo chadthrottle limit --pid 4242 --download 500K       limit a running process
  sudo chadthrottle top --once --json                      one sample for a script
  sudo chadthrottle doctor                                 what is missing here?

Exit codes: 0 done, 1 it failed, 2 the command line is wrong.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Limit running processes until Ctrl-C, or until the time is up
    Limit(LimitArgs),
    /// Print the table of processes without a screen
    Top(TopArgs),
    /// Say what this machine has and lacks
    Doctor {
        /// Print one line of JSON
        #[arg(long)]
        json: bool,
    },
}

/// `chadthrottle limit`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("rates").required(true).multiple(true))]
pub struct LimitArgs {
    /// The process to limit; may be given several times, each gets a limit of its own
    #[arg(long = "pid", value_name = "PID", required = true, value_parser = parse_pid)]
    pub pids: Vec<Pid>,
    /// The most it may receive, for example 500K or 8mbit; 0 blocks
    #[arg(long, value_name = "RATE", group = "rates", allow_hyphen_values = true)]
    pub download: Option<Rate>,
    /// The most it may send
    #[arg(long, value_name = "RATE", group = "rates", allow_hyphen_values = true)]
    pub upload: Option<Rate>,
    /// End after this time, for example 30s or 5min
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Print a line of JSON for every event and sample
    #[arg(long)]
    pub json: bool,
}

/// `chadthrottle top`.
#[derive(Debug, clap::Args)]
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
    /// Print a line of JSON a sample
    #[arg(long)]
    pub json: bool,
}

fn parse_pid(text: &str) -> Result<Pid, String> {
    match text.parse() {
        Ok(0) => Err("0 is no process".to_owned()),
        Ok(pid) => Ok(Pid(pid)),
        Err(_) => Err("a process id is a number, as ps shows it".to_owned()),
    }
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
    use clap::CommandFactory as _;

    fn parse(line: &str) -> Result<Cli, String> {
        Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())
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
        assert_eq!(limit.pids, [Pid(7), Pid(8)]);
        assert_eq!(limit.download, Some(Rate::from_bytes_per_second(500_000)));
        assert_eq!(
            (limit.upload, limit.duration),
            (None, Some(Duration::from_secs(30)))
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, message) in [
            ("chadthrottle limit --pid 7", "--download <RATE>"),
            ("chadthrottle limit --download 1M", "--pid <PID>"),
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
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(message), "{line}: {error}");
        }
    }
}
