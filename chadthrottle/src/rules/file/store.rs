//! The file itself: opened only where nobody else can have changed it, and written whole or not at
//! all.
//!
//! What it says is done as root, so it is treated as `sudo` treats its own: it, and every folder
//! above it, must be root's or the caller's, and writable by nobody else.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        FileType, FlockOperation, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, flock, fstat,
        openat,
    },
    process::geteuid,
};

/// The largest file; what is larger is not a rules file.
pub const LARGEST: u64 = 1 << 20;

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
    /// No file of rules.
    #[error("{} {what}", .path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It can't be read.
    #[error("{} can't be read: {error}", .path.display())]
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
        io::ErrorKind::PermissionDenied => "; are you root?",
        _ => "",
    }
}

/// A folder that nobody else can change, and a name in it.
struct Place {
    folder: OwnedFd,
    path: PathBuf,
}

impl Place {
    /// Where a path leads, links followed.
    fn of(path: &Path) -> Result<Self, StoreError> {
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = folder_of(path).canonicalize();
                let name = path.file_name().unwrap_or_default();
                folder
                    .map_err(|_| StoreError::Missing(path.to_owned()))?
                    .join(name)
            }
            Err(error) => return Err(unreadable(path, error)),
        };
        let parent = folder_of(&real);
        let folder = rustix::fs::open(
            parent,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
        )
        .map_err(|error| unreadable(parent, error.into()))?;
        check_folders(&folder, parent)?;
        Ok(Self { folder, path: real })
    }

    fn open(&self) -> Result<Option<File>, StoreError> {
        let name = self.path.file_name().unwrap_or_default();
        // Without NONBLOCK, opening a named pipe would wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(rustix::io::Errno::NOENT) => Ok(None),
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
            return Err(self.not_a_file("is no ordinary file"));
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
    let text = Place::of(path)?.read()?;
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

/// Sees to it that nobody else can put another file in a folder's place, nor in that of any above.
fn check_folders(folder: &OwnedFd, path: &Path) -> Result<(), StoreError> {
    let mut path = path;
    let mut stat = fstat(folder).map_err(|error| unreadable(path, error.into()))?;
    let mut above = None;
    loop {
        check_owner(path, &stat, true)?;
        let failed = |error: rustix::io::Errno| unreadable(path, error.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let here = above.as_ref().unwrap_or(folder);
        let parent = openat(here, "..", flags, Mode::empty()).map_err(failed)?;
        let parent_stat = fstat(&parent).map_err(failed)?;
        if (parent_stat.st_dev, parent_stat.st_ino) == (stat.st_dev, stat.st_ino) {
            return Ok(());
        }
        path = folder_of(path);
        stat = parent_stat;
        above = Some(parent);
    }
}

/// Whether a file or folder can be changed by root and the caller only. In a folder with the
/// sticky bit, as `/tmp`, others can't take away what is ours.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    };

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_may_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.toml");
        for (mode, refused) in [
            (0o644, None),
            (0o600, None),
            (0o664, Some("may be written by its group")),
            (0o646, Some("may be written by everybody")),
        ] {
            write(&path, "", mode);
            match (read(&path), refused) {
                (Ok(_), None) => {}
                (Err(error), Some(why)) => {
                    let error = error.to_string();
                    assert!(error.contains(why) && error.contains("chmod"), "{error}");
                }
                (result, _) => panic!("{mode:o}: {result:?}"),
            }
        }
        write(&path, "", 0o644);
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("may be written by everybody"), "{error}");
        // Nor in a folder below.
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        write(&inner.join("rules.toml"), "", 0o644);
        assert!(read(&inner.join("rules.toml")).is_err());
        fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
        read(&inner.join("rules.toml")).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn another_users_file_is_refused() {
        if !geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.toml");
        write(&path, "", 0o644);
        std::os::unix::fs::chown(&path, Some(4242), None).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("belongs to the user 4242"), "{error}");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(matches!(read(&at("none")), Err(StoreError::Missing(_))));
        assert!(matches!(
            read(&at("none/none")),
            Err(StoreError::Missing(_))
        ));
        assert!(matches!(
            read(folder.path()),
            Err(StoreError::NotAFile { .. })
        ));
        write(&at("binary"), "", 0o644);
        fs::write(at("binary"), [0xff, 0xfe]).unwrap();
        assert!(matches!(
            read(&at("binary")),
            Err(StoreError::NotAFile { .. })
        ));
        let large = "#".repeat(usize::try_from(LARGEST).unwrap() + 1);
        write(&at("large"), &large, 0o644);
        assert!(matches!(
            read(&at("large")),
            Err(StoreError::NotAFile { .. })
        ));
        let pipe = at("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::from_raw_mode(0o644)).unwrap();
        assert!(matches!(read(&pipe), Err(StoreError::NotAFile { .. })));
    }

    #[test]
    fn a_change_keeps_owner_and_permissions_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.toml");
        let change = |path: &Path, to: &str| {
            update(path, |_| Ok::<_, StoreError>(to.to_owned())).unwrap();
        };
        change(&path, "new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        write(&path, "old", 0o600);
        change(&path, "newer");
        let after = fs::metadata(&path).unwrap();
        assert_eq!(after.mode() & 0o777, 0o600);
        // A link stays one.
        let link = folder.path().join("link.toml");
        symlink(&path, &link).unwrap();
        update(&link, |text| {
            assert_eq!(text, Some("newer"));
            Ok::<_, StoreError>("newest".to_owned())
        })
        .unwrap();
        assert!(link.is_symlink());
        assert_eq!(read(&path).unwrap(), "newest");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_change_that_fails_leaves_the_file_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.toml");
        write(&path, "old", 0o644);
        let failed = update(&path, |_| Err(StoreError::Missing(PathBuf::new())));
        assert!(failed.is_err());
        assert_eq!(read(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
