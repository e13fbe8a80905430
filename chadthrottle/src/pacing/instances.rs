//! Other running instances, which may share a device's fq with this one.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::{FlockOperation, OFlags, flock};

/// Every running instance holds a shared lock on this file; it is root's.
const LOCK: &str = "/run/chadthrottle.lock";

/// This instance's share of the lock; the kernel gives it back however the process ends.
pub struct Instances {
    lock: File,
}

impl Instances {
    /// Takes a share of the lock.
    ///
    /// # Errors
    ///
    /// The file can't be made or opened.
    pub fn join() -> io::Result<Self> {
        Self::join_at(Path::new(LOCK))
    }

    fn join_at(path: &Path) -> io::Result<Self> {
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?;
        flock(&lock, FlockOperation::LockShared)?;
        Ok(Self { lock })
    }

    /// Runs `work` if no other instance runs, and keeps others from starting meanwhile. Returns
    /// whether it ran.
    pub fn if_alone(&self, work: impl FnOnce()) -> bool {
        if flock(&self.lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            // A failed upgrade may have given the share back.
            let _ = flock(&self.lock, FlockOperation::LockShared);
            return false;
        }
        work();
        // Downgrading needs nobody's consent.
        let _ = flock(&self.lock, FlockOperation::LockShared);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_for_one_alone_is_not_done_beside_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = Instances::join_at(&path).unwrap();
        let mut done = 0;
        assert!(first.if_alone(|| done += 1));
        let second = Instances::join_at(&path).unwrap();
        assert!(!first.if_alone(|| done += 1));
        assert!(!second.if_alone(|| done += 1));
        drop(first);
        assert!(second.if_alone(|| done += 1));
        assert_eq!(done, 2);
    }
}
