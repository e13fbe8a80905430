//! What is mounted where.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::PathBuf,
};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Which part of it: `/` for all.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
}

/// The mounts of a type of file system, as this process sees them.
///
/// # Errors
///
/// `/proc` can't be read.
pub fn of_type(kind: &str) -> io::Result<Vec<Mount>> {
    let mounts = fs::read("/proc/self/mountinfo")?;
    let lines = mounts.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(|line| mount(line, kind)).collect())
}

/// Mounts a file system of a type where nobody sees it, for as long as the descriptor is held.
///
/// # Errors
///
/// The kernel's, `EPERM` without `CAP_SYS_ADMIN`.
pub fn detached(kind: &str) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let mount = fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?;
    Ok(mount)
}

/// A line of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`), if it is about this type. Names are
/// bytes; a name of another mount matters to nobody.
fn mount(line: &[u8], kind: &str) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = path(fields.nth(3)?);
    let point = path(fields.next()?);
    // Then options, and fields that are there or not, up to a hyphen.
    fields.find(|field| *field == b"-")?;
    (fields.next()? == kind.as_bytes()).then_some(Mount { root, point })
}

/// A path with its spaces, line ends and backslashes, which stand there as `\\040`.
fn path(mut field: &[u8]) -> PathBuf {
    let mut path = Vec::new();
    while let Some((first, rest)) = field.split_first() {
        let digits = rest.first_chunk::<3>().filter(|_| *first == b'\\');
        let byte = digits
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(byte.unwrap_or(*first));
        field = if byte.is_some() { &rest[3..] } else { rest };
    }
    OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    use super::*;

    #[test]
    fn names_of_mounts_are_bytes() {
        let line = b"36 35 0:30 / /mnt/caf\xe9\\040bar rw,nosuid shared:9 - cgroup2 none rw";
        let found = mount(line, "cgroup2").unwrap();
        assert_eq!(found.root, PathBuf::from("/"));
        assert_eq!(
            found.point.as_os_str(),
            OsStr::from_bytes(b"/mnt/caf\xe9 bar")
        );
        assert_eq!(mount(line, "tmpfs"), None);
        let without = b"36 35 0:30 /a /b\\134 rw - tmpfs tmpfs rw";
        assert_eq!(
            mount(without, "tmpfs").unwrap().point,
            PathBuf::from("/b\\")
        );
        assert_eq!(mount(b"36 35", "tmpfs"), None);
    }

    #[test]
    fn proc_is_mounted_here() {
        let found = of_type("proc").unwrap();
        assert!(found.iter().any(|mount| mount.point.as_os_str() == "/proc"));
    }
}
