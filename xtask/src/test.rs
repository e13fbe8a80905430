//! Runs every test that can run here, and counts those that can't.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result};
use cargo_metadata::Message;

use crate::{
    privilege::{Ask, as_root, can_be_root},
    product::{self, FromSource},
    setup,
    tally::Tally,
    timely::{self, End},
    vm,
    workspace::{Workspace, output},
};

/// More than any program of tests takes, also on a slow and busy machine: the longest has taken three
/// minutes.
const PATIENCE: Duration = Duration::from_secs(600);

/// Options of `test`.
#[derive(clap::Args)]
pub struct Options {
    /// Runs only tests whose name contains one of these; for kernel tests, their program's too.
    filters: Vec<String>,
    /// Then runs a sample of the kernel tests on these kernels, in virtual machines: 5.10, 6.1,
    /// 6.12, 7.2, several with commas between, or all.
    #[arg(long = "kernel", value_delimiter = ',', conflicts_with = "filters")]
    kernels: Vec<String>,
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
    if !options.kernels.is_empty()
        && let Err(error) = vm::run_sample(&workspace, &options.kernels, &mut tally)
    {
        tally.fail(&format!("the kernel tests on other kernels: {error:#}"));
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
    let packages = ["--workspace", "--exclude", "kernel-tests"];
    let programs = built(workspace, &[&["test", "--no-run"], &packages[..]].concat())?;
    for program in &programs {
        watch(program, Command::new(&program.path), options, tally)?;
    }
    let mut documentation = workspace.cargo(&["test", "--doc"]);
    documentation.args(packages).arg("--");
    documentation.args(&options.filters);
    watch_command("the documentation", &mut documentation, tally)
}

/// What needs root: real sockets and processes, limited by the real program.
fn on_the_kernel(workspace: &Workspace, options: &Options, tally: &mut Tally) -> Result<()> {
    let (programs, of_the_tools): (Vec<_>, Vec<_>) = programs(workspace)?
        .into_iter()
        .partition(|program| program.needs_root);
    for program in &of_the_tools {
        watch(program, Command::new(&program.path), options, tally)?;
    }
    let Some(reason) = what_is_in_the_way() else {
        let product = product::build(workspace, true, FromSource::IfNeeded)?;
        for program in &programs {
            let product = [("CHADTHROTTLE_BIN", &product.binary)];
            let mut command =
                as_root(&program.path, Ask::Never, &product).context("root is out of reach")?;
            // Most wait for seconds of traffic; those that can't share the machine see to it
            // themselves.
            command.arg("--test-threads=6");
            watch(program, command, options, tally)?;
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

/// A program of tests.
pub struct Program {
    pub name: String,
    /// Of the kernel tests; the unit tests of their own tools need none.
    pub needs_root: bool,
    pub path: PathBuf,
    /// Its package's, where it expects to run.
    directory: PathBuf,
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
    built(workspace, &arguments)
}

/// The programs that cargo builds, by name.
fn built(workspace: &Workspace, arguments: &[&str]) -> Result<Vec<Program>> {
    let messages = workspace.cargo_messages(arguments)?;
    let programs = messages.into_iter().filter_map(|message| match message {
        Message::CompilerArtifact(artifact) if artifact.profile.test => Some(Program {
            name: artifact.target.name.clone(),
            needs_root: artifact.target.is_test(),
            path: artifact.executable?.into(),
            directory: artifact.manifest_path.parent()?.into(),
        }),
        _ => None,
    });
    let mut programs: Vec<_> = programs.collect();
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(programs)
}

/// Runs a program's tests by `command`, which starts it.
fn watch(
    program: &Program,
    mut command: Command,
    options: &Options,
    tally: &mut Tally,
) -> Result<()> {
    println!("\n{}", program.name);
    command.args(program.filters(&options.filters));
    command.current_dir(&program.directory);
    watch_command(&program.name, &mut command, tally)
}

/// Runs tests, passing on what they print as it comes.
fn watch_command(name: &str, command: &mut Command, tally: &mut Tally) -> Result<()> {
    let end = timely::run(command, PATIENCE, |line| {
        println!("{line}");
        tally.line(line);
    });
    match end.with_context(|| name.to_owned())? {
        End::Itself(status) => tally.ended(&format!("{name}: {status}"), status.success()),
        End::OutOfTime => tally.ended(
            &format!("{name}: killed, as it did not end within {PATIENCE:?}"),
            false,
        ),
    }
    Ok(())
}
