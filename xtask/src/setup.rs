//! Installs what the eBPF build and the tests need, printing each step and asking nothing.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use crate::{
    privilege::{Ask, as_root},
    toolchain::{self, Compiler},
    workspace::{output, succeed},
};

/// Options of `setup`.
#[derive(clap::Args)]
pub struct Options {
    /// Only says what is there and what is missing; fails if anything is.
    #[arg(long)]
    check: bool,
}

/// Whether to install or only to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Installs what is missing.
    Install,
    /// Says what is missing.
    Check,
}

/// Installs what is missing, or only lists it.
///
/// # Errors
///
/// Something is missing still: what, and what could not be done about it.
pub fn run(options: &Options) -> Result<()> {
    let mode = match options.check {
        true => Mode::Check,
        false => Mode::Install,
    };
    // Neither stops the other: the tests don't need the toolchain, nor it them.
    let problems: Vec<_> = [ebpf_toolchain(mode), test_tools(mode)]
        .into_iter()
        .filter_map(Result::err)
        .map(|error| format!("{error:#}"))
        .collect();
    ensure!(problems.is_empty(), "{}", problems.join("\nerror: "));
    println!("Everything is there.");
    Ok(())
}

/// Programs that the kernel tests start, and the packages that may bring each.
const TEST_TOOLS: [(&str, &[&str]); 7] = [
    ("bpftool", &["bpftool", "linux-tools-generic"]),
    ("curl", &["curl"]),
    ("ip", &["iproute2"]),
    ("ps", &["procps"]),
    ("readelf", &["binutils"]),
    ("tmux", &["tmux"]),
    ("wget", &["wget"]),
];

/// Makes sure that the programs are there which the kernel tests start.
///
/// # Errors
///
/// One is missing.
pub fn test_tools(mode: Mode) -> Result<()> {
    let missing: Vec<_> = TEST_TOOLS
        .iter()
        .filter(|(program, _)| find_program(program).is_none())
        .collect();
    if missing.is_empty() {
        println!("Programs that the tests start: all there.");
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
    let names = names.join(", ");
    if mode == Mode::Check {
        bail!("the tests need {names}: `cargo xtask setup` installs them");
    }
    println!("Programs that the tests start: {names} missing.");
    let install = || {
        let apt = Apt::find()?;
        let packages = missing
            .iter()
            .map(|(program, packages)| {
                apt.first_known(packages)
                    .with_context(|| format!("no package brings {program}"))
            })
            .collect::<Result<Vec<_>>>()?;
        apt.install(&packages)
    };
    install().with_context(|| format!("the tests need {names}: install them"))
}

/// Some are in sbin, which an ordinary user's PATH lacks.
fn find_program(name: &str) -> Option<PathBuf> {
    which::which_in_global(name, std::env::var_os("PATH"))
        .ok()?
        .next()
        .or_else(|| {
            (["/usr/sbin", "/sbin"].iter())
                .map(|dir| Path::new(dir).join(name))
                .find(|path| path.is_file())
        })
}

/// Brings a compiler with library sources.
type Way = fn() -> Result<()>;

/// Makes sure that the eBPF object can be built.
fn ebpf_toolchain(mode: Mode) -> Result<()> {
    let missing = match toolchain::find() {
        Ok(toolchain) => {
            println!("eBPF toolchain: {toolchain}.");
            return Ok(());
        }
        Err(missing) => missing,
    };
    if mode == Mode::Check {
        return Err(missing);
    }
    println!("eBPF toolchain: {missing:#}");
    // Each way may end in a compiler for whose LLVM no linker can be built.
    let ways: [(&str, Way); 3] = [
        ("with the compilers that are there", || Ok(())),
        ("with a nightly from rustup", nightly_from_rustup),
        ("with the distribution's compiler", compiler_from_packages),
    ];
    let mut problems = Vec::new();
    for (way, bring) in ways {
        match bring().and_then(|()| linker_for_any(&toolchain::compilers()?)) {
            Ok(()) => {
                println!("eBPF toolchain: {}.", toolchain::find()?);
                return Ok(());
            }
            Err(error) => {
                println!("Not {way}: {error:#}");
                problems.push(format!("\n  {way}: {error:#}"));
            }
        }
    }
    bail!("the eBPF object cannot be built here:{}", problems.join(""))
}

/// Cheap to try, and quick to fail where no toolchain server can be reached.
fn nightly_from_rustup() -> Result<()> {
    let rustup = which::which_global("rustup").context("rustup is not installed")?;
    let limited = |seconds: &str, arguments: &[&str]| {
        let mut command = Command::new("timeout");
        toolchain::clean(command.arg(seconds).arg(&rustup).args(arguments));
        step(&mut command)
    };
    let list = output(Command::new(&rustup).args(["toolchain", "list", "--quiet"]))?;
    // Not updated: it may be the one that someone's work depends on.
    if let Some(name) = list.lines().find(|name| name.starts_with("nightly")) {
        return limited(
            "120",
            &["component", "add", "rust-src", "--toolchain", name],
        );
    }
    let install = ["toolchain", "install", "nightly", "--profile=minimal"];
    limited(
        "300",
        &[&install[..], &["--component=rust-src", "--no-self-update"]].concat(),
    )
}

/// Debian's compiler for browsers is recent, and its library sources are packaged.
fn compiler_from_packages() -> Result<()> {
    const COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
    let apt = Apt::find()?;
    for package in COMPILER {
        ensure!(apt.knows(package), "there is no package {package} here");
    }
    apt.install(&COMPILER)
}

/// Builds a linker for the first compiler for whose LLVM that works.
fn linker_for_any(compilers: &[Compiler]) -> Result<()> {
    let mut problem = anyhow!("no compiler with library sources");
    for compiler in compilers {
        match linker_for(compiler.llvm) {
            Ok(()) => return Ok(()),
            Err(error) => problem = error.context(format!("for {}", compiler.version)),
        }
    }
    Err(problem)
}

fn linker_for(llvm: u32) -> Result<()> {
    if toolchain::linker().is_ok_and(|linker| linker.llvm >= llvm) {
        return Ok(());
    }
    let prefix = match llvm_prefix(llvm) {
        Some(prefix) => prefix,
        None => {
            Apt::find()?.install(&[&format!("llvm-{llvm}-dev")])?;
            llvm_prefix(llvm).with_context(|| format!("LLVM {llvm} is still not found"))?
        }
    };
    let mut command = Command::new("cargo");
    toolchain::clean(&mut command)
        .args(["install", "bpf-linker", "--locked", "--force"])
        .args(["--no-default-features", "--features"])
        .arg(format!("llvm-{llvm}"))
        // Without it the build looks for an llvm-config on PATH, of whichever version.
        .env("LLVM_PREFIX", prefix);
    step(&mut command)
}

/// Where LLVM of a major version is installed, with its headers.
fn llvm_prefix(major: u32) -> Option<PathBuf> {
    let debian = PathBuf::from(format!("/usr/lib/llvm-{major}"));
    if debian.join("include/llvm-c").exists() {
        return Some(debian);
    }
    [format!("llvm-config-{major}"), "llvm-config".to_owned()]
        .iter()
        .find_map(|config| {
            let version = output(Command::new(config).arg("--version")).ok()?;
            let fits = version.split('.').next()?.parse() == Ok(major);
            let prefix = output(Command::new(config).arg("--prefix")).ok()?;
            let prefix = PathBuf::from(prefix.trim());
            (fits && prefix.join("include/llvm-c").exists()).then_some(prefix)
        })
}

/// Debian's and Ubuntu's packages.
struct Apt;

impl Apt {
    fn find() -> Result<Self> {
        which::which_global("apt-get")
            .context("only apt-get is known here: install it with your own package manager")?;
        // A fresh machine's lists may be empty or name what is gone. Once is enough.
        static UPDATED: std::sync::Once = std::sync::Once::new();
        UPDATED.call_once(|| {
            if let Err(error) = Self.run(&["update"]) {
                println!("Going on with the package lists that are there: {error:#}");
            }
        });
        Ok(Self)
    }

    fn knows(&self, package: &str) -> bool {
        let policy = output(Command::new("apt-cache").args(["policy", package]));
        let policy = policy.unwrap_or_default();
        (policy.lines())
            .filter_map(|line| line.trim().strip_prefix("Candidate: "))
            .any(|version| version != "(none)")
    }

    fn first_known<'a>(&self, packages: &[&'a str]) -> Option<&'a str> {
        packages.iter().copied().find(|package| self.knows(package))
    }

    fn install(&self, packages: &[&str]) -> Result<()> {
        let options = ["install", "--yes", "--no-install-recommends"];
        self.run(&[&options[..], packages].concat())
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        const QUIET: (&str, &str) = ("DEBIAN_FRONTEND", "noninteractive");
        let mut command = as_root("apt-get", Ask::Never, &[QUIET]).with_context(|| {
            format!(
                "run `sudo apt-get {}`, or `cargo xtask setup` as root",
                arguments.join(" ")
            )
        })?;
        command.arg("--quiet").args(arguments);
        step(&mut command)
    }
}

/// Says what is done, and does it.
fn step(command: &mut Command) -> Result<()> {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    println!("> {}", words.join(" "));
    succeed(command)
}
