//! The ids of cgroups, by which the kernel's programs know them: the inodes of their folders.

use std::{
    fs,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
    path::Path,
};

/// The id of a cgroup, by its path below the mount at `root`; nothing if it is gone.
pub fn id(root: &Path, path: &str) -> Option<u64> {
    let folder = root.join(path.strip_prefix('/').unwrap_or(path));
    fs::metadata(folder).ok().map(|folder| folder.ino())
}

/// The path below the mount at `root` of the cgroup that has this id; nothing if it is gone. All of them are gone
/// through, which on a machine with a thousand takes some milliseconds.
pub fn path(root: &Path, id: u64) -> Option<String> {
    if fs::metadata(root).ok()?.ino() == id {
        return Some("/".to_owned());
    }
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        // One may go away meanwhile.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = entry.path();
            if entry.ino() == id {
                let below = path.strip_prefix(root).ok()?;
                return Some(format!("/{}", below.to_str()?));
            }
            folders.push(path);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_found_by_its_id_and_back() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("user.slice/one");
        fs::create_dir_all(&inner).unwrap();
        fs::create_dir(root.path().join("system.slice")).unwrap();
        for name in ["/", "/user.slice", "/user.slice/one", "/system.slice"] {
            let known = id(root.path(), name).unwrap();
            assert_eq!(path(root.path(), known).as_deref(), Some(name));
        }
        assert_eq!(id(root.path(), "/gone"), None);
        assert_eq!(path(root.path(), u64::MAX), None);
    }
}
