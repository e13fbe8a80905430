//! Where the daemon is found: a folder of root's with a lock and a socket.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
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
    /// Another daemon has it, or somebody else owns the folder.
    pub fn take(socket: &Path) -> anyhow::Result<Self> {
        let folder = socket
            .parent()
            .filter(|folder| folder.is_absolute())
            .context("the socket's path is not absolute")?;
        make_folder(folder)?;
        let found = fs::symlink_metadata(folder)?;
        let me = geteuid().as_raw();
        ensure!(
            found.is_dir() && found.uid() == me,
            "{} is not a folder of the daemon's own; remove it",
            folder.display()
        );
        if found.mode() & 0o077 != 0 {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        }
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
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        lock.read_to_string(&mut pid)?;
        bail!(
            "a daemon is running already (process {}); `chadthrottle status` shows it, and \
             `chadthrottle rules apply` tells it about changed rules",
            pid.trim()
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
    fn a_folder_that_others_can_enter_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        fs::create_dir(&run).unwrap();
        fs::set_permissions(&run, fs::Permissions::from_mode(0o777)).unwrap();
        let _place = Place::take(&run.join("control.sock")).unwrap();
        assert_eq!(fs::metadata(&run).unwrap().mode() & 0o777, 0o700);
        let linked = folder.path().join("linked");
        std::os::unix::fs::symlink(&run, &linked).unwrap();
        assert!(Place::take(&linked.join("control.sock")).is_err());
    }
}
