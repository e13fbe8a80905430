//! Packages, where apt-get installs them.

use std::{process::Command, sync::Once};

use anyhow::{Context as _, Result};

use super::step;
use crate::{
    privilege::{Ask, as_root},
    workspace::output,
};

/// Runs `apt-get` with what packages ask before they start a service (invoke-rc.d(8)), which says no, unless
/// somebody has one already.
const WITHOUT_SERVICES: &str = r#"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
fi
apt-get "$@""#;

/// Debian's and Ubuntu's packages.
pub struct Apt;

impl Apt {
    /// With lists that are up to date, if root and the network are within reach.
    ///
    /// # Errors
    ///
    /// This distribution has another package manager.
    pub fn find() -> Result<Self> {
        which::which_global("apt-get")
            .context("only apt-get is known here: install it with your own package manager")?;
        // A fresh machine's lists may be empty or name what is gone. Once is enough.
        static UPDATED: Once = Once::new();
        UPDATED.call_once(|| {
            if let Err(error) = Self.run(&["update"]) {
                println!("Going on with the package lists that are there: {error:#}");
            }
        });
        Ok(Self)
    }

    /// Whether there is such a package.
    pub fn knows(&self, package: &str) -> bool {
        let policy = output(Command::new("apt-cache").args(["policy", package]));
        let policy = policy.unwrap_or_default();
        (policy.lines())
            .filter_map(|line| line.trim().strip_prefix("Candidate: "))
            .any(|version| version != "(none)")
    }

    /// The first of these that there is.
    pub fn first_known<'a>(&self, packages: &[&'a str]) -> Option<&'a str> {
        packages.iter().copied().find(|package| self.knows(package))
    }

    /// Installs packages, and starts none of their services: nobody asked for a web server on port 80.
    ///
    /// # Errors
    ///
    /// Root is out of reach (with the command to type), or it fails.
    pub fn install(&self, packages: &[&str]) -> Result<()> {
        let options = ["install", "--yes", "--no-install-recommends"];
        self.run(&[&options[..], packages].concat())
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        const QUIET: (&str, &str) = ("DEBIAN_FRONTEND", "noninteractive");
        let mut command = as_root("sh", Ask::Never, &[QUIET]).with_context(|| {
            format!(
                "run `sudo apt-get {}`, or `cargo xtask setup` as root",
                arguments.join(" ")
            )
        })?;
        // Two levels: no progress figures in a log, no list of what dpkg unpacks.
        command
            .args(["-c", WITHOUT_SERVICES, "apt-get"])
            .args(["--quiet=2", "--option=Dpkg::Use-Pty=0"])
            .args(arguments);
        step(&mut command)
    }
}
