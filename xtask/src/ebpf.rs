//! Builds the eBPF object from source.

use std::{env, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    fingerprint::{self, COMMITTED_DIR, FRESH_DIR, OBJECT_FILE, RECORD_FILE, Record},
    rustc, strip,
    toolchain::{self, Toolchain},
    workspace::{Workspace, succeed},
};

const TARGET: &str = "bpfel-unknown-none";

/// Options of `build-ebpf`.
#[derive(clap::Args)]
pub struct Options {
    /// Accepted for habit: the kernel's verifier needs optimised programs, there is no other build.
    #[arg(long)]
    release: bool,
    /// Also replaces the committed object, which machines without an eBPF toolchain embed.
    #[arg(long)]
    commit: bool,
    /// Builds nothing, only fails if the committed object was not built from these sources.
    #[arg(long, conflicts_with = "commit")]
    check: bool,
}

/// Builds the object, and says where it is.
///
/// # Errors
///
/// No toolchain, the build fails, or the committed object turns out not to be what it claims.
pub fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::find()?;
    if options.check {
        return check(&workspace);
    }
    let toolchain = toolchain::find()?;
    let (object, record) = build(&workspace, &toolchain)?;
    if options.commit {
        write(&workspace.root.join(COMMITTED_DIR), &object, &record)?;
        println!("Replaced the object in {COMMITTED_DIR}: commit it.");
        return Ok(());
    }
    compare(&workspace, &record)
}

/// Whether the committed object belongs to the sources.
fn check(workspace: &Workspace) -> Result<()> {
    let sources = fingerprint::of_sources(&workspace.root)?;
    match fingerprint::read(&workspace.root.join(COMMITTED_DIR), &sources) {
        Ok(object) => {
            println!(
                "The object in {COMMITTED_DIR} was built from these sources, with {}.",
                object.record.built_with
            );
            Ok(())
        }
        Err(why) => bail!(
            "the object in {COMMITTED_DIR} {why}: run `cargo xtask build-ebpf --commit` and commit \
             what it changes"
        ),
    }
}

/// The same compiler and linker make the same object of the same sources. If they did not, the
/// committed object could be anything, whatever its record claims.
fn compare(workspace: &Workspace, fresh: &Record) -> Result<()> {
    let Ok(committed) = fingerprint::read(&workspace.root.join(COMMITTED_DIR), &fresh.sources)
    else {
        println!("The committed object belongs to other sources: --commit replaces it.");
        return Ok(());
    };
    if committed.record.built_with != fresh.built_with {
        println!(
            "The committed object was built with {}: not compared.",
            committed.record.built_with
        );
        return Ok(());
    }
    if committed.record.object != fresh.object {
        bail!(
            "the object in {COMMITTED_DIR} claims these sources, compiler and linker, but they \
             make another one: run `cargo xtask build-ebpf --commit` and look where it came from"
        );
    }
    println!("The committed object is the same, byte for byte.");
    Ok(())
}

/// Builds the object and puts it where `cargo build` looks for a fresh one.
///
/// # Errors
///
/// The build fails, or the sources changed under it.
pub fn build(workspace: &Workspace, toolchain: &Toolchain) -> Result<(Vec<u8>, Record)> {
    println!("Building the eBPF object with {toolchain}.");
    let sources = fingerprint::of_sources(&workspace.root)?;
    let target = workspace.target.join("bpf");
    let mut compile = compile(workspace, toolchain, &target);
    rustc::stand_in(&mut compile).context("cannot tell where this program is")?;
    succeed(&mut compile).context("the eBPF programs do not build")?;
    if fingerprint::of_sources(&workspace.root)? != sources {
        bail!("the sources changed while they were built: run the command again");
    }

    let built = target.join(TARGET).join("release/chadthrottle");
    let elf = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let object = strip::debug_sections(&elf)?;
    let record = Record {
        sources,
        object: fingerprint::of_bytes(&object),
        built_with: toolchain.to_string(),
    };
    let dir = workspace.target.join(FRESH_DIR);
    write(&dir, &object, &record)?;
    println!(
        "Built {} ({} bytes), fingerprint of the sources {}.",
        dir.join(OBJECT_FILE).display(),
        object.len(),
        record.sources
    );
    Ok((object, record))
}

fn compile(workspace: &Workspace, toolchain: &Toolchain, target: &Path) -> Command {
    let compiler = &toolchain.compiler;
    let mut command = Command::new(&compiler.cargo);
    toolchain::clean(&mut command)
        .current_dir(workspace.root.join("chadthrottle-ebpf"))
        .args(["build", "--release", "--locked", "-Z", "build-std=core"])
        .args(["--target", TARGET])
        .env("RUSTC", &compiler.rustc)
        .env("CARGO_TARGET_DIR", target)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            flags(workspace, toolchain).join("\x1f"),
        );
    if !compiler.nightly {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    command
}

fn flags(workspace: &Workspace, toolchain: &Toolchain) -> Vec<String> {
    let linker = toolchain.linker.path.display();
    let mut flags = vec![
        format!("-Clinker={linker}"),
        "-Clink-arg=--btf".to_owned(),
        // BTF is made of debug info.
        "-Cdebuginfo=2".to_owned(),
        // aya-ebpf wants one, and nothing here depends on it: one value for one object everywhere.
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
    ];
    // BTF names source files. The object must not tell where it was built, and the same sources
    // must give the same object in another directory.
    let mut remap = |from: &Path, to: &str| {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    };
    remap(&workspace.root, "chadthrottle");
    remap(&toolchain.compiler.library, "library");
    let registry = env::var_os("CARGO_HOME")
        .map(Into::into)
        .or_else(|| Some(env::home_dir()?.join(".cargo")))
        .map(|home: std::path::PathBuf| home.join("registry/src"));
    for entry in registry.iter().flat_map(fs::read_dir).flatten().flatten() {
        remap(&entry.path(), "registry");
    }
    flags
}

/// Writes the object, then the record, each at once: a build that reads in between sees a record
/// that does not fit, not half a file.
fn write(dir: &Path, object: &[u8], record: &Record) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for (name, contents) in [
        (OBJECT_FILE, object),
        (RECORD_FILE, record.to_string().as_bytes()),
    ] {
        let path = dir.join(name);
        // A file that is written anew makes cargo build the program anew.
        if fs::read(&path).is_ok_and(|there| there == contents) {
            continue;
        }
        let partial = dir.join(format!(".{name}.{}", std::process::id()));
        fs::write(&partial, contents)
            .and_then(|()| fs::rename(&partial, &path))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
