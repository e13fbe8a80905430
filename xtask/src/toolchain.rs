//! Finds a compiler that can build for `bpfel-unknown-none`, and a linker that reads its output.
//!
//! The core library has to be compiled for that target, so its sources must be there. A nightly
//! from rustup with rust-src is the usual one; any other compiler with sources does too, told to
//! accept unstable options.

use std::{
    collections::BTreeSet,
    env, fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::workspace::output;

/// A compiler with library sources, and the cargo beside it.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// The compiler itself, never rustup's proxy.
    pub rustc: PathBuf,
    /// The cargo in the same directory.
    pub cargo: PathBuf,
    /// Its library sources.
    pub library: PathBuf,
    /// What it calls itself, as in `rustc 1.96.0 (ac68faa20 2026-05-25)`.
    pub version: String,
    /// The major version of its LLVM: the linker must be at least as new.
    pub llvm: u32,
    /// It is a nightly from rustup.
    pub nightly: bool,
}

/// The linker that makes one object of the compiler's LLVM bitcode.
#[derive(Clone, Debug)]
pub struct Linker {
    /// The program.
    pub path: PathBuf,
    /// What it calls itself, as in `bpf-linker 0.13.0`.
    pub version: String,
    /// The major version of its LLVM.
    pub llvm: u32,
}

/// What builds the eBPF object.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// The compiler.
    pub compiler: Compiler,
    /// The linker.
    pub linker: Linker,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, LLVM {}, {}, LLVM {}",
            self.compiler.version, self.compiler.llvm, self.linker.version, self.linker.llvm
        )
    }
}

/// The toolchain for the eBPF crate: the first compiler whose output the linker can read.
///
/// # Errors
///
/// What is missing, and the command that brings it.
pub fn find() -> Result<Toolchain> {
    let compilers = compilers()?;
    let linker = linker()?;
    let newest = linker.llvm;
    match compilers.iter().find(|compiler| compiler.llvm <= newest) {
        Some(compiler) => Ok(Toolchain {
            compiler: compiler.clone(),
            linker,
        }),
        None => bail!(
            "{} was built for LLVM {newest} and cannot read what {} writes with LLVM {}. Run \
             `cargo xtask setup`, which builds it anew",
            linker.path.display(),
            compilers[0].version,
            compilers[0].llvm
        ),
    }
}

/// The compilers that have library sources and a cargo, at least one, the preferred one first.
///
/// # Errors
///
/// There is none: what was tried, and the command that brings one.
pub fn compilers() -> Result<Vec<Compiler>> {
    let (mut usable, mut refused) = (Vec::new(), Vec::new());
    for rustc in candidates() {
        match inspect(&rustc) {
            Ok(compiler) => usable.push(compiler),
            Err(why) => refused.push(format!("\n  {}: {why:#}", rustc.display())),
        }
    }
    if usable.is_empty() {
        bail!(
            "no Rust compiler here can build for eBPF: it takes a nightly with the rust-src \
             component, or any rustc whose library sources are installed. Run `cargo xtask setup`, \
             which brings one. Looked at:{}",
            refused.join("")
        )
    }
    Ok(usable)
}

/// Compilers in order of preference: nightlies, the other toolchains of rustup, then PATH.
fn candidates() -> Vec<PathBuf> {
    let of_rustup = rustup_toolchains()
        .into_iter()
        .filter_map(|name| rustup_rustc(&name).ok());
    let on_path = which::which_all_global("rustc")
        .into_iter()
        .flatten()
        .filter(|path| !is_rustup_proxy(path));
    // sudo's PATH may lack it, and it is where distributions put theirs.
    let usual = PathBuf::from("/usr/bin/rustc");
    let mut seen = BTreeSet::new();
    (of_rustup.chain(on_path).chain(Some(usual)))
        .filter(|path| path.exists() && seen.insert(path.canonicalize().ok()))
        .collect()
}

/// The names of rustup's toolchains, nightlies first.
#[must_use]
pub fn rustup_toolchains() -> Vec<String> {
    let names = output(Command::new("rustup").args(["toolchain", "list", "--quiet"]))
        // A machine without rustup has none of its toolchains.
        .unwrap_or_default();
    let (nightly, other): (Vec<_>, Vec<_>) = names
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .partition(|name| name.starts_with("nightly"));
    [nightly, other].concat()
}

/// The compiler of one of them.
///
/// # Errors
///
/// There is no such toolchain, or none in it.
pub fn rustup_rustc(toolchain: &str) -> Result<PathBuf> {
    let path = output(Command::new("rustup").args(["which", "--toolchain", toolchain, "rustc"]))?;
    Ok(PathBuf::from(path.trim()))
}

/// The major version of a compiler's LLVM.
///
/// # Errors
///
/// It does not say.
pub fn llvm_of(rustc: &Path) -> Result<u32> {
    let about = output(clean(Command::new(rustc).arg("-vV")))?;
    llvm_major(&about, "LLVM version: ").context("does not say which LLVM it has")
}

fn is_rustup_proxy(path: &Path) -> bool {
    path.canonicalize()
        .is_ok_and(|real| real.file_name().is_some_and(|name| name == "rustup"))
}

fn inspect(rustc: &Path) -> Result<Compiler> {
    let about = output(clean(Command::new(rustc).arg("-vV")))?;
    let sysroot = output(clean(Command::new(rustc).args(["--print", "sysroot"])))?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    if !library.join("core/src/lib.rs").is_file() {
        bail!("has no library sources");
    }
    let cargo = rustc.with_file_name("cargo");
    if !cargo.is_file() {
        bail!("has no cargo beside it");
    }
    let version = about.lines().next().unwrap_or_default();
    // Distributions add how they built it.
    let version = version.split(" (built").next().unwrap_or_default();
    Ok(Compiler {
        rustc: rustc.to_owned(),
        cargo,
        library,
        version: version.to_owned(),
        llvm: llvm_of(rustc)?,
        nightly: version.contains("-nightly"),
    })
}

/// The linker, and the LLVM it was built for.
///
/// # Errors
///
/// It is missing or does not work.
pub fn linker() -> Result<Linker> {
    let path = linker_path()
        .context("bpf-linker is not installed. Run `cargo xtask setup`, which brings it")?;
    let version = output(Command::new(&path).arg("--version"))?
        .trim()
        .to_owned();
    // The program does not tell its LLVM's version, but hands these options to LLVM, which does.
    let about =
        output(Command::new(&path).args(["--llvm-args=--version", "-o", "/dev/null", "/dev/null"]))
            .unwrap_or_default();
    let llvm = llvm_major(&about, "LLVM version ").with_context(|| {
        format!(
            "{} does not say which LLVM it was built for",
            path.display()
        )
    })?;
    Ok(Linker {
        path,
        version,
        llvm,
    })
}

/// On PATH, else where `cargo install` puts it.
fn linker_path() -> Option<PathBuf> {
    which::which_global("bpf-linker").ok().or_else(|| {
        let home = env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(env::home_dir()?.join(".cargo")))?;
        Some(home.join("bin/bpf-linker")).filter(|path| path.is_file())
    })
}

fn llvm_major(text: &str, label: &str) -> Option<u32> {
    let (_, version) = text.split_once(label)?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Takes away what cargo and rustup told this xtask about the toolchain that runs it: the eBPF
/// crate is built by another one. What is the user's own (registries, proxies, homes) stays.
pub fn clean(command: &mut Command) -> &mut Command {
    const KEPT: [&str; 8] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "RUSTUP_HOME",
        "RUST_BACKTRACE",
    ];
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let of_toolchain = text.starts_with("CARGO") || text.starts_with("RUST");
        if of_toolchain && !KEPT.iter().any(|kept| text.starts_with(kept)) {
            command.env_remove(&name);
        }
    }
    // rustup puts its own libraries first; another compiler must not load them.
    command.env_remove("LD_LIBRARY_PATH")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_versions_are_read_as_the_programs_print_them() {
        for (text, label, major) in [
            (
                "release: 1.96.0\nLLVM version: 22.1.8\n",
                "LLVM version: ",
                Some(22),
            ),
            (
                "Debian LLVM version 22.1.8\n  Optimized build.\n",
                "LLVM version ",
                Some(22),
            ),
            ("LLVM version 23.0.0git", "LLVM version ", Some(23)),
            ("LLVM version unknown", "LLVM version ", None),
            ("", "LLVM version ", None),
        ] {
            assert_eq!(llvm_major(text, label), major, "{text:?}");
        }
    }
}
