//! Brings what builds the eBPF object: a compiler with library sources, and a linker for its LLVM.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::{Mode, apt::Apt, step};
use crate::{
    toolchain::{self, Compiler},
    workspace::output,
};

/// Brings a compiler with library sources.
type Way = fn() -> Result<()>;

/// Makes sure that the eBPF object can be built.
///
/// # Errors
///
/// It can't: which ways were tried, and why each failed.
pub fn bring(mode: Mode) -> Result<()> {
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
    // Each may end in a compiler for whose LLVM no linker can be had. A new nightly is not among
    // them: its LLVM is never older than that of the toolchains that are there.
    let ways: [(&str, Way); 3] = [
        ("with the compilers that are there", || Ok(())),
        ("with library sources from rustup", sources_from_rustup),
        ("with the distribution's compiler", compiler_from_packages),
    ];
    let there = toolchain::compilers().is_ok();
    let mut problems = String::new();
    for (way, bring) in ways.into_iter().skip(usize::from(!there)) {
        match bring().and_then(|()| linker_for_any(&toolchain::compilers()?)) {
            Ok(()) => {
                println!("eBPF toolchain: {}.", toolchain::find()?);
                return Ok(());
            }
            Err(error) => {
                println!("Not {way}: {error:#}");
                problems += &format!("\n  {way}: {error:#}");
            }
        }
    }
    bail!("the eBPF object cannot be built here:{problems}")
}

/// Adds the library sources to a toolchain that is there, if a linker for it can be had.
fn sources_from_rustup() -> Result<()> {
    let mut problem = anyhow!("rustup has no toolchain");
    for name in toolchain::rustup_toolchains() {
        match add_sources(&name) {
            Ok(()) => return Ok(()),
            Err(error) => problem = error.context(name),
        }
    }
    Err(problem)
}

fn add_sources(toolchain: &str) -> Result<()> {
    let rustc = toolchain::rustup_rustc(toolchain)?;
    let source = linker_source(toolchain::llvm_of(&rustc)?)?;
    if let LinkerSource::Package(package) = source {
        ensure!(
            Apt::find()?.knows(&package),
            "there is no package {package} here"
        );
    }
    let mut command = Command::new("timeout");
    // Where rustup's servers are out of reach it may try for minutes.
    command.args([
        "120",
        "rustup",
        "component",
        "add",
        "rust-src",
        "--toolchain",
    ]);
    step(toolchain::clean(&mut command).arg(toolchain))
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

/// Makes sure of a linker for the first compiler for whose LLVM that works.
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

/// What a linker for some LLVM can be had from.
enum LinkerSource {
    /// The one that is there is new enough.
    There,
    /// It can be built with the LLVM installed here.
    Llvm(PathBuf),
    /// It can be built once this package is installed.
    Package(String),
}

fn linker_source(llvm: u32) -> Result<LinkerSource> {
    if toolchain::linker().is_ok_and(|linker| linker.llvm >= llvm) {
        return Ok(LinkerSource::There);
    }
    if let Some(prefix) = llvm_prefix(llvm) {
        return Ok(LinkerSource::Llvm(prefix));
    }
    Apt::find().with_context(|| format!("bpf-linker needs LLVM {llvm} with its headers"))?;
    Ok(LinkerSource::Package(format!("llvm-{llvm}-dev")))
}

fn linker_for(llvm: u32) -> Result<()> {
    let prefix = match linker_source(llvm)? {
        LinkerSource::There => return Ok(()),
        LinkerSource::Llvm(prefix) => prefix,
        LinkerSource::Package(package) => {
            let apt = Apt::find()?;
            ensure!(apt.knows(&package), "there is no package {package} here");
            apt.install(&[&package])?;
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
