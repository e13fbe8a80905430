//! Runs commands and the kernel tests on the distribution's kernels, in virtual machines.
//!
//! - [`kernels`]: which kernels there are, fetched and unpacked
//! - [`emulator`]: the qemu that starts them
//! - [`packages`]: the distribution's packages, without installing them
//! - [`initramfs`]: what a machine starts with
//! - [`qemu`]: a machine, and one command in it
//! - [`kernel_tests`]: the kernel tests as one command, and what it prints

mod emulator;
mod initramfs;
mod kernel_tests;
mod kernels;
mod packages;
mod qemu;

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};

use self::{
    emulator::Emulator,
    kernels::{KERNELS, Kernel, Unpacked},
    qemu::{Accelerator, Machine},
};
use crate::{
    product::{self, FromSource},
    setup,
    tally::Tally,
    workspace::Workspace,
};

/// Options of `vm`.
#[derive(clap::Args)]
pub struct Options {
    /// The kernels to run on: 5.10, 6.1, 6.12, 7.2, several with commas between, or all.
    #[arg(long = "kernel", value_delimiter = ',', default_value = "all")]
    kernels: Vec<String>,
    /// Runs this shell command inside instead of tests, in the current directory, beside the program
    /// that was just built: `$CHADTHROTTLE_BIN`.
    #[arg(long, value_name = "COMMAND", conflicts_with = "filters")]
    exec: Option<String>,
    /// Stops a machine that takes longer, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    timeout: u64,
    /// Fetches kernels from this mirror of the distribution, not from this machine's.
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Runs all kernel tests, which takes half an hour for each emulated kernel.
    #[arg(long, conflicts_with_all = ["exec", "filters"])]
    full: bool,
    /// Lets systemd be the first program of the machine; runs the test of the unit, unless another is
    /// asked for.
    #[arg(long)]
    systemd: bool,
    /// Runs the kernel tests whose name, or whose program's name, contains one of these; without
    /// any, a sample.
    filters: Vec<String>,
}

/// Runs the tests, or the command, on each kernel, oldest first. With one kernel, a command's exit
/// code is this one's.
///
/// # Errors
///
/// There is no such kernel, a program is missing, or the tests don't build.
pub fn run(options: &Options) -> Result<ExitCode> {
    let kernels = chosen(&options.kernels)?;
    let workspace = Workspace::find()?;
    let timeout = Duration::from_secs(options.timeout);
    let mut host = Host::new(&workspace, timeout, options.mirror.clone())?;
    if options.systemd {
        setup::systemd(setup::Mode::Install)?;
        host.systemd = true;
    }
    if let Some(command) = &options.exec {
        // What the command most likely runs must not be of older sources.
        product::build(&workspace, true, FromSource::IfNeeded)?;
        return execute(&mut host, &kernels, command);
    }
    let filters = match options.filters.as_slice() {
        [] if options.systemd => vec![kernel_tests::OF_SYSTEMD.to_owned()],
        [] if !options.full => sample(),
        filters => filters.to_vec(),
    };
    let mut tally = Tally::default();
    test(&mut host, &kernels, &filters, &mut tally)?;
    println!("\n{tally}");
    Ok(match tally.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Runs a sample of the kernel tests on the kernels with these names, as a part of other tests.
///
/// # Errors
///
/// As [`run`].
pub fn run_sample(workspace: &Workspace, kernels: &[String], tally: &mut Tally) -> Result<()> {
    let mut host = Host::new(workspace, SAMPLE_TIMEOUT, None)?;
    test(&mut host, &chosen(kernels)?, &sample(), tally)
}

/// More than the sample takes on one kernel: three times as much if its processors are emulated.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(900);

fn sample() -> Vec<String> {
    kernel_tests::SAMPLE.map(str::to_owned).to_vec()
}

/// The kernels with these names.
fn chosen(names: &[String]) -> Result<Vec<&'static Kernel>> {
    let all: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
    for name in names {
        let known = name == "all" || all.contains(&name.as_str());
        ensure!(known, "no kernel {name}: {} or all", all.join(", "));
    }
    let is_chosen =
        |kernel: &&Kernel| (names.iter()).any(|name| name == "all" || name == kernel.name);
    Ok(KERNELS.iter().filter(is_chosen).collect())
}

/// `--exec`: what the command prints is passed on as it is, what it says of itself goes to
/// standard error.
fn execute(host: &mut Host<'_>, kernels: &[&Kernel], command: &str) -> Result<ExitCode> {
    let here = std::env::current_dir().context("cannot tell the current directory")?;
    let command = format!("cd {}\n{command}\n", shell_quoted(&here)?);
    let mut worst = 0;
    for kernel in kernels {
        let code = host.prepare(kernel).and_then(|unpacked| {
            eprintln!("On {}:", unpacked.release);
            let mut stdout = std::io::stdout().lock();
            host.machine(&unpacked, &command, &mut |bytes| {
                let _closed = stdout.write_all(bytes).and_then(|()| stdout.flush());
            })
        });
        let code = code.unwrap_or_else(|error| {
            eprintln!("error: on {}: {error:#}", kernel.name);
            1
        });
        worst = worst.max(code);
    }
    Ok(ExitCode::from(worst))
}

/// The kernel tests on each kernel, then a line for each.
fn test(
    host: &mut Host<'_>,
    kernels: &[&Kernel],
    filters: &[String],
    total: &mut Tally,
) -> Result<()> {
    let (command, programs) = kernel_tests::command(host.workspace, filters)?;
    let mut summaries = Vec::new();
    for kernel in kernels {
        let start = Instant::now();
        let mut tally = Tally::default();
        let release = test_on(host, kernel, &command, &programs, &mut tally);
        summaries.push(format!(
            "{:<5} {}, {} s ({release})",
            kernel.name,
            tally.counts(),
            start.elapsed().as_secs()
        ));
        total.absorb(kernel.name, tally);
    }
    println!("\n{}", summaries.join("\n"));
    Ok(())
}

/// Runs a command with these parts on one kernel. Returns its release.
fn test_on(
    host: &mut Host<'_>,
    kernel: &Kernel,
    command: &str,
    parts: &[String],
    tally: &mut Tally,
) -> String {
    let unpacked = match host.prepare(kernel) {
        Ok(unpacked) => unpacked,
        // Others are as good a test meanwhile.
        Err(error) => {
            tally.skip("the kernel", &format!("{error:#}"));
            return "not there".to_owned();
        }
    };
    println!("\nRunning the kernel tests on {}.", unpacked.release);
    let mut report = kernel_tests::Report::new(tally);
    let code = host.machine(&unpacked, command, &mut |bytes| report.take(bytes));
    report.finish(parts);
    if let Err(error) = code {
        tally.fail(&format!("the machine: {error:#}"));
    }
    unpacked.release
}

/// This machine, as far as virtual ones need it.
struct Host<'a> {
    workspace: &'a Workspace,
    /// Where everything of theirs is.
    directory: PathBuf,
    timeout: Duration,
    /// Where kernels come from, if not from where this machine gets its packages.
    mirror: Option<String>,
    /// Whether systemd is the first program of machines.
    systemd: bool,
    /// Found out when the first machine starts.
    accelerator: Option<(Emulator, Accelerator)>,
}

impl<'a> Host<'a> {
    /// Makes sure that there is what machines need.
    fn new(workspace: &'a Workspace, timeout: Duration, mirror: Option<String>) -> Result<Self> {
        ensure!(
            cfg!(target_arch = "x86_64"),
            "the virtual machines run this machine's programs, and only x86-64 kernels are known here"
        );
        setup::vm_tools(setup::Mode::Install)?;
        let directory = workspace.target.join("vm");
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Self {
            workspace,
            directory,
            timeout,
            mirror,
            systemd: false,
            accelerator: None,
        })
    }

    /// Others who change something in the directory wait until this is dropped.
    fn lock(&self) -> Result<File> {
        let path = self.directory.join("lock");
        let lock =
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        flock(&lock, FlockOperation::LockExclusive)
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(lock)
    }

    /// Brings a kernel.
    fn prepare(&self, kernel: &Kernel) -> Result<Unpacked> {
        let _lock = self.lock()?;
        let unpacked = kernel.provide(&self.directory, self.mirror.as_deref())?;
        initramfs::provide(&unpacked)?;
        Ok(unpacked)
    }

    /// Runs a command on a kernel.
    fn machine(
        &mut self,
        kernel: &Unpacked,
        command: &str,
        printed: &mut dyn FnMut(&[u8]),
    ) -> Result<u8> {
        let command = format!("{}{command}", self.preamble()?);
        let (emulator, accelerator) = match &self.accelerator {
            Some(known) => known,
            None => {
                let _lock = self.lock()?;
                let emulator = Emulator::provide(&self.directory, self.mirror.as_deref())?;
                let accelerator = Accelerator::probe(&emulator, kernel)?;
                self.accelerator.insert((emulator, accelerator))
            }
        };
        let share = Share::new(&self.directory)?;
        let machine = Machine {
            emulator,
            kernel,
            accelerator: *accelerator,
            command: &command,
            systemd: self.systemd,
            share: &share.0,
            timeout: self.timeout,
        };
        machine.run(printed)
    }

    /// What every command starts with.
    fn preamble(&self) -> Result<String> {
        let product = self.workspace.target.join("release/chadthrottle");
        Ok(format!(
            "export HOME=/root TERM=xterm-256color CHADTHROTTLE_VM=1 CHADTHROTTLE_BIN={}\n",
            shell_quoted(&product)?
        ))
    }
}

/// One word for a shell.
///
/// # Errors
///
/// It is not valid text.
pub fn shell_quoted(path: &Path) -> Result<String> {
    let Some(text) = path.to_str() else {
        bail!("{} is not valid text", path.display());
    };
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// A directory that goes away with its owner.
struct Share(PathBuf);

impl Share {
    fn new(directory: &Path) -> Result<Self> {
        remove_leftovers(directory);
        let share = directory.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&share).with_context(|| format!("cannot make {}", share.display()))?;
        Ok(Self(share))
    }
}

/// Directories of those that were killed.
fn remove_leftovers(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix("run-"));
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _only_untidy = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that refuses at once, as one that is not reached would later.
    #[test]
    fn a_kernel_that_cannot_be_fetched_is_skipped_by_name_and_with_the_reason() -> Result<()> {
        let workspace = Workspace::find()?;
        let directory = tempfile::tempdir()?;
        let mut host = Host {
            workspace: &workspace,
            directory: directory.path().to_owned(),
            timeout: Duration::ZERO,
            mirror: Some("http://127.0.0.1:9/debian".to_owned()),
            systemd: false,
            accelerator: None,
        };
        let mut total = Tally::default();
        for kernel in chosen(&["5.10".to_owned(), "7.2".to_owned()])? {
            let mut tally = Tally::default();
            let release = test_on(&mut host, kernel, "false", &["a".to_owned()], &mut tally);
            assert_eq!(release, "not there");
            total.absorb(kernel.name, tally);
        }
        let summary = total.to_string();
        assert!(total.success(), "{summary}");
        let lines: Vec<_> = summary.lines().collect();
        for name in ["5.10", "7.2"] {
            let skipped = format!("skipped {name}: the kernel: no {name} kernel: ");
            assert!(
                lines.iter().any(|line| line.starts_with(&skipped)),
                "{summary}"
            );
        }
        assert_eq!(lines.last(), Some(&"0 passed, 0 failed, 2 skipped"));
        Ok(())
    }

    #[test]
    fn kernels_are_chosen_by_name() {
        let names = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            chosen(&names)
                .map(|kernels| kernels.iter().map(|kernel| kernel.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["7.2", "5.10"]).ok(), Some(vec!["5.10", "7.2"]));
        assert_eq!(
            names(&["all"]).map(|all| all.len()).ok(),
            Some(KERNELS.len())
        );
        assert!(names(&["4.19"]).is_err());
    }
}
