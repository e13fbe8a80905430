//! Runs the field suite: other people's programs under limits, here and on the distribution's kernels.
//!
//! What each run prints is kept in `target/field`, a file for each run; the document is written from all of
//! them, and the latest figure of a cell counts.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};

use crate::{
    bench,
    privilege::{Ask, as_root},
    vm::shell_quoted,
    workspace::{Workspace, succeed},
};

/// Options of `field`.
#[derive(clap::Args)]
pub struct Options {
    /// Scenes whose name contains one of these; all without any.
    filters: Vec<String>,
    /// Where: `here`, and kernels of the distribution, with commas between.
    #[arg(long = "kernel", value_delimiter = ',', default_value = "here")]
    kernels: Vec<String>,
    /// Runs less of each scene: a limit by program, midway and before.
    #[arg(long)]
    sample: bool,
    /// In the background of a slow line, in place of a limit: what programs have of it, and others beside them. Needs a kernel
    /// with netem, tbf and ifb.
    #[arg(long, conflicts_with = "sample")]
    background: bool,
    /// How many scenes are played at once on this machine; in a virtual one it is one.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Runs nothing: writes the document from the results that there are.
    #[arg(long, conflicts_with = "filters")]
    write: bool,
    /// Where the document goes; the repository's docs without this.
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

/// The longest that a virtual machine may take.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);

/// Builds the program and the suite, runs it, and writes the document.
///
/// # Errors
///
/// Something does not build, or a kernel is not known. What cannot be run on one kernel does not stop the
/// others, and makes the exit code 1.
pub fn run(options: &Options) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let program = bench::program(&workspace, "field")?;
    let results = workspace.target.join("field");
    fs::create_dir_all(&results).with_context(|| format!("cannot make {}", results.display()))?;
    let mut failed = Vec::new();
    if !options.write {
        let variables = bench::variables(&workspace)?;
        let mut words = vec!["measure".to_owned()];
        words.extend(options.sample.then(|| "--sample".to_owned()));
        words.extend(options.background.then(|| "--background".to_owned()));
        for kernel in &options.kernels {
            let mut command = match kernel.as_str() {
                "here" => {
                    let mut command = as_root(&program, Ask::Yes, &variables)
                        .context("the suite must run as root, and there is no sudo here")?;
                    command
                        .args(&words)
                        .args(["--jobs", &options.jobs.to_string()]);
                    command.args(&options.filters);
                    command
                }
                kernel => {
                    let mut quoted = vec![shell_quoted(&program)?];
                    quoted.extend(words.iter().cloned());
                    for filter in &options.filters {
                        quoted.push(shell_quoted(filter.as_ref())?);
                    }
                    let quoted: Vec<&str> = quoted.iter().map(String::as_str).collect();
                    bench::in_virtual_machine(kernel, PATIENCE, &variables, &quoted)?
                }
            };
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            let file = results.join(format!("{kernel}-{}.jsonl", now.as_secs()));
            if let Err(error) = bench::keep(&mut command, &file) {
                eprintln!("{kernel}: {error:#}");
                failed.push(kernel.clone());
            }
        }
    }
    let docs = workspace.docs(options.out.as_deref())?;
    succeed(Command::new(&program).arg("write").arg(&results).arg(&docs))?;
    println!("Wrote {}", docs.join("field.md").display());
    Ok(match failed.as_slice() {
        [] => ExitCode::SUCCESS,
        failed => {
            println!("Not run to the end: {}", failed.join(", "));
            ExitCode::FAILURE
        }
    })
}
