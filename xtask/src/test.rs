//! Runs every test that can run here, and counts those that can't.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::Message;

use crate::{
    privilege::{Ask, as_root, can_be_root},
    product::{self, FromSource},
    setup,
    tally::Tally,
    workspace::{Workspace, output},
};

/// Options of `test`.
#[derive(clap::Args)]
pub struct Options {
    /// Runs only tests whose name contains one of these.
    filters: Vec<String>,
}

/// Runs the tests; the summary is the last thing printed.
///
/// # Errors
///
/// A test failed, or could not be built.
pub fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::find()?;
    let mut tally = Tally::default();
    for (name, stage) in [
        ("the tests that run anywhere", pure as Stage),
        ("the kernel tests", on_the_kernel),
    ] {
        println!("\nRunning {name}.");
        if let Err(error) = stage(&workspace, options, &mut tally) {
            tally.fail(&format!("{name}: {error:#}"));
        }
    }
    println!("\n{tally}");
    if !tally.success() {
        bail!("tests failed");
    }
    Ok(())
}

type Stage = fn(&Workspace, &Options, &mut Tally) -> Result<()>;

/// What needs neither root nor a particular kernel.
fn pure(workspace: &Workspace, options: &Options, tally: &mut Tally) -> Result<()> {
    // The build script of the program looks for the object, so there must be one.
    product::provide_object(workspace, FromSource::IfNeeded)?;
    let mut cargo = workspace.cargo(&["test", "--workspace", "--exclude", "kernel-tests"]);
    cargo.args(["--no-fail-fast", "--"]).args(&options.filters);
    watch("cargo test (read above)", &mut cargo, tally)
}

/// What needs root: real sockets and processes, limited by the real program.
fn on_the_kernel(workspace: &Workspace, options: &Options, tally: &mut Tally) -> Result<()> {
    let programs = programs(workspace)?;
    let Some(reason) = what_is_in_the_way() else {
        let product = product::build(workspace, true, FromSource::IfNeeded)?;
        for program in &programs {
            let product = [("CHADTHROTTLE_BIN", &product.binary)];
            let mut command =
                as_root(&program.path, Ask::Never, &product).context("root is out of reach")?;
            command
                // Transfers are measured: one must not take the other's share of the machine.
                .arg("--test-threads=1")
                .args(&options.filters)
                .current_dir(workspace.root.join("kernel-tests"));
            println!("\n{}", program.name);
            watch(&program.name, &mut command, tally)?;
        }
        return Ok(());
    };
    for program in &programs {
        for test in program.tests(&options.filters)? {
            tally.skip(&format!("{}::{test}", program.name), &reason);
        }
    }
    Ok(())
}

/// Why the kernel tests can't run here. Programs that they use are installed.
fn what_is_in_the_way() -> Option<String> {
    if !can_be_root() {
        return Some("needs root, or sudo without a password".to_owned());
    }
    let error = setup::test_tools(setup::Mode::Install).err()?;
    Some(format!("{error:#}"))
}

/// A program of kernel tests.
struct Program {
    name: String,
    path: PathBuf,
}

impl Program {
    /// The names of its tests.
    fn tests(&self, filters: &[String]) -> Result<Vec<String>> {
        let mut command = Command::new(&self.path);
        command.args(["--list", "--format=terse"]).args(filters);
        let list = output(&mut command)?;
        Ok((list.lines())
            .filter_map(|line| line.strip_suffix(": test"))
            .map(str::to_owned)
            .collect())
    }
}

/// Builds the kernel tests.
fn programs(workspace: &Workspace) -> Result<Vec<Program>> {
    let arguments = ["test", "--release", "--package", "kernel-tests", "--no-run"];
    let messages = workspace.cargo_messages(&arguments)?;
    let programs = messages.into_iter().filter_map(|message| match message {
        Message::CompilerArtifact(artifact) if artifact.profile.test => Some(Program {
            name: artifact.target.name.clone(),
            path: artifact.executable?.into(),
        }),
        _ => None,
    });
    Ok(programs.collect())
}

/// Runs tests, passing on what they print as it comes.
fn watch(name: &str, command: &mut Command, tally: &mut Tally) -> Result<()> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let stdout = child.stdout.take().context("a pipe was asked for")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.with_context(|| format!("cannot read what {name} prints"))?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        tally.line(&line);
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for {name}"))?;
    tally.ended(&format!("{name}: {status}"), status.success());
    Ok(())
}
