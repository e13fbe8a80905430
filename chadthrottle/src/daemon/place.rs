//! Where the daemon is found: a folder of root's with a lock and a socket.

use std::{
    env,
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use rustix::{
    fs::{FlockOperation, OFlags, flock},
    process::geteuid,
};
use tokio::net::UnixListener;

/// The socket unless another is named.
pub const DEFAULT: &str = "/run/chadthrottle/control.sock";

/// The variable that names another.
pub const VARIABLE: &str = "CHADTHROTTLE_SOCKET";

/// Where what must outlive the daemon is, unless systemd or a person says otherwise.
const STATE: &str = "/var/lib/chadthrottle";

/// The socket's path.
pub fn socket() -> PathBuf {
    env::var_os(VARIABLE).map_or_else(|| PathBuf::from(DEFAULT), PathBuf::from)
}

/// The folder for what must outlive the daemon; it is made if it is not there.
///
/// # Errors
///
/// It can't be made.
pub fn state() -> anyhow::Result<PathBuf> {
    let path = state_folder();
    make_folder(&path)?;
    Ok(path)
}

/// The same folder, which may not be there.
pub fn state_folder() -> PathBuf {
    // systemd sets it when the unit has StateDirectory=.
    env::var_os("STATE_DIRECTORY").map_or_else(|| PathBuf::from(STATE), PathBuf::from)
}

fn make_folder(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("{} can't be made", path.display()))
}

/// The one daemon's place. Dropping it takes the socket away.
pub struct Place {
    socket: PathBuf,
    // Given back by the kernel however the process ends.
    _lock: File,
}

impl Place {
    /// Takes the place at a socket's path.
    ///
    /// # Errors
    ///
    /// Another daemon has it, or others may enter the folder.
    pub fn take(socket: &Path) -> anyhow::Result<Self> {
        let folder = socket
            .parent()
            .filter(|folder| folder.is_absolute())
            .context("the socket's path is not absolute")?;
        own_folder(folder)?;
        let lock = take_lock(&socket.with_extension("lock"))?;
        // Only the holder of the lock comes here: what is there is left from a killed one.
        match fs::remove_file(socket) {
            Ok(()) => log::info!("took away the socket of a daemon that was killed"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context(socket.display().to_string()),
        }
        Ok(Self {
            socket: socket.to_owned(),
            _lock: lock,
        })
    }

    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// The socket can't be made.
    pub fn listen(&self) -> anyhow::Result<UnixListener> {
        let listener = UnixListener::bind(&self.socket)
            .with_context(|| format!("no socket {}", self.socket.display()))?;
        fs::set_permissions(&self.socket, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_file(&self.socket);
    }
}

/// Makes the socket's folder, or sees to it that the one that is there is the daemon's alone: left
/// by the last one, or made by systemd. It is not made so, as it may be one that others need.
fn own_folder(folder: &Path) -> anyhow::Result<()> {
    // Not followed: where a link leads is decided by whoever may change it.
    match fs::symlink_metadata(folder) {
        Ok(found) => check_own(folder, &found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_folder(folder)?;
            // Somebody may have been faster.
            check_own(folder, &fs::symlink_metadata(folder)?)
        }
        Err(error) => Err(error).with_context(|| folder.display().to_string()),
    }
}

fn check_own(folder: &Path, found: &Metadata) -> anyhow::Result<()> {
    let path = folder.display();
    let what = if !found.is_dir() {
        "is no folder"
    } else if found.uid() != geteuid().as_raw() {
        "belongs to another user"
    } else if found.mode() & 0o077 != 0 {
        "is open to others"
    } else {
        return Ok(());
    };
    if Path::new(DEFAULT).parent() == Some(folder) {
        bail!("{path} {what}; remove it: the daemon makes it anew, for itself alone");
    }
    bail!(
        "{path} {what}, and the daemon's socket is in a folder of its own; leave {VARIABLE} out, or \
         let it name one in a folder of root's that does not exist yet, and it is made"
    )
}

/// The process of the daemon that has the place at a socket's path, if one has.
///
/// # Errors
///
/// The lock can't be read.
pub fn holder(socket: &Path) -> io::Result<Option<String>> {
    let mut lock = match File::open(socket.with_extension("lock")) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Shared: a daemon that starts right now can tell it from another daemon's.
    match flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(rustix::io::Errno::WOULDBLOCK) => written_pid(&mut lock).map(Some),
        Err(error) => Err(error.into()),
    }
}

/// What the holder wrote into its lock: its process.
fn written_pid(lock: &mut File) -> io::Result<String> {
    let mut pid = String::new();
    lock.read_to_string(&mut pid)?;
    Ok(pid.trim().to_owned())
}

/// Whether a daemon has the lock, and not one that only looks, for a moment.
fn is_taken(lock: &File) -> bool {
    while flock(lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if flock(lock, FlockOperation::NonBlockingLockShared).is_err() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

fn take_lock(path: &Path) -> anyhow::Result<File> {
    let open = || -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
    };
    let mut lock = open().with_context(|| path.display().to_string())?;
    if is_taken(&lock) {
        bail!(
            "a daemon is running already (process {}); `chadthrottle status` shows it, and \
             `chadthrottle rules apply` tells it about changed rules",
            written_pid(&mut lock)?
        );
    }
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[tokio::test]
    async fn there_is_one_daemon_and_a_killed_one_leaves_room_for_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run/control.sock");
        let first = Place::take(&socket).unwrap();
        let listener = first.listen().unwrap();
        assert!(UnixStream::connect(&socket).is_ok());
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&socket), 0o600);
        assert_eq!(mode(socket.parent().unwrap()), 0o700);
        let error = Place::take(&socket).err().unwrap().to_string();
        let pid = std::process::id();
        assert!(error.contains(&format!("(process {pid})")), "{error}");
        assert!(UnixStream::connect(&socket).is_ok());
        // As after kill -9: the lock is given back, the socket stays.
        drop(listener);
        drop(first);
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let second = Place::take(&socket).unwrap();
        second.listen().unwrap();
        drop(second);
        assert!(!socket.exists());
    }

    #[test]
    fn a_folder_of_others_is_left_to_them() {
        let outer = tempfile::tempdir().unwrap();
        let shared = outer.path().join("shared");
        let socket = shared.join("control.sock");
        fs::create_dir(&shared).unwrap();
        for mode in [0o1777, 0o755, 0o750, 0o711] {
            fs::set_permissions(&shared, fs::Permissions::from_mode(mode)).unwrap();
            let error = Place::take(&socket).err().unwrap().to_string();
            assert!(
                error.contains("is open to others") && error.contains("does not exist yet"),
                "{error}"
            );
            assert_eq!(fs::metadata(&shared).unwrap().mode() & 0o7777, mode);
            assert_eq!(fs::read_dir(&shared).unwrap().count(), 0);
        }
        // In it, one of its own can be made.
        let _place = Place::take(&shared.join("own/control.sock")).unwrap();
        let linked = outer.path().join("linked");
        std::os::unix::fs::symlink(shared.join("own"), &linked).unwrap();
        let error = Place::take(&linked.join("control.sock")).err().unwrap();
        assert!(error.to_string().contains("is no folder"), "{error}");
        // As the last daemon, or systemd, left it.
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o700)).unwrap();
        drop(Place::take(&socket).unwrap());
        drop(Place::take(&socket).unwrap());
    }

    #[test]
    fn another_users_folder_is_refused() {
        if !geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(folder.path(), Some(4242), None).unwrap();
        let socket = folder.path().join("control.sock");
        let error = Place::take(&socket).err().unwrap().to_string();
        assert!(error.contains("belongs to another user"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn who_looks_whether_there_is_a_daemon_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run/control.sock");
        assert_eq!(holder(&socket).unwrap(), None);
        let place = Place::take(&socket).unwrap();
        let pid = std::process::id().to_string();
        assert_eq!(holder(&socket).unwrap(), Some(pid));
        drop(place);
        assert_eq!(holder(&socket).unwrap(), None);
        // One that looks while a daemon starts.
        let look = File::open(socket.with_extension("lock")).unwrap();
        flock(&look, FlockOperation::NonBlockingLockShared).unwrap();
        let start = std::thread::spawn(move || Place::take(&socket).map(drop));
        flock(&look, FlockOperation::Unlock).unwrap();
        start.join().unwrap().unwrap();
    }
}
