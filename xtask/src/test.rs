//! Runs every test that can run here, and counts those that can't.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result};
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
    /// Runs only tests whose name contains one of these; for kernel tests, their program's too.
    filters: Vec<String>,
}

/// Runs the tests. The summary is the last thing printed, so failure is only the exit code.
///
/// # Errors
///
/// There is no workspace here.
pub fn run(options: &Options) -> Result<ExitCode> {
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
    if !options.filters.is_empty() && tally.is_empty() {
        tally.fail(&format!(
            "no test has {} in its name",
            options.filters.join(" or ")
        ));
    }
    println!("\n{tally}");
    Ok(match tally.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
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
    let (programs, of_the_tools): (Vec<_>, Vec<_>) = programs(workspace)?
        .into_iter()
        .partition(|program| program.needs_root);
    for program in &of_the_tools {
        println!("\n{}", program.name);
        let mut command = Command::new(&program.path);
        command.args(program.filters(&options.filters));
        watch(&program.name, &mut command, tally)?;
    }
    let Some(reason) = what_is_in_the_way() else {
        let product = product::build(workspace, true, FromSource::IfNeeded)?;
        for program in &programs {
            let product = [("CHADTHROTTLE_BIN", &product.binary)];
            let mut command =
                as_root(&program.path, Ask::Never, &product).context("root is out of reach")?;
            command
                // Most wait for seconds of traffic; those that can't share the machine see to
                // it themselves.
                .arg("--test-threads=6")
                .args(program.filters(&options.filters))
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
pub struct Program {
    pub name: String,
    /// The unit tests of the crate's own tools need none.
    pub needs_root: bool,
    pub path: PathBuf,
}

impl Program {
    /// None if it is meant as a whole.
    #[must_use]
    pub fn filters<'a>(&self, filters: &'a [String]) -> &'a [String] {
        match filters.iter().any(|it| self.name.contains(it)) {
            true => &[],
            false => filters,
        }
    }

    /// The names of its tests.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn tests(&self, filters: &[String]) -> Result<Vec<String>> {
        let mut command = Command::new(&self.path);
        command
            .args(["--list", "--format=terse"])
            .args(self.filters(filters));
        let list = output(&mut command)?;
        Ok((list.lines())
            .filter_map(|line| line.strip_suffix(": test"))
            .map(str::to_owned)
            .collect())
    }
}

/// Builds the kernel tests.
///
/// # Errors
///
/// They don't build.
pub fn programs(workspace: &Workspace) -> Result<Vec<Program>> {
    let arguments = ["test", "--release", "--package", "kernel-tests", "--no-run"];
    let messages = workspace.cargo_messages(&arguments)?;
    let programs = messages.into_iter().filter_map(|message| match message {
        Message::CompilerArtifact(artifact) if artifact.profile.test => Some(Program {
            name: artifact.target.name.clone(),
            needs_root: artifact.target.is_test(),
            path: artifact.executable?.into(),
        }),
        _ => None,
    });
    let mut programs: Vec<_> = programs.collect();
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(programs)
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
