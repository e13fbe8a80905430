//! What follows from the definition of the command line: completions and manual pages.

use std::{fs, io, path::Path};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;

/// Prints completions for a shell.
///
/// # Errors
///
/// Standard output's.
pub fn completions(shell: Shell) -> anyhow::Result<()> {
    io::Write::write_all(&mut io::stdout(), &completions_for(shell))?;
    Ok(())
}

fn completions_for(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    let mut command = visible(&Cli::command());
    clap_complete::generate(shell, &mut command, "chadthrottle", &mut text);
    text
}

/// The command as people see it. clap_complete offers hidden commands and options, too, and clap
/// can't take any away.
fn visible(command: &Command) -> Command {
    let options = command
        .get_arguments()
        .filter(|option| !option.is_hide_set());
    let commands = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    let mut visible_command = Command::new(command.get_name().to_owned())
        .about(command.get_about().cloned().unwrap_or_default())
        .args(options.cloned())
        .subcommands(commands.map(visible));
    if let Some(version) = command.get_version() {
        visible_command = visible_command
            .version(version.to_owned())
            .propagate_version(command.is_propagate_version_set());
    }
    visible_command
}

/// Writes a manual page for the program and each of its commands into a folder.
///
/// # Errors
///
/// The folder's.
pub fn manual(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .with_context(|| format!("no manual pages in {}", folder.display()))?;
    super::line(&format!("manual pages are in {}", folder.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    #[test]
    fn every_command_has_a_manual_page() {
        let folder = tempfile::tempdir().unwrap();
        manual(folder.path()).unwrap();
        for name in [
            "chadthrottle",
            "chadthrottle-rules-add",
            "chadthrottle-daemon",
            "chadthrottle-top",
        ] {
            let page = fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap();
            assert!(page.starts_with(".ie") || page.contains(".TH"), "{page}");
            assert!(page.contains(".SH NAME"), "{page}");
        }
    }

    #[test]
    fn completions_know_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = String::from_utf8(completions_for(shell)).unwrap();
            for word in ["daemon", "rules", "download", "doctor"] {
                assert!(text.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn completions_do_not_know_what_is_hidden() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = String::from_utf8(completions_for(shell)).unwrap();
            for word in ["demo-seed", "demo-processes", "hold"] {
                // A word of a description may have it in itself: "threshold".
                let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '-');
                assert!(
                    !words.any(|other| other.trim_matches('-') == word),
                    "{shell}: {word}"
                );
            }
        }
    }

    #[test]
    fn what_is_visible_is_complete() {
        let (all, shown) = (Cli::command(), visible(&Cli::command()));
        for name in ["limit", "run", "rules", "top"] {
            let options = |command: &Command| {
                let command = command.find_subcommand(name).unwrap();
                let options = command
                    .get_arguments()
                    .filter(|option| !option.is_hide_set());
                let options = options.filter_map(Arg::get_long);
                options.map(str::to_owned).collect::<Vec<_>>()
            };
            for option in options(&all) {
                assert!(options(&shown).contains(&option), "{name}: --{option}");
            }
        }
    }
}
