//! Measures the program, and writes down what was found.
//!
//! The bench's parts are measured one by one, on this machine or, where the kernel must have every
//! qdisc, in a virtual one. What each prints is kept in `target/bench`, so that one that fails takes
//! nothing from the others, and the document is written from the latest results of all.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use cargo_metadata::Message;

use crate::{
    privilege::{Ask, as_root},
    product::{self, FromSource},
    setup,
    vm::shell_quoted,
    workspace::{Workspace, output, succeed},
};

/// Options of `bench`.
#[derive(clap::Args)]
pub struct Options {
    /// What is measured: sections (landing, pacing, peers, policing, quic, priority, beside, alternatives, tending, importance, guarantee, cost, monitors,
    /// accepting, reaction, newcomers, neighbour, clients) or parts of them (pacing-125k); everything without this.
    parts: Vec<String>,
    /// Measures nothing: writes the document from the latest results.
    #[arg(long, conflicts_with = "parts")]
    write: bool,
    /// The kernel of the virtual machines.
    #[arg(long, value_name = "KERNEL", default_value = "6.12")]
    kernel: String,
    /// Where the document and its pictures go; the repository's docs without this.
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

/// The longest that a part may take in a virtual machine.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Builds the program and the bench, measures, and writes the document.
///
/// # Errors
///
/// Something does not build. A part that can't be measured is named in the document, and makes the
/// exit code 1.
pub fn run(options: &Options) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let bench = Bench {
        program: program(&workspace, "bench")?,
        results: workspace.target.join("bench"),
        kernel: &options.kernel,
    };
    fs::create_dir_all(&bench.results)
        .with_context(|| format!("cannot make {}", bench.results.display()))?;
    let mut failed = Vec::new();
    if !options.write {
        let parts = bench.chosen(&options.parts)?;
        let variables = prepare(&workspace)?;
        for (number, part) in parts.iter().enumerate() {
            eprintln!("\n{} ({} of {}):", part.name, number + 1, parts.len());
            if let Err(error) = bench.measure(part, &variables) {
                eprintln!("{}: {error:#}", part.name);
                failed.push(part.name.clone());
            }
        }
    }
    let docs = workspace.docs(options.out.as_deref())?;
    let mut write = Command::new(&bench.program);
    succeed(write.arg("write").arg(&bench.results).arg(&docs))?;
    println!("Wrote {}", docs.join("benchmarks.md").display());
    Ok(match failed.as_slice() {
        [] => ExitCode::SUCCESS,
        failed => {
            println!("Not measured, or not to the end: {}", failed.join(", "));
            ExitCode::FAILURE
        }
    })
}

/// Variables of what is measured, for the program that measures.
pub type Variables = Vec<(&'static str, String)>;

/// Builds what is measured and brings what it is compared with.
fn prepare(workspace: &Workspace) -> Result<Variables> {
    setup::test_tools(setup::Mode::Install)?;
    if let Err(error) = setup::bench_tools(setup::Mode::Install) {
        eprintln!("{error:#}. What needs them is left out.");
    }
    let mut variables = variables(workspace)?;
    let tools = workspace.target.join("bench/tools");
    if !tools.join("bin/bandwhich").exists() {
        let mut install =
            workspace.cargo(&["install", "--quiet", "--locked", "bandwhich", "--root"]);
        if let Err(error) = succeed(install.arg(&tools)) {
            eprintln!("bandwhich: {error:#}. It is left out.");
        }
    }
    let bin = tools.join("bin").display().to_string();
    variables.push(("CHADTHROTTLE_BENCH_TOOLS", bin));
    Ok(variables)
}

/// The program that measures, and where its results are.
struct Bench<'a> {
    program: PathBuf,
    results: PathBuf,
    kernel: &'a str,
}

/// What can be measured by itself.
struct Part {
    name: String,
    virtual_machine: bool,
}

impl Bench<'_> {
    /// The parts with these names, or of the sections with these names; all without any.
    fn chosen(&self, names: &[String]) -> Result<Vec<Part>> {
        let list = output(Command::new(&self.program).arg("list"))?;
        let mut parts: Vec<Part> = list
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, place)| Part {
                name: name.to_owned(),
                virtual_machine: place == "virtual",
            })
            .collect();
        let is_of = |part: &Part, name: &str| {
            (part.name.strip_prefix(name))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        for name in names {
            let known: Vec<_> = parts.iter().map(|part| &*part.name).collect();
            ensure!(
                parts.iter().any(|part| is_of(part, name)),
                "the bench has no part {name}: {}",
                known.join(", ")
            );
        }
        if !names.is_empty() {
            parts.retain(|part| names.iter().any(|name| is_of(part, name)));
        }
        Ok(parts)
    }

    /// Measures a part. What it gets to is kept, unless all of it is there from before.
    fn measure(&self, part: &Part, variables: &Variables) -> Result<()> {
        let start = Instant::now();
        let fresh = self.results.join(format!("{}.fresh", part.name));
        let outcome = if part.virtual_machine {
            let mut command = self.in_virtual_machine(part, variables)?;
            let outcome = keep(&mut command, &fresh);
            // On a busy machine an emulated kernel may not get to its first program.
            match fs::metadata(&fresh) {
                Ok(file) if file.len() == 0 && outcome.is_err() => keep(&mut command, &fresh),
                _ => outcome,
            }
        } else {
            let mut command = as_root(&self.program, Ask::Yes, variables)
                .context("the bench must run as root, and there is no sudo here")?;
            keep(command.args(["measure", &part.name]), &fresh)
        };
        let kept = self.results.join(format!("{}.jsonl", part.name));
        if let Err(error) = &outcome {
            let before = fs::read_to_string(&kept);
            if before.is_ok_and(|before| !before.contains("\"missing\":\"")) {
                let _only_untidy = fs::remove_file(&fresh);
                return outcome.context("the results from before are kept");
            }
            let why = format!("{error:#}")
                .replace(['"', '\\'], "'")
                .replace('\n', " ");
            let mut file = fs::OpenOptions::new().append(true).open(&fresh)?;
            writeln!(file, "{{\"missing\":\"{why}\"}}")?;
        }
        fs::rename(&fresh, &kept).with_context(|| format!("cannot write {}", kept.display()))?;
        eprintln!("{} took {} s in all", part.name, start.elapsed().as_secs());
        outcome
    }

    fn in_virtual_machine(&self, part: &Part, variables: &Variables) -> Result<Command> {
        in_virtual_machine(
            self.kernel,
            PATIENCE,
            variables,
            &[&shell_quoted(&self.program)?, "measure", &part.name],
        )
    }
}

/// A command of this program that runs another in a virtual machine: its words are the shell's.
///
/// # Errors
///
/// It is not known where this program is, or a variable cannot be said to the shell.
pub fn in_virtual_machine(
    kernel: &str,
    patience: Duration,
    variables: &Variables,
    words: &[&str],
) -> Result<Command> {
    let mut inside = "env".to_owned();
    for (name, value) in variables {
        inside += &format!(" {name}={}", shell_quoted(value.as_ref())?);
    }
    for word in words {
        inside += &format!(" {word}");
    }
    let this = env::current_exe().context("cannot tell where xtask is")?;
    let mut command = Command::new(this);
    let patience = patience.as_secs().to_string();
    command
        .args(["vm", "--kernel", kernel, "--timeout", &patience])
        .args(["--exec", &inside]);
    Ok(command)
}

/// Runs a command. Lines with results go to the file, all others to the person; the last of them
/// tells why if it fails.
///
/// # Errors
///
/// It fails, or the file cannot be written.
pub fn keep(command: &mut Command, file: &Path) -> Result<()> {
    let mut file =
        fs::File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the bench")?;
    let stderr = child.stderr.take().context("a pipe was asked for")?;
    let said = thread::spawn(move || {
        let mut last = String::new();
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            eprintln!("{line}");
            if !line.trim().is_empty() {
                last = line;
            }
        }
        last
    });
    let stdout = child.stdout.take().context("a pipe was asked for")?;
    let mut last = String::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read what the bench prints")?;
        // A virtual machine has one output for both.
        if line.starts_with('{') {
            writeln!(file, "{line}").context("cannot keep a result")?;
        } else {
            eprintln!("{line}");
            if !line.trim().is_empty() {
                last = line;
            }
        }
    }
    let status = child.wait().context("cannot wait for the bench")?;
    let said = said.join().unwrap_or_default();
    if !status.success() {
        let why = if last.is_empty() { said } else { last };
        bail!("{why} ({status})");
    }
    Ok(())
}

/// Builds a program that measures, with those it needs beside it.
///
/// # Errors
///
/// It does not build.
pub fn program(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let arguments = ["build", "--release", "--package", "kernel-tests", "--bins"];
    let messages = workspace.cargo_messages(&arguments)?;
    let program = messages.into_iter().find_map(|message| match message {
        Message::CompilerArtifact(artifact) if artifact.target.name == name => artifact.executable,
        _ => None,
    });
    Ok(program
        .with_context(|| format!("cargo did not name {name}"))?
        .into())
}

/// Builds the program that is measured: what those who measure are told of it.
///
/// # Errors
///
/// It does not build, or git cannot say which commit it is.
pub fn variables(workspace: &Workspace) -> Result<Variables> {
    let product = product::build(workspace, true, FromSource::IfNeeded)?;
    Ok(vec![
        ("CHADTHROTTLE_BIN", product.binary.display().to_string()),
        ("CHADTHROTTLE_BENCH_COMMIT", commit(workspace)?),
    ])
}

/// The commit that is measured, and whether the tree differs from it.
///
/// # Errors
///
/// git cannot say.
pub fn commit(workspace: &Workspace) -> Result<String> {
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
        ":(exclude)docs/bench-*.svg",
        ":(exclude)docs/field.md",
        ":(exclude)docs/soak.md",
    ];
    Ok(match git(&others)?.is_empty() {
        true => commit.to_owned(),
        false => format!("{commit}, with uncommitted changes"),
    })
}
