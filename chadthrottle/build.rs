//! Embeds the eBPF object, and never one that was built from other sources.
//!
//! See `bpf/fingerprint.rs` for the rule; this file only finds the directories, copies the object
//! that the rule picks, and tells cargo when to look again.

#[path = "bpf/fingerprint.rs"]
mod fingerprint;

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result, ensure};
use fingerprint::{COMMITTED_DIR, FRESH_DIR, OBJECT_FILE, SOURCES};

fn main() -> Result<()> {
    let manifest = PathBuf::from(var("CARGO_MANIFEST_DIR")?);
    let root = manifest
        .parent()
        .context("chadthrottle must be built inside its workspace")?;
    let out = PathBuf::from(var("OUT_DIR")?);
    let fresh = target_dir(&out)?.join(FRESH_DIR);
    watch(root, &fresh)?;

    ensure!(
        var("CARGO_CFG_TARGET_ENDIAN")? == "little",
        "the eBPF object is built for little-endian machines only"
    );
    let sources = fingerprint::of_sources(root)?;
    let chosen = fingerprint::choose(
        fingerprint::read(&fresh, &sources),
        fingerprint::read(&root.join(COMMITTED_DIR), &sources),
    );
    let (origin, object) = match chosen {
        Ok(chosen) => chosen,
        Err(why) => {
            println!("cargo::error={why}");
            return Ok(());
        }
    };

    let embedded = out.join(OBJECT_FILE);
    fs::write(&embedded, &object.bytes)
        .with_context(|| format!("cannot write {}", embedded.display()))?;
    println!("cargo::rustc-env=CHADTHROTTLE_FINGERPRINT={sources}");
    println!("cargo::rustc-env=CHADTHROTTLE_OBJECT_ORIGIN={origin}");
    println!(
        "cargo::rustc-env=CHADTHROTTLE_OBJECT_BUILT_WITH={}",
        object.record.built_with
    );
    Ok(())
}

fn var(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("{name} is not set: run this through cargo"))
}

/// The target directory, which no variable names: `OUT_DIR` is
/// `<target>/[<triple>/]<profile>/build/<package>/out`, the triple only with `--target`.
fn target_dir(out: &Path) -> Result<PathBuf> {
    let profiles = out
        .ancestors()
        .nth(4)
        .context("OUT_DIR is not inside a target directory")?;
    let triple = var("TARGET")?;
    Ok(match profiles.parent() {
        Some(above) if profiles.ends_with(&triple) => above,
        _ => profiles,
    }
    .to_owned())
}

/// Names what the choice depends on. Cargo runs the script at every build if one of these is
/// missing, hence the directory for fresh builds is made here, empty; and once more if one is
/// newer than the script's start, hence it is made old.
fn watch(root: &Path, fresh: &Path) -> Result<()> {
    if !fresh.exists() {
        fs::create_dir_all(fresh)
            .and_then(|()| fs::File::open(fresh)?.set_modified(SystemTime::UNIX_EPOCH))
            .with_context(|| format!("cannot make {}", fresh.display()))?;
    }
    let committed = Path::new(COMMITTED_DIR);
    for path in SOURCES.iter().map(Path::new).chain([committed]) {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    println!("cargo::rerun-if-changed={}", fresh.display());
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}
