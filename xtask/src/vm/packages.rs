//! Packages of the distribution's other releases, fetched without installing anything.
//!
//! apt works on a state of its own under `target/vm`, so neither the machine's package lists nor
//! its configuration change. Which mirror to ask comes from the machine's configuration.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::workspace::{output, succeed};

/// What checks the signatures.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A release, or a part of one, in one of the distribution's archives.
#[derive(Clone, Copy, Debug)]
pub struct Suite<'a> {
    pub name: &'a str,
    /// The archive's label, as its index gives it.
    label: &'static str,
}

impl<'a> Suite<'a> {
    /// In the archive with everything.
    #[must_use]
    pub const fn main(name: &'a str) -> Self {
        let label = "Debian";
        Self { name, label }
    }

    /// In the archive with security updates.
    #[must_use]
    pub const fn security(name: &'a str) -> Self {
        let label = "Debian-Security";
        Self { name, label }
    }
}

/// A suite's index, downloaded, and what it takes to download its packages.
#[derive(Debug)]
pub struct Archive {
    options: Vec<String>,
}

impl Archive {
    /// Downloads the suite's index, from `mirror` or else from where this machine gets its own.
    ///
    /// # Errors
    ///
    /// No mirror of the archive is configured, or it can't be reached, or it does not have the
    /// suite.
    pub fn open(vm: &Path, suite: &Suite<'_>, mirror: Option<&str>) -> Result<Self> {
        let directory = vm.join("apt").join(suite.name);
        for made in ["state/lists/partial", "cache/archives/partial"] {
            let made = directory.join(made);
            fs::create_dir_all(&made).with_context(|| format!("cannot make {}", made.display()))?;
        }
        ensure!(
            Path::new(KEYRING).exists(),
            "no {KEYRING}: install debian-archive-keyring"
        );
        let mirror = match mirror {
            Some(mirror) => mirror.to_owned(),
            None => configured(suite.label)?,
        };
        // Old suites stop renewing their index; a kernel to test on need not be fresh.
        let source = format!(
            "deb [arch=amd64 signed-by={KEYRING} target=Packages check-valid-until=no] \
             {mirror} {} main\n",
            suite.name
        );
        let list = directory.join("sources.list");
        fs::write(&list, source).with_context(|| format!("cannot write {}", list.display()))?;
        let status = directory.join("status");
        fs::write(&status, "").with_context(|| format!("cannot write {}", status.display()))?;
        let options = [
            ("Dir::State", directory.join("state")),
            ("Dir::State::status", status),
            ("Dir::Cache", directory.join("cache")),
            ("Dir::Etc::SourceList", list),
            ("Dir::Etc::SourceParts", "/dev/null".into()),
            ("Dir::Etc::Preferences", "/dev/null".into()),
            ("Dir::Etc::PreferencesParts", "/dev/null".into()),
            ("Acquire::Languages", "none".into()),
            ("APT::Architecture", "amd64".into()),
            // apt's own user may not be able to reach these directories.
            ("APT::Sandbox::User", "root".into()),
            // A suite that can't be reached is an error, not a warning.
            ("APT::Update::Error-Mode", "any".into()),
            // One that does not answer holds nobody up for minutes.
            ("Acquire::Retries", "1".into()),
            ("Acquire::http::Timeout", "20".into()),
            ("Acquire::https::Timeout", "20".into()),
        ];
        let archive = Self {
            options: (options.iter())
                .map(|(name, value)| format!("--option={name}={}", value.display()))
                .collect(),
        };
        output(archive.apt("apt-get").args(["--quiet", "update"]))
            .with_context(|| format!("cannot read the index of {} at {mirror}", suite.name))?;
        Ok(archive)
    }

    /// The names of packages that start so.
    ///
    /// # Errors
    ///
    /// apt fails.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = output(self.apt("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Downloads packages into a directory, and unpacks them below `root`.
    ///
    /// # Errors
    ///
    /// One cannot be downloaded or unpacked.
    pub fn unpack(&self, packages: &[String], directory: &Path, root: &Path) -> Result<()> {
        let mut apt = self.apt("apt-get");
        apt.args(["--quiet", "download"]).args(packages);
        output(apt.current_dir(directory))
            .with_context(|| format!("cannot download {}", packages.join(", ")))?;
        let files = fs::read_dir(directory)
            .with_context(|| format!("cannot list {}", directory.display()))?;
        for file in files {
            let path = file.context("cannot list the packages")?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                succeed(Command::new("dpkg-deb").arg("-x").args([&path, root]))?;
                fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options);
        command
    }
}

/// A directory that goes away with its owner, unless it was moved.
pub struct Temporary(pub PathBuf);

impl Temporary {
    /// Next to where it will be moved.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn beside(directory: &Path) -> Result<Self> {
        let name = directory.file_name().context("a directory has a name")?;
        let path = directory.with_file_name(format!("fresh-{}", name.display()));
        let _leftover = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _moved = fs::remove_dir_all(&self.0);
    }
}

/// Where this machine gets the archive with this label from.
fn configured(label: &str) -> Result<String> {
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format=$(REPO_URI)"])
        .args(["Created-By: Packages", "Origin: Debian"])
        .arg(format!("Label: {label}"));
    let mirrors = output(&mut apt)?;
    let mirror = mirrors.lines().map(str::trim).find(|line| !line.is_empty());
    Ok(mirror
        .with_context(|| {
            format!("apt knows no mirror of {label}: add one, and run `apt-get update` as root")
        })?
        .to_owned())
}
