//! The file itself: opened only where nobody else can have changed it, and written whole or not at
//! all.
//!
//! What it says is done as root, so it is treated as `sudo` treats its own: it, and every folder on
//! the way to it, those of links, too, must be root's or the caller's, and writable by nobody else.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        FileType, FlockOperation, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, flock, fstat,
        openat, readlinkat,
    },
    io::Errno,
    process::geteuid,
};

/// The largest file; what is larger is not a rules file.
pub const LARGEST: u64 = 1 << 20;

const IS_A_FOLDER: &str = "is a folder; name a file in it, as in .../rules.toml";

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is none.
    #[error("there is no {}", .0.display())]
    Missing(PathBuf),
    /// Somebody else may change it.
    #[error("{} {what}; its rules are not trusted. Set it right: {remedy}", .path.display())]
    Unsafe {
        /// What: the file, or a folder above it.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// The command that helps.
        remedy: String,
    },
    /// Everybody may put files beside it.
    #[error(
        "others may put files in {}, too, so rules there are not trusted; move them to a folder of \
         their own, with `mkdir -m 755`", .0.display()
    )]
    Shared(PathBuf),
    /// A link to nothing.
    #[error(
        "{} is a link to {}, which is not there; make that file, or remove the link",
        .link.display(), .target.display()
    )]
    Dangling {
        /// The link.
        link: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// There is not even its folder.
    #[error("{} can't be made: there is no {}; make it first, with `mkdir`", .path.display(), .folder.display())]
    NoFolder {
        /// Which file.
        path: PathBuf,
        /// What is missing.
        folder: PathBuf,
    },
    /// No file of rules.
    #[error("{} {what}", .path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It can't be read.
    #[error("{} can't be read: {error}{}", .path.display(), remedy(.error))]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It can't be written; it is as it was.
    #[error("{} can't be written, and is as it was: {error}{}", .path.display(), remedy(.error))]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// What helps against an error of writing, where that is known.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room there",
        io::ErrorKind::ReadOnlyFilesystem => "; mount it for writing, or name another file",
        io::ErrorKind::PermissionDenied if geteuid().is_root() => {
            "; is it immutable (`lsattr` shows it, `chattr -i` ends it), or does a security module \
             forbid it (`dmesg`)?"
        }
        io::ErrorKind::PermissionDenied => "; are you root?",
        _ => "",
    }
}

/// How many links a path may lead through, as in the kernel.
const MOST_LINKS: usize = 40;

/// A folder that nobody else can change, and a name in it.
struct Place {
    folder: OwnedFd,
    path: PathBuf,
}

impl Place {
    /// Where a path leads, links followed, with a look at every folder on the way: whoever can change
    /// one of them decides where the path leads.
    fn of(path: &Path) -> Result<Self, StoreError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut ahead = parts(&std::path::absolute(path).map_err(|error| unreadable(path, error))?);
        let mut here = PathBuf::from("/");
        let open_root = || rustix::fs::open("/", flags, Mode::empty());
        let mut folder = open_root().map_err(|error| unreadable(&here, error.into()))?;
        let mut links = 0;
        // The last is the next one.
        while let Some(part) = ahead.pop() {
            let next = here.join(&part);
            let failed = |error: Errno| unreadable(&next, error.into());
            let stat = fstat(&folder).map_err(failed)?;
            check_owner(&here, &stat, true)?;
            match readlinkat(&folder, &*part, Vec::new()) {
                Ok(target) => {
                    check_holds_no_files_of_others(&here, &stat)?;
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(StoreError::NotAFile {
                            path: next,
                            what: "is a link that leads to itself; make it one to a file",
                        });
                    }
                    let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                    if target.is_absolute() {
                        folder = open_root().map_err(failed)?;
                        here = PathBuf::from("/");
                    }
                    ahead.extend(parts(target));
                    continue;
                }
                // It is no link.
                Err(Errno::INVAL | Errno::NOENT) => {}
                Err(error) => return Err(failed(error)),
            }
            if ahead.is_empty() && part != ".." {
                check_holds_no_files_of_others(&here, &stat)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let folder = openat(&folder, ".", flags, Mode::empty()).map_err(failed)?;
                let place = Self { folder, path: next };
                if links > 0 && place.open()?.is_none() && path.is_symlink() {
                    return Err(StoreError::Dangling {
                        link: path.to_owned(),
                        target: place.path,
                    });
                }
                return Ok(place);
            }
            folder = match openat(&folder, &*part, flags, Mode::empty()) {
                Ok(folder) => folder,
                Err(Errno::NOENT) => {
                    return Err(StoreError::NoFolder {
                        path: path.to_owned(),
                        folder: next,
                    });
                }
                Err(Errno::NOTDIR) => {
                    return Err(StoreError::NotAFile {
                        path: next,
                        what: "is no folder; name a file in one",
                    });
                }
                Err(error) => return Err(failed(error)),
            };
            if part == ".." {
                here.pop();
            } else {
                here = next;
            }
        }
        Err(StoreError::NotAFile {
            path: here,
            what: IS_A_FOLDER,
        })
    }

    fn open(&self) -> Result<Option<File>, StoreError> {
        let name = self.path.file_name().unwrap_or_default();
        // Without NONBLOCK, opening a named pipe would wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(unreadable(&self.path, error.into())),
        }
    }

    fn read(&self) -> Result<Option<(String, Stat)>, StoreError> {
        let Some(file) = self.open()? else {
            return Ok(None);
        };
        let failed = |error| unreadable(&self.path, error);
        let stat = fstat(&file).map_err(|error| failed(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let what = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                IS_A_FOLDER
            } else {
                "is no ordinary file; name one"
            };
            return Err(self.not_a_file(what));
        }
        check_owner(&self.path, &stat, false)?;
        let mut bytes = Vec::new();
        let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
        if read.map_err(failed)? as u64 > LARGEST {
            return Err(self.not_a_file("is larger than 1 MiB; that is no rules file"));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| self.not_a_file("is not UTF-8 text; that is no rules file"))?;
        Ok(Some((text, stat)))
    }

    fn not_a_file(&self, what: &'static str) -> StoreError {
        StoreError::NotAFile {
            path: self.path.clone(),
            what,
        }
    }
}

/// Reads a file that nobody else can have changed.
///
/// # Errors
///
/// Why not.
pub fn read(path: &Path) -> Result<String, StoreError> {
    let place = Place::of(path).map_err(|error| match error {
        StoreError::NoFolder { path, .. } => StoreError::Missing(path),
        error => error,
    });
    let text = place?.read()?;
    text.map(|(text, _)| text)
        .ok_or_else(|| StoreError::Missing(path.to_owned()))
}

/// Changes a file: `change` gets its text (nothing if there is none) and returns the new one. The
/// file is replaced as a whole, with the same owner and permissions, or stays as it was. Nobody
/// else who uses this function changes it meanwhile.
///
/// # Errors
///
/// Why not, or `change`'s.
pub fn update<E: From<StoreError>>(
    path: &Path,
    change: impl FnOnce(Option<&str>) -> Result<String, E>,
) -> Result<(), E> {
    let place = Place::of(path)?;
    let unwritable = |error: io::Error| StoreError::Write {
        path: place.path.clone(),
        error,
    };
    flock(&place.folder, FlockOperation::LockExclusive)
        .map_err(|error| unwritable(error.into()))?;
    let before = place.read()?;
    let text = change(before.as_ref().map(|(text, _)| &**text))?;
    replace(&place, &text, before.map(|(_, stat)| stat)).map_err(unwritable)?;
    Ok(())
}

fn replace(place: &Place, text: &str, before: Option<Stat>) -> io::Result<()> {
    let mut file = tempfile::Builder::new()
        .prefix(".rules-")
        .tempfile_in(folder_of(&place.path))?;
    file.write_all(text.as_bytes())?;
    let mode = before.map_or(0o644, |stat| stat.st_mode & 0o7777);
    if let Some(stat) = before.filter(|_| geteuid().is_root()) {
        let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        fchown(file.as_file(), Some(owner), Some(group))?;
    }
    fchmod(file.as_file(), Mode::from_raw_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(&place.path)?;
    // So that the new name is there after a power cut, too.
    rustix::fs::fsync(place.folder.as_fd())?;
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    }
}

fn unreadable(path: &Path, error: io::Error) -> StoreError {
    StoreError::Read {
        path: path.to_owned(),
        error,
    }
}

/// The parts of a path, the last first.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut parts: Vec<OsString> = parts.collect();
    parts.reverse();
    parts
}

/// Whether a file or folder can be changed by root and the caller only. In a folder with the
/// sticky bit, as `/tmp`, others can't take away a folder that is ours.
fn check_owner(path: &Path, stat: &Stat, folder: bool) -> Result<(), StoreError> {
    let refused = |what: String, remedy: String| {
        Err(StoreError::Unsafe {
            path: path.to_owned(),
            what,
            remedy: format!("{remedy} {}", path.display()),
        })
    };
    let me = geteuid();
    if stat.st_uid != 0 && stat.st_uid != me.as_raw() {
        let what = format!("belongs to the user {}", stat.st_uid);
        return refused(what, "chown root".to_owned());
    }
    let mode = Mode::from_raw_mode(stat.st_mode);
    let sticky = folder && mode.contains(Mode::SVTX);
    for (bit, who, letter) in [
        (Mode::WOTH, "everybody", 'o'),
        (Mode::WGRP, "its group", 'g'),
    ] {
        // A group of root's own has no other members that count.
        if mode.contains(bit) && !sticky {
            return refused(
                format!("may be written by {who}"),
                format!("chmod {letter}-w"),
            );
        }
    }
    Ok(())
}

/// Whether files and links in a folder are those of root and the caller. With the sticky bit,
/// others may put there what looks like ours: a hard link to any file of ours.
fn check_holds_no_files_of_others(path: &Path, stat: &Stat) -> Result<(), StoreError> {
    let mode = Mode::from_raw_mode(stat.st_mode);
    if mode.contains(Mode::SVTX) && mode.intersects(Mode::WOTH | Mode::WGRP) {
        return Err(StoreError::Shared(path.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
