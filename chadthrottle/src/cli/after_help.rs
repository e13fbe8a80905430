//! What `--help` says below the options: examples, exit codes, and what no option can say.

pub(super) const CHADTHROTTLE: &str = "\
Rates are payload bytes a second, as curl shows them: 500K, 1.5M, 2MB/s, 1MiB, 8mbit, 1.5Gbit.

Examples:
  sudo chadthrottle                                        open the interface
  chadthrottle --demo                                      try it, without root
  sudo chadthrottle limit --pid 4242 --download 500K       limit a running process
  sudo chadthrottle limit --program curl --shared --download 2M
                                                           all curls together, also later ones
  sudo chadthrottle limit --unit backup.service --upload 8mbit --traffic internet
  sudo chadthrottle top --once --json                      one sample for a script
  sudo chadthrottle rules list                             the rules, and which are in force
  sudo chadthrottle doctor                                 what is missing here?

Exit codes: 0 done, 1 it failed, 2 the command line is wrong.";

pub(super) const LIMIT: &str = "\
Each process has the limits for itself, unless they are --shared. They end with Ctrl-C, after
--duration, or when the processes of --pid have ended. They belong to this command: `status` and
`clear`, which speak with a daemon, don't know them.

Examples:
  sudo chadthrottle limit --pid 4242 --download 500K
  sudo chadthrottle limit --tree 4242 --shared --upload 1mbit --duration 10min
  sudo chadthrottle limit --program curl --shared --download 2M
  sudo chadthrottle limit --unit backup.service --upload 8mbit --traffic internet
  sudo chadthrottle limit --user guest --block=upload
  sudo chadthrottle limit --program rclone --priority background

Exit codes: 0 the limits have ended, 1 it failed, 2 the command line is wrong.";

pub(super) const RUN: &str = "\
All that the command starts shares the limits; with --each, each process has them for itself. They
end with the command: what it left in the background is free then, and you are told how much that is.
Signals are passed on. The command runs as whoever calls, which under sudo is root, or as --user.

Examples:
  sudo chadthrottle run --download 2M -- apt-get upgrade
  sudo chadthrottle run --priority background -- restic backup /home
  sudo chadthrottle run --download 2M --user ada -- firefox         as another user
  sudo chadthrottle run --upload 8mbit --traffic internet -- make -j8 publish
  sudo chadthrottle run --upload 1M -- sh -c './upload & wait'     wait for what it starts

Exit codes: the command's; 128 and the signal's number if a signal ended it; 125 chadthrottle
failed, 126 the command can't be run, 127 there is no such command.";

pub(super) const TOP: &str = "\
Examples:
  sudo chadthrottle top --by program --sort total-download
  sudo chadthrottle top --filter 'user:ada !port:443'
  sudo chadthrottle top --filter limited --interval 10s --csv >> limits.csv
  sudo chadthrottle top --once --json | jq '.processes[0].name'

A filter's words must all hold; '!' turns one round. Words: a text (in name, path, user or cgroup, or
a process id), program:, user:, unit:, pid:, port: and a text each, limited, blocked.
Rates are bytes a second, amounts bytes since the start, in JSON and CSV.";

pub(super) const DOCTOR: &str = "\
Examples:
  sudo chadthrottle doctor            is everything here, and if not, what to do?
  sudo chadthrottle doctor --fix      first take away what a killed run left
  sudo chadthrottle doctor --json | jq '.'

Exit codes: 0 limits work here, 1 something that they need is missing.";

pub(super) const RULES: &str = "\
Examples:
  sudo chadthrottle rules add backup --program rsync --upload 1M --traffic internet
  sudo chadthrottle rules add updates --unit apt-daily.service --download 500K \\
                                      --days mon-fri --from 9:00 --until 17:00
  sudo chadthrottle rules add guest --user guest --quota 5GB/day --then block
  sudo chadthrottle rules edit backup --upload 2M --unset traffic
  sudo chadthrottle rules check && sudo chadthrottle rules apply

The first rule that limits a process counts. docs/rules.md has all keys of the file.";

pub(super) const RULES_LIST: &str = "\
Examples:
  sudo chadthrottle rules list
  sudo chadthrottle rules list --config ./rules.toml --json";

pub(super) const RULES_ADD: &str = "\
A new rule is the last, unless said otherwise, and the first that limits a process counts.
A running daemon heeds it after `chadthrottle rules apply`.

Examples:
  sudo chadthrottle rules add backup --program rsync --upload 1M --traffic internet
  sudo chadthrottle rules add video --unit player.service --download 8mbit --from 9:00 --until 17:00
  sudo chadthrottle rules add guest --user guest --quota 5GB/day --then block --before backup";

pub(super) const RULES_EDIT: &str = "\
The editor is $VISUAL, or $EDITOR, or vi. It gets a copy, under sudo as the user who called sudo;
the copy takes the file's place when it is right.

Examples:
  sudo --preserve-env=EDITOR chadthrottle rules edit
  sudo chadthrottle rules edit backup --upload 2M --unset traffic
  sudo chadthrottle rules edit backup --rename nightly --until 6:00";

pub(super) const RULES_REMOVE: &str = "\
A running daemon heeds it after `chadthrottle rules apply`.

Examples:
  sudo chadthrottle rules remove backup";

pub(super) const RULES_CHECK: &str = "\
Examples:
  sudo chadthrottle rules check
  sudo chadthrottle rules check --config ./rules.toml && echo right

Exit codes: 0 the file is right, 1 it is not, or can't be read.";

pub(super) const RULES_APPLY: &str = "\
A file that is not right leaves the old rules in force.

Examples:
  sudo chadthrottle rules apply";

pub(super) const DAEMON: &str = "\
It reads the rules again on SIGHUP or `chadthrottle rules apply`; rules that are not right leave the
old ones in force. While it runs, the interface shows its limits. It ends on SIGTERM or Ctrl-C, and
its limits with it.

Examples:
  sudo systemctl enable --now chadthrottle
  sudo chadthrottle daemon --config ./rules.toml
  sudo chadthrottle daemon --metrics 127.0.0.1:9184";

pub(super) const STATUS: &str = "\
Limits of `chadthrottle limit` and `run` are not the daemon's, and are not shown.

Examples:
  sudo chadthrottle status
  sudo chadthrottle status --json | jq '.'
  sudo chadthrottle status --link     how fast the link is, and why background traffic has what it has

Exit codes: 0 a daemon answered, 1 no daemon runs, or it failed.";

pub(super) const CLEAR: &str = "\
Examples:
  sudo chadthrottle clear             end what was set by hand
  sudo chadthrottle clear 7 backup    end limit 7 and rule 'backup'
  sudo chadthrottle clear --all       end all limits until `chadthrottle rules apply`";

pub(super) const COMPLETIONS: &str = "\
Examples:
  chadthrottle completions bash > /etc/bash_completion.d/chadthrottle
  chadthrottle completions zsh > /usr/local/share/zsh/site-functions/_chadthrottle
  chadthrottle completions fish > ~/.config/fish/completions/chadthrottle.fish";

pub(super) const MAN: &str = "\
Examples:
  sudo chadthrottle man /usr/local/share/man/man1
  chadthrottle man ./man && man ./man/chadthrottle-limit.1";

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory as _};

    use crate::cli::Cli;

    #[test]
    fn every_help_has_examples() {
        fn check(command: &Command) {
            let after = command.get_after_help().map(ToString::to_string);
            let after = after.unwrap_or_default();
            assert!(after.contains("Examples:\n"), "{}", command.get_name());
            for line in after.lines() {
                assert!(line.chars().count() <= 104, "too wide: {line}");
            }
            let visible = command
                .get_subcommands()
                .filter(|command| !command.is_hide_set());
            visible.for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn examples_can_be_parsed() {
        fn check(command: &Command, seen: &mut usize) {
            let after = command.get_after_help().map(ToString::to_string);
            let after = after.unwrap_or_default().replace("\\\n", "");
            for line in after.lines().filter(|line| line.starts_with("  ")) {
                let line = line.trim();
                let line = line.strip_prefix("sudo ").unwrap_or(line);
                // Up to what a shell would do with it, and to what it is for.
                let end = ["   ", " | ", " > ", " >> ", " && ", "'", "\""];
                let end = end.iter().filter_map(|end| line.find(end)).min();
                let (words, quoted) = line.split_at(end.unwrap_or(line.len()));
                if !words.starts_with("chadthrottle") || quoted.starts_with('\'') {
                    continue;
                }
                *seen += 1;
                let words = words.split_whitespace();
                if let Err(error) = Cli::command().try_get_matches_from(words) {
                    panic!("{line}: {error}");
                }
            }
            for command in command.get_subcommands() {
                check(command, seen);
            }
        }
        let mut seen = 0;
        check(&Cli::command(), &mut seen);
        assert!(seen > 30, "{seen}");
    }
}
