//! What follows from the definition of the command line: completions and manual pages.

use std::{fs, io, path::Path};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;

/// Prints completions for a shell.
///
/// # Errors
///
/// Standard output's.
pub fn completions(shell: Shell) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "chadthrottle", &mut text);
    io::Write::write_all(&mut io::stdout(), &text)?;
    Ok(())
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
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "chadthrottle", &mut text);
            let text = String::from_utf8(text).unwrap();
            for word in ["daemon", "rules", "download", "doctor"] {
                assert!(text.contains(word), "{shell}: {word}");
            }
        }
    }
}
