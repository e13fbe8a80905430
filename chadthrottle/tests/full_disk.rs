//! A disk that is full while something is saved: what was there stays, and the error helps.
//!
//! The disk is a small one in memory, in a mount namespace of the test's own; that takes root.

// clippy.toml allows this in tests, and does not see that the functions tests share are tests.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::Path,
    process::Command,
    sync::Arc,
    thread,
};

use chadthrottle::{
    model::direction::PerDirection,
    rules::{
        file::store::{self, StoreError},
        ledger::Ledger,
        quota::Period,
    },
    tui::preferences::{self, Preferences},
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Runs a test in an empty folder on a small disk of its own.
fn on_a_small_disk(test: impl FnOnce(&Path) + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: mounting needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let in_own_mounts = move || {
        // SAFETY: no other thread counts on this one's mounts or working directory.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
        mount(&["--make-rprivate", "/"]);
        let folder = path.to_str().unwrap();
        mount(&["-t", "tmpfs", "-o", "size=64k,mode=755", "small", folder]);
        test(&path);
    };
    thread::spawn(in_own_mounts).join().unwrap();
}

fn mount(arguments: &[&str]) {
    let status = Command::new("mount").args(arguments).status().unwrap();
    assert!(status.success(), "mount {arguments:?}");
}

/// Takes all the room that is left.
fn fill(folder: &Path) {
    let mut filler = File::create(folder.join("filler")).unwrap();
    loop {
        match filler.write(&[0; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return,
            Err(error) => panic!("{error}"),
        }
    }
}

fn make_room(folder: &Path) {
    fs::remove_file(folder.join("filler")).unwrap();
}

/// Besides the filler.
fn files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count() - 1
}

const RULES: &str = "[[rule]]\nname = \"a\"\nprogram = \"curl\"\nblock = true\n";

#[test]
fn the_rules_stay_as_they_were() {
    on_a_small_disk(|folder| {
        let path = folder.join("rules.toml");
        let write = |text: &str| store::update(&path, |_| Ok::<_, StoreError>(text.to_owned()));
        write(RULES).unwrap();
        fill(folder);
        let error = write("new").unwrap_err().to_string();
        assert!(
            error.contains("is as it was: No space left") && error.ends_with("; make room there"),
            "{error}"
        );
        assert_eq!(
            (store::read(&path).unwrap(), files(folder)),
            (RULES.to_owned(), 1)
        );

        // As a person meets it.
        let add = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_chadthrottle"));
            command.args([
                "rules", "add", "b", "--user", "root", "--upload", "1M", "--config",
            ]);
            command.arg(&path).output().unwrap()
        };
        let output = add();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(error.contains("make room there"), "{error}");
        assert_eq!(
            (store::read(&path).unwrap(), files(folder)),
            (RULES.to_owned(), 1)
        );
        make_room(folder);
        assert!(add().status.success());
        assert!(store::read(&path).unwrap().contains("name = \"b\""));
    });
}

#[test]
fn what_quotas_have_counted_stays() {
    on_a_small_disk(|folder| {
        let path = folder.join("quotas.json");
        let mut ledger = Ledger::default();
        let mut count = |name: String| {
            let moved = PerDirection {
                download: 1,
                upload: 0,
            };
            ledger.add(
                &Arc::from(name),
                Period::Day,
                "2026-11-23".parse().unwrap(),
                moved,
            );
            ledger.clone()
        };
        let before = count("a".to_owned());
        before.write(&path).unwrap();
        fill(folder);
        let after = count("b".to_owned());
        let error = after.write(&path).unwrap_err().to_string();
        assert!(error.contains("make room there"), "{error}");
        assert_eq!((Ledger::read(&path).unwrap(), files(folder)), (before, 1));
        make_room(folder);
        after.write(&path).unwrap();
        assert_eq!(Ledger::read(&path).unwrap(), after);
    });
}

#[test]
fn preferences_stay() {
    on_a_small_disk(|folder| {
        let path = folder.join("interface.toml");
        let before = Preferences {
            mouse: false,
            ..Preferences::default()
        };
        preferences::write(&path, &before).unwrap();
        fill(folder);
        let error = preferences::write(&path, &Preferences::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert_eq!((preferences::read(&path), files(folder)), (before, 1));
        make_room(folder);
        preferences::write(&path, &Preferences::default()).unwrap();
        assert_eq!(preferences::read(&path), Preferences::default());
    });
}
