//! The distribution kernels that the tests run on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::packages::{Archive, Suite};
use crate::workspace::{output, succeed};

/// A kernel by the name it has on the command line, and where to look for it.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// A version without its last part: `6.12` stands for any 6.12.y.
    pub name: &'static str,
    /// The smaller indexes first.
    suites: &'static [Suite],
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
        (self.directory.join("boot")).join(format!("vmlinuz-{}", self.release))
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
    /// The kernel from `target/vm`, or from the distribution if it is not there yet.
    ///
    /// # Errors
    ///
    /// No suite has it, or it cannot be fetched: what was tried and why not.
    pub fn provide(&self, vm: &Path) -> Result<Unpacked> {
        let directory = vm.join("kernels").join(self.name);
        if let Some(kernel) = Unpacked::read(&directory) {
            return Ok(kernel);
        }
        println!("Fetching the {} kernel's packages.", self.name);
        let mut problems = Vec::new();
        let exact = format!("{}.", self.name);
        for version in [Some(exact.as_str()), self.substitute]
            .into_iter()
            .flatten()
        {
            for suite in self.suites {
                let fetched = Archive::open(vm, suite).and_then(|archive| {
                    let release = newest(&archive.names("linux-image-")?, version)
                        .with_context(|| format!("no kernel {version}y"))?;
                    fetch(&archive, &release, &directory)
                });
                match fetched {
                    Ok(kernel) => return Ok(kernel),
                    Err(error) => problems.push(format!("{}: {error:#}", suite.name)),
                }
            }
        }
        bail!("no suite has it ({})", problems.join("; "))
    }
}

/// Downloads and unpacks next to `directory`, and moves it there when it is whole.
fn fetch(archive: &Archive, release: &str, directory: &Path) -> Result<Unpacked> {
    // Newer kernels come in several packages.
    let wanted = ["image", "binary", "modules"].map(|part| format!("linux-{part}-{release}"));
    let known = archive.names("linux-")?;
    let wanted: Vec<_> = (wanted.into_iter())
        .filter(|name| known.contains(name))
        .collect();
    let fresh = directory.with_extension(format!("fresh-{}", std::process::id()));
    let _leftover = fs::remove_dir_all(&fresh);
    let root = fresh.join("root");
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    for package in archive.download(&wanted, &fresh)? {
        succeed(Command::new("dpkg-deb").arg("-x").args([&package, &root]))?;
        fs::remove_file(&package)
            .with_context(|| format!("cannot remove {}", package.display()))?;
    }
    let kernel = arrange(&root, &fresh, release)?;
    // One that cannot be used would have stopped above.
    let _older = fs::remove_dir_all(directory);
    fs::rename(&fresh, directory)
        .with_context(|| format!("cannot move {} into place", fresh.display()))?;
    Ok(Unpacked {
        directory: directory.to_owned(),
        ..kernel
    })
}

/// Moves the kernel and its modules from where packages have them to where [`Unpacked`] does.
fn arrange(root: &Path, fresh: &Path, release: &str) -> Result<Unpacked> {
    let modules = ["usr/lib/modules", "lib/modules"]
        .map(|path| root.join(path))
        .into_iter()
        .find(|path| path.join(release).is_dir())
        .context("the packages hold no modules")?;
    let kernel = Unpacked {
        release: release.to_owned(),
        directory: fresh.to_owned(),
    };
    fs::create_dir_all(fresh.join("lib")).context("cannot make a directory for modules")?;
    fs::rename(modules, kernel.all_modules()).context("cannot move the modules")?;
    fs::rename(root.join("boot"), fresh.join("boot")).context("cannot move the kernel")?;
    fs::remove_dir_all(root).context("cannot remove what is left of the packages")?;
    let image = kernel.image();
    ensure!(image.is_file(), "the packages hold no {}", image.display());
    // Packages leave this to their installation.
    let mut depmod = Command::new(crate::setup::program("depmod")?);
    output(depmod.arg("-b").arg(fresh).arg(release))?;
    fs::write(fresh.join("release"), release).context("cannot note the kernel's release")?;
    Ok(kernel)
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
