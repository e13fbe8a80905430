//! The qemu that starts the machines.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::packages::{Archive, Suite, Temporary};
use crate::{setup, workspace::output};

/// qemu 8.1 is the first that executes what a guest writes over its own code in time ("accel/tcg:
/// Always lock pages before translation"). Kernels do that whenever eBPF programs are attached or
/// detached, and with two CPUs older ones die of it now and then: `Oops: int3`.
const SOUND: (u32, u32) = (8, 1);

/// A qemu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulator {
    pub program: PathBuf,
    /// Where its firmware is, if not where it looks by itself.
    pub firmware: Vec<PathBuf>,
    /// Whether two CPUs can be emulated at the same time.
    pub parallel: bool,
}

impl Emulator {
    /// The machine's, or a newer one that its distribution has but not installed. That is put under
    /// `target/vm`, and uses the libraries of the one that is installed.
    ///
    /// # Errors
    ///
    /// None is installed.
    pub fn provide(vm: &Path, mirror: Option<&str>) -> Result<Self> {
        let program = setup::program("qemu-system-x86_64")?;
        let mut installed = Self {
            firmware: Vec::new(),
            parallel: version(&program)? >= SOUND,
            program,
        };
        if installed.parallel {
            return Ok(installed);
        }
        match newer(vm, mirror) {
            Ok(newer) => Ok(newer),
            Err(error) => {
                eprintln!(
                    "Emulating one CPU at a time, as the qemu here is older than {}.{} and no newer \
                     one can be had ({error:#}). Tests that need speed may fail.",
                    SOUND.0, SOUND.1
                );
                installed.parallel = false;
                Ok(installed)
            }
        }
    }
}

/// From the distribution's backports.
fn newer(vm: &Path, mirror: Option<&str>) -> Result<Emulator> {
    let directory = vm.join("qemu");
    let newer = Emulator {
        program: directory.join("usr/bin/qemu-system-x86_64"),
        firmware: vec![
            directory.join("usr/share/qemu"),
            directory.join("usr/share/seabios"),
        ],
        parallel: true,
    };
    if newer.program.exists() {
        return Ok(newer);
    }
    eprintln!("Fetching a newer qemu.");
    let suite = format!("{}-backports", codename()?);
    let archive = Archive::open(vm, &Suite::main(&suite), mirror)?;
    let fresh = Temporary::beside(&directory)?;
    let packages = ["qemu-system-x86", "qemu-system-data", "seabios"].map(str::to_owned);
    archive.unpack(&packages, &fresh.0, &fresh.0)?;
    let version = version(&fresh.0.join("usr/bin/qemu-system-x86_64"))?;
    ensure!(version >= SOUND, "{suite} has {}.{}", version.0, version.1);
    fs::rename(&fresh.0, &directory)
        .with_context(|| format!("cannot move {} into place", fresh.0.display()))?;
    Ok(newer)
}

/// The distribution's release.
fn codename() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    (release.lines())
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release names no VERSION_CODENAME")
}

fn version(program: &Path) -> Result<(u32, u32)> {
    let about = output(Command::new(program).arg("--version"))?;
    parse(&about).with_context(|| format!("{} does not tell its version", program.display()))
}

fn parse(about: &str) -> Option<(u32, u32)> {
    let version = about.split_once("version ")?.1;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let version = |number| parse(&format!("QEMU emulator version {number} (Debian 1:x)\n"));
        assert_eq!(version("7.2.22"), Some((7, 2)));
        assert_eq!(version("10.0.2"), Some((10, 0)));
        assert!(version("10.0.2") > Some(SOUND) && version("7.2.22") < Some(SOUND));
        assert_eq!(version("unknown"), None);
    }
}
