//! Measures the program on this machine and writes down what was found.

use std::{fs, path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::Message;

use crate::{
    privilege::{Ask, as_root},
    product::{self, FromSource},
    setup,
    workspace::{Workspace, output},
};

/// Options of `bench`.
#[derive(clap::Args)]
pub struct Options {
    /// Where the figures go; the repository's docs/benchmarks.md without this.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Builds the program and the bench, runs it as root, and writes the document that it prints.
///
/// # Errors
///
/// Something does not build, root is out of reach, or a measurement fails; the file then stays
/// as it was.
pub fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::find()?;
    let commit = commit(&workspace)?;
    setup::test_tools(setup::Mode::Install)?;
    let product = product::build(&workspace, true, FromSource::IfNeeded)?;
    let variables = [
        ("CHADTHROTTLE_BIN", product.binary.into_os_string()),
        ("CHADTHROTTLE_BENCH_COMMIT", commit.into()),
    ];
    let mut bench = as_root(program(&workspace)?, Ask::Yes, &variables)
        .context("the bench must run as root, and there is no sudo here")?;
    let bench = bench
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start the bench")?;
    if !bench.status.success() {
        bail!("the bench failed ({})", bench.status);
    }
    let out = (options.out.clone()).unwrap_or_else(|| workspace.root.join("docs/benchmarks.md"));
    fs::write(&out, &bench.stdout).with_context(|| format!("cannot write {}", out.display()))?;
    println!("Wrote {}", out.display());
    Ok(())
}

/// Builds what measures, and the traffic program beside it.
fn program(workspace: &Workspace) -> Result<PathBuf> {
    let arguments = ["build", "--release", "--package", "kernel-tests", "--bins"];
    let messages = workspace.cargo_messages(&arguments)?;
    let program = messages.into_iter().find_map(|message| match message {
        Message::CompilerArtifact(artifact) if artifact.target.name == "bench" => {
            artifact.executable
        }
        _ => None,
    });
    Ok(program.context("cargo did not name the bench")?.into())
}

/// The commit that is measured, and whether the tree differs from it.
fn commit(workspace: &Workspace) -> Result<String> {
    let git = |arguments: &[&str]| {
        let mut git = std::process::Command::new("git");
        output(git.arg("-C").arg(&workspace.root).args(arguments))
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let commit = commit.trim();
    // The figures themselves are no part of what is measured.
    let others = [
        "status",
        "--porcelain",
        "--",
        ".",
        ":(exclude)docs/benchmarks.md",
    ];
    Ok(match git(&others)?.is_empty() {
        true => commit.to_owned(),
        false => format!("{commit}, with uncommitted changes"),
    })
}
