//! Files that are trusted, and those that are not.

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
fn files_and_links_in_a_shared_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (shared, own) = (folder.path().join("shared"), folder.path().join("own"));
    fs::create_dir(&shared).unwrap();
    fs::create_dir(&own).unwrap();
    write(&own.join("rules.toml"), "", 0o644);
    write(&shared.join("rules.toml"), "", 0o644);
    symlink(own.join("rules.toml"), shared.join("link")).unwrap();
    symlink(&own, shared.join("folder")).unwrap();
    let paths = ["rules.toml", "link", "folder/rules.toml"].map(|path| shared.join(path));
    paths.iter().for_each(|path| drop(read(path).unwrap()));
    fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
    for path in paths {
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("others may put files in"), "{error}");
    }
}

#[test]
fn links_lead_where_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("a/b")).unwrap();
    write(&at("a/rules.toml"), "here", 0o644);
    symlink("../rules.toml", at("a/b/link")).unwrap();
    symlink(at("a/b"), at("folder")).unwrap();
    symlink("folder/./link", at("far")).unwrap();
    for path in ["a/b/link", "folder/link", "far", "folder/../rules.toml"] {
        assert_eq!(read(&at(path)).unwrap(), "here", "{path}");
    }
    symlink("loop", at("loop")).unwrap();
    symlink("none", at("dangling")).unwrap();
    for (path, expected) in [
        ("loop", "is a link that leads to itself"),
        ("dangling", "/none, which is not there; make that file"),
        ("a", "is a folder; name a file in it"),
        ("a/b/..", "is a folder; name a file in it"),
        ("a/rules.toml/x", "a/rules.toml is no folder"),
    ] {
        let change = update(&at(path), |_| Ok::<_, StoreError>(String::new()));
        for error in [read(&at(path)).unwrap_err(), change.unwrap_err()] {
            let error = error.to_string();
            assert!(error.contains(expected), "{path}: {error}");
        }
    }
    let change = update(&at("no/g.toml"), |_| Ok::<_, StoreError>(String::new()));
    let error = change.unwrap_err().to_string();
    assert!(error.contains("/no; make it first"), "{error}");
}

#[test]
fn a_link_in_another_users_folder_is_refused() {
    if !geteuid().is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (theirs, path) = (
        folder.path().join("theirs"),
        folder.path().join("rules.toml"),
    );
    fs::create_dir(&theirs).unwrap();
    write(&path, "", 0o644);
    symlink(&path, theirs.join("link")).unwrap();
    symlink(theirs.join("link"), folder.path().join("mine")).unwrap();
    read(&folder.path().join("mine")).unwrap();
    std::os::unix::fs::chown(&theirs, Some(4242), None).unwrap();
    for path in [theirs.join("link"), folder.path().join("mine")] {
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("theirs belongs to the user 4242"), "{error}");
    }
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
    fs::create_dir(at("folder")).unwrap();
    assert!(matches!(
        read(&at("folder")),
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
