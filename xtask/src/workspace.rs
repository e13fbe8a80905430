//! Where things are, and running other programs.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use cargo_metadata::{Message, MetadataCommand, PackageId};

/// The workspace of the directory this was started in.
pub struct Workspace {
    /// The directory with the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// Where cargo builds, whatever `CARGO_TARGET_DIR` or a configuration says.
    pub target: PathBuf,
    /// The package with the program.
    pub chadthrottle: PackageId,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    ///
    /// There is no workspace here, or another one.
    pub fn find() -> Result<Self> {
        let metadata = MetadataCommand::new()
            .no_deps()
            .exec()
            .context("cannot find the workspace: start this in the repository")?;
        let package = metadata
            .packages
            .into_iter()
            .find(|package| package.name == "chadthrottle")
            .context("this is not the workspace of chadthrottle: start this in the repository")?;
        Ok(Self {
            root: metadata.workspace_root.into(),
            target: metadata.target_directory.into(),
            chadthrottle: package.id,
        })
    }

    /// The folder that a document goes to: the one that was asked for, or the repository's.
    ///
    /// # Errors
    ///
    /// It is no folder.
    pub fn docs(&self, asked: Option<&Path>) -> Result<PathBuf> {
        let docs = asked.map_or_else(|| self.root.join("docs"), Path::to_owned);
        ensure!(docs.is_dir(), "{} is no folder", docs.display());
        Ok(docs)
    }

    /// The cargo that runs this xtask (with `cargo +nightly xtask`, that one), at the root.
    #[must_use]
    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        command.args(arguments).current_dir(&self.root);
        command
    }

    /// Runs cargo and gives what it says of its results; its own lines go to standard error.
    ///
    /// # Errors
    ///
    /// The build fails.
    pub fn cargo_messages(&self, arguments: &[&str]) -> Result<Vec<Message>> {
        let output = self
            .cargo(arguments)
            .arg("--message-format=json-render-diagnostics")
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cargo {} failed ({})", arguments.join(" "), output.status);
        }
        Message::parse_stream(output.stdout.as_slice())
            .collect::<Result<_, _>>()
            .context("cannot read cargo's answer")
    }
}

/// Runs a command to its end.
///
/// # Errors
///
/// It cannot be started, or fails.
pub fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        bail!("{program} failed ({status})");
    }
    Ok(())
}

/// Runs a command to its end and gives its standard output.
///
/// # Errors
///
/// It cannot be started, or fails: with what it said.
pub fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
