//! What may be embedded, case by case. Here because a build script can't be tested.

use std::{fs, path::Path};

use tempfile::TempDir;

use crate::fingerprint::{
    OBJECT_FILE, Object, Origin, RECORD_FILE, Record, SOURCES, Unusable, choose, of_bytes,
    of_sources, read,
};

/// A tree with every source; directories hold a file and a directory with a file.
fn tree() -> TempDir {
    let tree = tempfile::tempdir().unwrap();
    for source in SOURCES {
        let path = tree.path().join(source);
        match path.extension() {
            Some(_) => put(&path, "one"),
            None => {
                put(&path.join("lib.rs"), "one");
                put(&path.join("deep/er.rs"), "one");
            }
        }
    }
    tree
}

fn put(path: &Path, contents: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

#[test]
fn every_change_of_a_source_changes_the_fingerprint() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 9] = [
        ("ebpf manifest", |root| {
            put(&root.join("chadthrottle-ebpf/Cargo.toml"), "two")
        }),
        ("ebpf lock", |root| {
            put(&root.join("chadthrottle-ebpf/Cargo.lock"), "two")
        }),
        ("ebpf source", |root| {
            put(&root.join("chadthrottle-ebpf/src/lib.rs"), "two")
        }),
        ("deep source", |root| {
            put(&root.join("chadthrottle-ebpf/src/deep/er.rs"), "two")
        }),
        ("common manifest", |root| {
            put(&root.join("chadthrottle-common/Cargo.toml"), "two")
        }),
        ("common source", |root| {
            put(&root.join("chadthrottle-common/src/lib.rs"), "two")
        }),
        ("new source", |root| {
            put(&root.join("chadthrottle-common/src/new.rs"), "")
        }),
        ("removed source", |root| {
            fs::remove_file(root.join("chadthrottle-ebpf/src/lib.rs")).unwrap();
        }),
        ("moved source", |root| {
            let dir = root.join("chadthrottle-ebpf/src");
            fs::rename(dir.join("lib.rs"), dir.join("main.rs")).unwrap();
        }),
    ];
    let original = of_sources(tree().path()).unwrap();
    for (name, change) in changes {
        let tree = tree();
        assert_eq!(of_sources(tree.path()).unwrap(), original, "{name}");
        change(tree.path());
        assert_ne!(of_sources(tree.path()).unwrap(), original, "{name}");
    }
}

#[test]
fn what_is_not_a_source_changes_nothing() {
    let tree = tree();
    let original = of_sources(tree.path()).unwrap();
    for other in [
        "Cargo.lock",
        "Cargo.toml",
        "chadthrottle/src/main.rs",
        "chadthrottle-ebpf/target/x",
        "chadthrottle-ebpf/src/.lib.rs.swp",
        "chadthrottle-ebpf/src/lib.rs~",
    ] {
        put(&tree.path().join(other), "");
        assert_eq!(of_sources(tree.path()).unwrap(), original, "{other}");
    }
}

#[test]
fn a_missing_source_is_an_error_that_names_it() {
    let tree = tree();
    fs::remove_file(tree.path().join("chadthrottle-ebpf/Cargo.lock")).unwrap();
    let error = format!("{:#}", of_sources(tree.path()).unwrap_err());
    assert!(error.contains("chadthrottle-ebpf/Cargo.lock"), "{error}");
}

fn record() -> Record {
    Record {
        sources: "abc".to_owned(),
        object: of_bytes(b"object"),
        built_with: "rustc 1 = new".to_owned(),
    }
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let text = record().to_string();
    assert_eq!(Record::parse(&text).unwrap(), record());
    for broken in [
        "",
        "sources=abc",
        "<<<<<<< ours",
        &text.replace("object=", "objekt="),
    ] {
        assert!(Record::parse(broken).is_err(), "{broken}");
    }
}

#[test]
fn an_object_is_accepted_only_with_its_own_record_of_these_sources() {
    let good = record().to_string();
    let stale = good.replace("abc", "other");
    for (object, record, expected) in [
        (Some("object"), Some(good.as_str()), Ok(())),
        (None, None, Err("is not there")),
        (
            Some("object"),
            Some(&stale),
            Err("was built from other sources"),
        ),
        (Some("swapped"), Some(&good), Err("is damaged")),
        // Which sources a damaged object claims does not matter.
        (Some("swapped"), Some(&stale), Err("is damaged")),
        (Some("object"), Some("junk"), Err("is damaged")),
        (Some("object"), None, Err("is damaged")),
        (None, Some(&good), Err("is damaged")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for (name, contents) in [(OBJECT_FILE, object), (RECORD_FILE, record)] {
            if let Some(contents) = contents {
                put(&dir.path().join(name), contents);
            }
        }
        match (read(dir.path(), "abc"), expected) {
            (Ok(object), Ok(())) => assert_eq!(object.bytes, b"object"),
            (Err(why), Err(expected)) => assert!(
                why.to_string().starts_with(expected),
                "{object:?} {record:?}: {why}"
            ),
            (got, _) => panic!("{object:?} {record:?}: {got:?}"),
        }
    }
}

#[test]
fn a_fresh_object_goes_before_the_committed_one_and_neither_is_an_error() {
    let object = |bytes: &[u8]| Object {
        bytes: bytes.to_owned(),
        record: record(),
    };
    let (fresh, committed) = (object(b"fresh"), object(b"committed"));
    for (name, of_fresh, of_committed, expected) in [
        ("both", Ok(&fresh), Ok(&committed), Some(Origin::Fresh)),
        (
            "fresh",
            Ok(&fresh),
            Err(Unusable::Stale),
            Some(Origin::Fresh),
        ),
        (
            "committed",
            Err(Unusable::Absent),
            Ok(&committed),
            Some(Origin::Committed),
        ),
        (
            "stale",
            Err(Unusable::Stale),
            Ok(&committed),
            Some(Origin::Committed),
        ),
        ("neither", Err(Unusable::Absent), Err(Unusable::Stale), None),
    ] {
        match (choose(of_fresh.cloned(), of_committed.cloned()), expected) {
            (Ok((origin, object)), Some(expected)) => {
                assert_eq!(origin, expected, "{name}");
                assert_eq!(object.bytes, origin.to_string().as_bytes(), "{name}");
            }
            (Err(message), None) => {
                for part in ["cargo xtask build-release", "other sources", "is not there"] {
                    assert!(message.contains(part), "{name}: {message}");
                }
                assert!(!message.contains('\n'), "one line: {message}");
            }
            (got, _) => panic!("{name}: {got:?}"),
        }
    }
}
