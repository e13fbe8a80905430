//! Builds the program and starts it.

use std::{ffi::OsString, os::unix::process::CommandExt as _};

use anyhow::{Context as _, Result};

use crate::{
    privilege::{Ask, as_root},
    product::{self, FromSource},
    workspace::Workspace,
};

/// Options of `run`.
#[derive(clap::Args)]
pub struct Options {
    /// Accepted for habit: it is the default.
    #[arg(long, conflicts_with = "debug")]
    release: bool,
    /// Builds without optimisation, which is faster to build.
    #[arg(long)]
    debug: bool,
    /// What follows `--` goes to the program.
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Builds the program and becomes it, so that signals and the exit code are its own.
///
/// # Errors
///
/// It does not build, or root is out of reach.
pub fn run(options: &Options) -> Result<()> {
    const NO_MORE: &[(&str, &str)] = &[];
    let product = product::build(&Workspace::find()?, !options.debug, FromSource::IfNeeded)?;
    let mut command = as_root(&product.binary, Ask::Yes, NO_MORE).with_context(|| {
        format!(
            "chadthrottle must run as root, and there is no sudo here: become root and start {}",
            product.binary.display()
        )
    })?;
    let error = command.args(&options.arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))
}
