//! Builds the program around an eBPF object that matches the sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use cargo_metadata::Message;

use crate::{
    ebpf,
    fingerprint::{self, COMMITTED_DIR, FRESH_DIR, OBJECT_FILE},
    toolchain,
    workspace::Workspace,
};

/// When the object is built from source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromSource {
    /// Whenever an eBPF toolchain is there.
    IfPossible,
    /// Only when no object matches the sources.
    IfNeeded,
}

/// The program, as it was built.
pub struct Product {
    /// The program.
    pub binary: PathBuf,
    /// The object in it.
    pub object: PathBuf,
    /// The fingerprint of the object's sources.
    pub fingerprint: String,
    /// Whether that object is a fresh build or the committed one.
    pub origin: String,
}

/// Builds the program and checks that what it embeds was made from the sources.
///
/// # Errors
///
/// No object matches the sources and none can be built, or the program does not build.
pub fn build(workspace: &Workspace, release: bool, object: FromSource) -> Result<Product> {
    provide_object(workspace, object)?;
    let mut arguments = vec!["build", "--package", "chadthrottle"];
    if release {
        arguments.push("--release");
    }
    let messages = workspace.cargo_messages(&arguments)?;
    let product = read(workspace, &messages)?;
    verify(workspace, &product)?;
    Ok(product)
}

/// `build-release`: builds, and says what was built.
///
/// # Errors
///
/// As [`build`].
pub fn run() -> Result<()> {
    let product = build(&Workspace::find()?, true, FromSource::IfPossible)?;
    println!(
        "Built {}\n  with the {} object {}\n  fingerprint of its sources {}",
        product.binary.display(),
        product.origin,
        product.object.display(),
        product.fingerprint
    );
    Ok(())
}

/// Makes sure that the build script will find an object.
///
/// # Errors
///
/// No object matches the sources and none can be built.
pub fn provide_object(workspace: &Workspace, from_source: FromSource) -> Result<()> {
    let sources = fingerprint::of_sources(&workspace.root)?;
    let usable = fingerprint::choose(
        fingerprint::read(&workspace.target.join(FRESH_DIR), &sources),
        fingerprint::read(&workspace.root.join(COMMITTED_DIR), &sources),
    );
    if let (FromSource::IfNeeded, Ok((origin, _))) = (from_source, &usable) {
        println!("The {origin} eBPF object matches the sources.");
        return Ok(());
    }
    match (toolchain::find(), usable) {
        (Ok(toolchain), _) => ebpf::build(workspace, &toolchain).map(|_| ()),
        (Err(_), Ok((origin, object))) => {
            println!(
                "No eBPF toolchain here (`cargo xtask setup` brings one): the {origin} object \
                 matches the sources and is used. It was built with {}.",
                object.record.built_with
            );
            Ok(())
        }
        (Err(missing), Err(_)) => Err(missing.context(
            "the sources of the eBPF object were changed, and it cannot be built anew here",
        )),
    }
}

/// What cargo says of the build script and the program.
fn read(workspace: &Workspace, messages: &[Message]) -> Result<Product> {
    let (mut script, mut binary) = (None, None);
    for message in messages {
        match message {
            Message::BuildScriptExecuted(it) if it.package_id == workspace.chadthrottle => {
                script = Some(it);
            }
            Message::CompilerArtifact(it)
                if it.package_id == workspace.chadthrottle && it.target.is_bin() =>
            {
                binary = it.executable.clone();
            }
            _ => {}
        }
    }
    let script = script.context("cargo did not say what the build script did")?;
    let variable = |name: &str| {
        (script.env.iter())
            .find_map(|(key, value)| (key == name).then(|| value.clone()))
            .with_context(|| format!("the build script did not set {name}"))
    };
    Ok(Product {
        binary: binary.context("cargo did not name the program")?.into(),
        object: Path::new(&script.out_dir).join(OBJECT_FILE),
        fingerprint: variable("CHADTHROTTLE_FINGERPRINT")?,
        origin: variable("CHADTHROTTLE_OBJECT_ORIGIN")?,
    })
}

/// The build script's word is not enough: looks into the program.
fn verify(workspace: &Workspace, product: &Product) -> Result<()> {
    ensure!(
        fingerprint::of_sources(&workspace.root)? == product.fingerprint,
        "the eBPF sources changed while the program was built: run the command again"
    );
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let (object, binary) = (read(&product.object)?, read(&product.binary)?);
    ensure!(
        memchr::memmem::find(&binary, &object).is_some(),
        "{} does not contain {}: run `cargo xtask clean` and build again",
        product.binary.display(),
        product.object.display()
    );
    Ok(())
}
