//! Runs everything that comes and goes under a daemon's limits, for as long as one likes.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench,
    privilege::{Ask, as_root},
    workspace::Workspace,
};

/// Options of `soak`.
#[derive(clap::Args)]
pub struct Options {
    /// How long.
    #[arg(long, default_value_t = 60)]
    minutes: u32,
    /// Where the document goes; the repository's docs without this.
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

/// Builds the program and what it is tried with, runs it, and writes the document.
///
/// # Errors
///
/// Something does not build, or nothing was measured. If not all was well, the exit code is 1.
pub fn run(options: &Options) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let program = bench::program(&workspace, "soak")?;
    let variables = bench::variables(&workspace)?;
    let docs = workspace.docs(options.out.as_deref())?;
    let mut soak: Command = as_root(&program, Ask::Yes, &variables)
        .context("it must run as root, and there is no sudo here")?;
    soak.args(["--minutes", &options.minutes.to_string()]);
    let output = soak.stderr(Stdio::inherit()).output()?;
    let document = String::from_utf8(output.stdout)?;
    ensure!(!document.is_empty(), "nothing was measured");
    let path = docs.join("soak.md");
    fs::write(&path, &document).with_context(|| format!("cannot write {}", path.display()))?;
    println!("Wrote {}", path.display());
    Ok(if output.status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
