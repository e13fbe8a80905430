//! The ids of cgroups, by which the kernel's programs know them: the inodes of their folders.

use std::{
    collections::HashSet,
    fs, iter,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
    path::{Path, PathBuf},
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
    let (_, path) = below(root).find(|(there, _)| *there == id)?;
    let below = path.strip_prefix(root).ok()?;
    Some(format!("/{}", below.to_str()?))
}

/// The ids of all cgroups below the mount at `root`, and its own; nothing if it can't be read. It takes as long as
/// [`path`].
pub fn ids(root: &Path) -> Option<HashSet<u64>> {
    fs::read_dir(root).ok()?;
    let own = fs::metadata(root).ok()?.ino();
    let below = below(root).map(|(id, _)| id);
    Some(iter::once(own).chain(below).collect())
}

/// The cgroups below one, by their ids. One may go away meanwhile.
fn below(root: &Path) -> impl Iterator<Item = (u64, PathBuf)> {
    let mut unread = vec![root.to_owned()];
    iter::from_fn(move || {
        let folder = unread.pop()?;
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let inner = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let inner: Vec<(u64, PathBuf)> = inner.map(|entry| (entry.ino(), entry.path())).collect();
        unread.extend(inner.iter().map(|(_, path)| path.clone()));
        Some(inner)
    })
    .flatten()
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
            assert!(ids(root.path()).unwrap().contains(&known));
        }
        assert_eq!(ids(root.path()).unwrap().len(), 4);
        assert_eq!(ids(&inner.join("gone")), None);
        assert_eq!(id(root.path(), "/gone"), None);
        assert_eq!(path(root.path(), u64::MAX), None);
    }
}
