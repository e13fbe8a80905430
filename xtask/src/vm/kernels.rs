//! The distribution kernels that the tests run on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::packages::{Archive, Suite, Temporary};
use crate::{setup, workspace::output};

/// A kernel by the name it has on the command line, and where to look for it.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// A version without its last part: `6.12` stands for any 6.12.y.
    pub name: &'static str,
    /// The smaller indexes first.
    suites: &'static [Suite<'static>],
    /// What else will do: distributions move on from what is not a long-term kernel.
    substitute: Option<&'static str>,
}

/// Oldest first.
pub const KERNELS: [Kernel; 4] = [
    Kernel {
        name: "5.10",
        suites: &[
            Suite::security("bullseye-security"),
            Suite::main("bullseye"),
        ],
        substitute: None,
    },
    Kernel {
        name: "6.1",
        suites: &[
            Suite::security("bookworm-security"),
            Suite::main("bookworm"),
        ],
        substitute: None,
    },
    Kernel {
        name: "6.12",
        suites: &[
            Suite::security("trixie-security"),
            Suite::main("bookworm-backports"),
            Suite::main("trixie"),
        ],
        substitute: None,
    },
    Kernel {
        name: "7.2",
        suites: &[
            Suite::main("trixie-backports"),
            Suite::main("forky"),
            Suite::main("sid"),
        ],
        substitute: Some("7."),
    },
];

/// A kernel unpacked under `target/vm`.
#[derive(Debug)]
pub struct Unpacked {
    /// What `uname -r` says inside.
    pub release: String,
    /// Holds all that belongs to it.
    pub directory: PathBuf,
}

impl Unpacked {
    /// The kernel itself.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    /// What it starts with.
    #[must_use]
    pub fn initramfs(&self) -> PathBuf {
        self.directory.join("initramfs.cpio")
    }

    /// What belongs at `/lib/modules`.
    #[must_use]
    pub fn all_modules(&self) -> PathBuf {
        self.directory.join("lib/modules")
    }

    /// The modules of this release.
    #[must_use]
    pub fn modules(&self) -> PathBuf {
        self.all_modules().join(&self.release)
    }

    fn read(directory: &Path) -> Option<Self> {
        let release = fs::read_to_string(directory.join("release")).ok()?;
        Some(Self {
            release: release.trim().to_owned(),
            directory: directory.to_owned(),
        })
    }
}

impl Kernel {
    /// The kernel from `target/vm`, or from the distribution if it is not there yet: from
    /// `mirror`, or else from where this machine gets its packages.
    ///
    /// # Errors
    ///
    /// No suite has it, or it cannot be fetched: what was tried and why not.
    pub fn provide(&self, vm: &Path, mirror: Option<&str>) -> Result<Unpacked> {
        let directory = vm.join("kernels").join(self.name);
        if let Some(kernel) = Unpacked::read(&directory) {
            return Ok(kernel);
        }
        eprintln!("Fetching the {} kernel's packages.", self.name);
        let mut problems = Vec::new();
        let mut archives = Vec::new();
        for suite in self.suites {
            match Archive::open(vm, suite, mirror).and_then(|it| Ok((it.names("linux-")?, it))) {
                Ok((packages, archive)) => archives.push((suite.name, packages, archive)),
                Err(error) => problems.push(format!("{error:#}")),
            }
        }
        let exact = format!("{}.", self.name);
        for version in [Some(exact.as_str()), self.substitute]
            .into_iter()
            .flatten()
        {
            for (suite, packages, archive) in &archives {
                let Some(release) = newest(packages, version) else {
                    problems.push(format!("{suite} has no {version}x"));
                    continue;
                };
                match fetch(archive, packages, &release, &directory) {
                    Ok(kernel) => return Ok(kernel),
                    Err(error) => problems.push(format!("{release} of {suite}: {error:#}")),
                }
            }
        }
        bail!("no {} kernel: {}", self.name, problems.join("; "))
    }
}

/// Downloads and unpacks next to `directory`, and moves it there when it is whole.
fn fetch(
    archive: &Archive,
    packages: &[String],
    release: &str,
    directory: &Path,
) -> Result<Unpacked> {
    // Newer kernels come in several packages.
    let wanted: Vec<_> = ["image", "base", "binary", "modules"]
        .map(|part| format!("linux-{part}-{release}"))
        .into_iter()
        .filter(|name| packages.contains(name))
        .collect();
    let fresh = Temporary::beside(directory)?;
    let root = fresh.0.join("root");
    fs::create_dir(&root).with_context(|| format!("cannot make {}", root.display()))?;
    archive.unpack(&wanted, &fresh.0, &root)?;
    arrange(&root, &fresh.0, release)?;
    fs::rename(&fresh.0, directory)
        .with_context(|| format!("cannot move {} into place", fresh.0.display()))?;
    Ok(Unpacked {
        release: release.to_owned(),
        directory: directory.to_owned(),
    })
}

/// Moves the kernel and its modules from where packages have them to where [`Unpacked`] does.
fn arrange(root: &Path, fresh: &Path, release: &str) -> Result<()> {
    let kernel = Unpacked {
        release: release.to_owned(),
        directory: fresh.to_owned(),
    };
    let modules = ["usr/lib/modules", "lib/modules"]
        .map(|path| root.join(path))
        .into_iter()
        .find(|path| path.join(release).is_dir())
        .context("the packages hold no modules")?;
    let image = [
        root.join("boot").join(format!("vmlinuz-{release}")),
        modules.join(release).join("vmlinuz"),
    ]
    .into_iter()
    .find(|path| path.is_file())
    .context("the packages hold no vmlinuz")?;
    fs::rename(image, kernel.image()).context("cannot move the kernel")?;
    fs::create_dir(fresh.join("lib")).context("cannot make a directory for modules")?;
    fs::rename(modules, kernel.all_modules()).context("cannot move the modules")?;
    fs::remove_dir_all(root).context("cannot remove what is left of the packages")?;
    // Packages leave this to their installation.
    let mut depmod = Command::new(setup::program("depmod")?);
    output(depmod.arg("-b").arg(fresh).arg(release))?;
    fs::write(fresh.join("release"), release).context("cannot note the kernel's release")
}

/// The newest release with this beginning among `linux-image-…` packages, built for PCs in general.
fn newest(packages: &[String], version: &str) -> Option<String> {
    (packages.iter())
        .filter_map(|package| package.strip_prefix("linux-image-"))
        .filter(|release| {
            let general = release
                .strip_suffix("-amd64")
                .is_some_and(|rest| !rest.split('-').any(|part| ["rt", "cloud"].contains(&part)));
            general && release.starts_with(version)
        })
        .max_by_key(|release| numbers(release))
        .map(str::to_owned)
}

/// Kernel releases are told apart by their numbers alone.
fn numbers(release: &str) -> Vec<u64> {
    (release.split(|c: char| !c.is_ascii_digit()))
        .filter_map(|number| number.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_general_kernel_of_a_version_is_chosen() {
        let packages = [
            "linux-image-6.1-amd64",
            "linux-image-6.1.0-9-amd64",
            "linux-image-6.1.0-50-amd64",
            "linux-image-6.1.0-60-amd64-unsigned",
            "linux-image-6.1.0-61-rt-amd64",
            "linux-image-6.1.0-61-cloud-amd64",
            "linux-image-6.12.107+deb13-amd64",
            "linux-image-7.2.9+deb13-amd64",
            "linux-image-7.2.12+deb13-amd64",
            "linux-image-7.3.4+deb13-amd64",
            "linux-image-7.3.4+deb13-amd64-dbg",
            "linux-image-amd64",
        ]
        .map(str::to_owned);
        for (version, release) in [
            ("6.1.", Some("6.1.0-50-amd64")),
            ("6.12.", Some("6.12.107+deb13-amd64")),
            ("7.2.", Some("7.2.12+deb13-amd64")),
            ("7.", Some("7.3.4+deb13-amd64")),
            ("5.10.", None),
        ] {
            assert_eq!(newest(&packages, version).as_deref(), release);
        }
    }
}
