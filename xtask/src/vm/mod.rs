//! Runs commands and the kernel tests on the distribution's kernels, in virtual machines.
//!
//! - [`kernels`]: which kernels there are, fetched and unpacked
//! - [`packages`]: the distribution's packages, without installing them
//! - [`initramfs`]: what a machine starts with
//! - [`qemu`]: a machine, and one command in it

mod initramfs;
mod kernels;
mod packages;
mod qemu;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use self::{
    kernels::{KERNELS, Kernel},
    qemu::{Accelerator, Run},
};
use crate::{setup, workspace::Workspace};

/// Options of `vm`.
#[derive(clap::Args)]
pub struct Options {
    /// The kernels to run on, oldest first: 5.10, 6.1, 6.12, 7.2 or all.
    #[arg(long = "kernel", value_delimiter = ',', default_value = "all")]
    kernels: Vec<String>,
    /// Runs this shell command inside instead of tests, in the current directory; builds nothing.
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// Stops a machine after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    timeout: u64,
}

/// Runs the tests, or the command, on each kernel.
///
/// # Errors
///
/// There is no such kernel, or a program is missing.
pub fn run(options: &Options) -> Result<ExitCode> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the virtual machines run this machine's programs, and are made for x86-64 only"
    );
    let kernels = chosen(&options.kernels)?;
    setup::vm_tools(setup::Mode::Install)?;
    let workspace = Workspace::find()?;
    let mut code = 0;
    for kernel in kernels {
        let mut host = Host::new(&workspace, options);
        let ended = host.execute(kernel, options.exec.as_deref().unwrap_or("true"));
        match ended {
            Ok(0) => {}
            Ok(failed) => code = failed,
            Err(error) => {
                eprintln!("error: on {}: {error:#}", kernel.name);
                code = 1;
            }
        }
    }
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// The kernels with these names.
fn chosen(names: &[String]) -> Result<Vec<&'static Kernel>> {
    for name in names {
        let known = name == "all" || KERNELS.iter().any(|kernel| kernel.name == name);
        let all: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
        ensure!(known, "no kernel {name}: {} or all", all.join(", "));
    }
    let is_chosen =
        |kernel: &&Kernel| (names.iter()).any(|name| name == "all" || name == kernel.name);
    Ok(KERNELS.iter().filter(is_chosen).collect())
}

/// This machine, as far as virtual ones need it.
struct Host<'a> {
    workspace: &'a Workspace,
    /// Where everything of theirs is.
    directory: PathBuf,
    timeout: Duration,
    accelerator: Option<Accelerator>,
}

impl<'a> Host<'a> {
    fn new(workspace: &'a Workspace, options: &Options) -> Self {
        Self {
            workspace,
            directory: workspace.target.join("vm"),
            timeout: Duration::from_secs(options.timeout),
            accelerator: None,
        }
    }

    /// Runs a command on a kernel, passing on what it prints.
    fn execute(&mut self, kernel: &Kernel, command: &str) -> Result<i32> {
        let unpacked = kernel.provide(&self.directory)?;
        let initramfs = initramfs::provide(&unpacked)?;
        let accelerator = match self.accelerator {
            Some(accelerator) => accelerator,
            None => *self.accelerator.insert(Accelerator::probe(&unpacked)?),
        };
        let share = Share::new(&self.directory)?;
        let start = Instant::now();
        let mut stdout = std::io::stdout().lock();
        let run = Run {
            kernel: &unpacked,
            initramfs: &initramfs,
            accelerator,
            command: &format!("{}{command}\n", self.preamble()?),
            share: &share.0,
            timeout: self.timeout,
        };
        let code = run.run(&mut |bytes| {
            let _closed = stdout.write_all(bytes).and_then(|()| stdout.flush());
        })?;
        eprintln!(
            "{} ({accelerator:?}): {code} after {:.1} s",
            unpacked.release,
            start.elapsed().as_secs_f64()
        );
        Ok(code)
    }

    /// What every command starts with.
    fn preamble(&self) -> Result<String> {
        let here = std::env::current_dir().context("cannot tell the current directory")?;
        let product = self.workspace.target.join("release/chadthrottle");
        let mut preamble = String::new();
        for (name, value) in [
            ("HOME", Path::new("/root")),
            ("TERM", Path::new("xterm-256color")),
            ("CHADTHROTTLE_VM", Path::new("1")),
            ("CHADTHROTTLE_BIN", &product),
        ] {
            preamble += &format!("export {name}={}\n", shell_quoted(value)?);
        }
        preamble += &format!("cd {}\n", shell_quoted(&here)?);
        Ok(preamble)
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
        let share = directory.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&share).with_context(|| format!("cannot make {}", share.display()))?;
        Ok(Self(share))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}
