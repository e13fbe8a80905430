//! Which sources an eBPF object was built from, and which object may be embedded.
//!
//! One file for two programs: `chadthrottle/build.rs` embeds an object only if its record names
//! the sources as they are now, and `cargo xtask build-ebpf` writes that record. Were there two
//! copies of this arithmetic, they could drift apart and a stale object would look right.

use std::{
    fmt::{self, Write as _},
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

/// The object's file name, wherever it lies.
pub const OBJECT_FILE: &str = "chadthrottle.o";
/// The record's file name, beside the object.
pub const RECORD_FILE: &str = "chadthrottle.fingerprint";
/// Where the committed object lies, from the workspace root.
pub const COMMITTED_DIR: &str = "chadthrottle/bpf";
/// Where a fresh build is put, beneath the target directory.
pub const FRESH_DIR: &str = "bpf-fresh";

/// What the object is made of, from the workspace root: files, and directories with all they
/// hold. The lock file of the eBPF crate is its own, so a user-space dependency changes nothing.
pub const SOURCES: [&str; 5] = [
    "chadthrottle-common/Cargo.toml",
    "chadthrottle-common/src",
    "chadthrottle-ebpf/Cargo.lock",
    "chadthrottle-ebpf/Cargo.toml",
    "chadthrottle-ebpf/src",
];

/// SHA-256 over the sorted relative paths and the contents of [`SOURCES`].
///
/// # Errors
///
/// A source that is missing or cannot be read.
pub fn of_sources(root: &Path) -> Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(root, Path::new(source), &mut files)
            .with_context(|| format!("cannot read {source} in {}", root.display()))?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for (name, path) in files {
        let contents =
            fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // Lengths, so that no two trees can be cut differently into the same bytes.
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(&name);
        hash.update((contents.len() as u64).to_le_bytes());
        hash.update(&contents);
    }
    Ok(hex(&hash.finalize()))
}

fn collect(root: &Path, relative: &Path, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    let path = root.join(relative);
    if !path.is_dir() {
        files.push((relative.to_string_lossy().into_owned(), path));
        return Ok(());
    }
    for entry in fs::read_dir(&path)? {
        let name = entry?.file_name();
        // An editor's swap and backup files are not sources.
        let text = name.to_string_lossy();
        if !text.starts_with('.') && !text.ends_with('~') {
            collect(root, &relative.join(&name), files)?;
        }
    }
    Ok(())
}

/// SHA-256 of some bytes, in hexadecimal.
#[must_use]
pub fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What is written down beside an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Fingerprint of the sources that made the object.
    pub sources: String,
    /// SHA-256 of the object, so that a swapped file is noticed.
    pub object: String,
    /// The compiler and linker, for people.
    pub built_with: String,
}

impl Record {
    /// Reads the text that [`fmt::Display`] writes.
    ///
    /// # Errors
    ///
    /// A line that is missing or unknown.
    pub fn parse(text: &str) -> Result<Self> {
        let (mut sources, mut object, mut built_with) = (None, None, None);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match line.split_once('=') {
                Some(("sources", value)) => sources = Some(value.to_owned()),
                Some(("object", value)) => object = Some(value.to_owned()),
                Some(("built-with", value)) => built_with = Some(value.to_owned()),
                _ => bail!("unknown line: {line}"),
            }
        }
        match (sources, object, built_with) {
            (Some(sources), Some(object), Some(built_with)) => Ok(Self {
                sources,
                object,
                built_with,
            }),
            _ => bail!("it must have a line for each of sources=, object= and built-with="),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Written by `cargo xtask build-ebpf`, read by build.rs."
        )?;
        writeln!(f, "sources={}", self.sources)?;
        writeln!(f, "object={}", self.object)?;
        writeln!(f, "built-with={}", self.built_with)
    }
}

/// An object that is what its record says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The ELF file.
    pub bytes: Vec<u8>,
    /// What was written down when it was built.
    pub record: Record,
}

/// Why a directory gives no object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// There is none.
    Absent,
    /// There is something, but not an object with its own record: the reason.
    Damaged(String),
    /// The object was built from other sources.
    Stale,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("is not there"),
            Self::Damaged(why) => write!(f, "is damaged ({why})"),
            Self::Stale => f.write_str("was built from other sources"),
        }
    }
}

/// Reads the object in `dir` and accepts it only if its record names these sources.
///
/// # Errors
///
/// Why it may not be embedded.
pub fn read(dir: &Path, sources: &str) -> Result<Object, Unusable> {
    let (record, bytes) = match (
        fs::read_to_string(dir.join(RECORD_FILE)),
        fs::read(dir.join(OBJECT_FILE)),
    ) {
        (Ok(record), Ok(bytes)) => (record, bytes),
        (Err(record), Err(object)) if absent(&record) && absent(&object) => {
            return Err(Unusable::Absent);
        }
        (Err(error), _) => return Err(Unusable::Damaged(format!("{RECORD_FILE}: {error}"))),
        (_, Err(error)) => return Err(Unusable::Damaged(format!("{OBJECT_FILE}: {error}"))),
    };
    let record = Record::parse(&record)
        .map_err(|error| Unusable::Damaged(format!("{RECORD_FILE}: {error}")))?;
    if record.object != of_bytes(&bytes) {
        return Err(Unusable::Damaged(format!(
            "{OBJECT_FILE} is not the file that {RECORD_FILE} describes"
        )));
    }
    if record.sources != sources {
        return Err(Unusable::Stale);
    }
    Ok(Object { bytes, record })
}

fn absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Where an embedded object came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built on this machine.
    Fresh,
    /// The one in the repository.
    Committed,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Committed => "committed",
        })
    }
}

/// The object to embed: the fresh one, else the committed one, else neither.
///
/// # Errors
///
/// Both were unusable: one line that says why and which command puts it right.
pub fn choose(
    fresh: Result<Object, Unusable>,
    committed: Result<Object, Unusable>,
) -> Result<(Origin, Object), String> {
    let fresh = match fresh {
        Ok(object) => return Ok((Origin::Fresh, object)),
        Err(why) => why,
    };
    committed
        .map(|object| (Origin::Committed, object))
        .map_err(|committed| {
            format!(
                "no eBPF object matches the sources in chadthrottle-ebpf and chadthrottle-common: \
                 the one in {COMMITTED_DIR} {committed}, a fresh one {fresh}. \
                 Run `cargo xtask build-release`, which builds the object and then the program."
            )
        })
}
