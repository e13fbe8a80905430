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
use crate::{setup, tally::Tally, workspace::Workspace};

/// Options of `vm`.
#[derive(clap::Args)]
pub struct Options {
    /// The kernels to run on: 5.10, 6.1, 6.12, 7.2, several with commas between, or all.
    #[arg(long = "kernel", value_delimiter = ',', default_value = "all")]
    kernels: Vec<String>,
    /// Runs this shell command inside instead of tests, in the current directory. Builds nothing.
    #[arg(long, value_name = "COMMAND", conflicts_with = "filters")]
    exec: Option<String>,
    /// Stops a machine that takes longer, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    timeout: u64,
    /// Runs all kernel tests, which takes a quarter of an hour for each emulated kernel.
    #[arg(long, conflicts_with_all = ["exec", "filters"])]
    full: bool,
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
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the virtual machines run this machine's programs, and only x86-64 kernels are known here"
    );
    let kernels = chosen(&options.kernels)?;
    setup::vm_tools(setup::Mode::Install)?;
    let workspace = Workspace::find()?;
    let mut host = Host::new(&workspace, options)?;
    if let Some(command) = &options.exec {
        return execute(&mut host, &kernels, command);
    }
    let filters = match options.filters.as_slice() {
        [] if !options.full => kernel_tests::SAMPLE.map(str::to_owned).to_vec(),
        filters => filters.to_vec(),
    };
    test(&mut host, &kernels, &filters)
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

/// The kernel tests on each kernel, then what became of them.
fn test(host: &mut Host<'_>, kernels: &[&Kernel], filters: &[String]) -> Result<ExitCode> {
    let (command, programs) = kernel_tests::command(host.workspace, filters)?;
    let mut total = Tally::default();
    let mut summaries = Vec::new();
    for kernel in kernels {
        let start = Instant::now();
        let mut tally = Tally::default();
        let mut release = "not there".to_owned();
        match host.prepare(kernel) {
            // Others are as good a test meanwhile.
            Err(error) => tally.skip("the kernel", &format!("{error:#}")),
            Ok(unpacked) => {
                println!("\nRunning the kernel tests on {}.", unpacked.release);
                let mut report = kernel_tests::Report::new(&mut tally);
                let code = host.machine(&unpacked, &command, &mut |bytes| report.take(bytes));
                report.finish(&programs);
                if let Err(error) = code {
                    tally.fail(&format!("the machine: {error:#}"));
                }
                release = unpacked.release;
            }
        }
        let seconds = start.elapsed().as_secs();
        summaries.push(format!(
            "{:<5} {}, {seconds} s ({release})",
            kernel.name,
            tally.counts()
        ));
        total.absorb(kernel.name, tally);
    }
    println!("\n{}\n\n{total}", summaries.join("\n"));
    Ok(match total.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// This machine, as far as virtual ones need it.
struct Host<'a> {
    workspace: &'a Workspace,
    /// Where everything of theirs is.
    directory: PathBuf,
    timeout: Duration,
    /// Found out when the first machine starts.
    accelerator: Option<(Emulator, Accelerator)>,
}

impl<'a> Host<'a> {
    fn new(workspace: &'a Workspace, options: &Options) -> Result<Self> {
        let directory = workspace.target.join("vm");
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Self {
            workspace,
            directory,
            timeout: Duration::from_secs(options.timeout),
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
        let unpacked = kernel.provide(&self.directory)?;
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
                let emulator = Emulator::provide(&self.directory)?;
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
fn shell_quoted(path: &Path) -> Result<String> {
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
