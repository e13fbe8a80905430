//! Which part of the program may do what: the invariants of ARCHITECTURE.md that a glance at the
//! sources can check.

// clippy.toml allows this in tests, and does not see that the functions tests share are tests.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What may stand only in the sources below a folder or in a file.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("kernel", &["aya::", "aya_log::"]),
    (
        "tui/terminal.rs",
        &[
            "able_raw_mode",
            "AlternateScreen",
            "BracketedPaste",
            "?1000",
        ],
    ),
];

/// What must not stand below a folder or in a file.
const NEVER_IN: &[(&str, &[&str])] = &[
    (
        "tui/view",
        &[
            "std::fs",
            "std::io",
            "std::env",
            "::now()",
            "&mut State",
            "spawn(",
        ],
    ),
    (
        "tui/update.rs",
        &["std::fs", "std::io", "std::env", "::now()", "spawn("],
    ),
    (
        "tui/update",
        &["std::fs", "std::io", "std::env", "::now()", "spawn("],
    ),
    (
        "tui/state.rs",
        &["std::fs", "std::io", "std::env", "::now()", "spawn("],
    ),
    ("tui", &["spawn("]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_parts_keep_to_their_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 20, "the sources are in {}", root.display());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let place = file.strip_prefix(&root).unwrap();
        for (home, words) in ONLY_IN {
            for word in words.iter().filter(|_| !place.starts_with(home)) {
                assert!(
                    !text.contains(word),
                    "{word} outside of {home}: {}",
                    place.display()
                );
            }
        }
        for (home, words) in NEVER_IN {
            for word in words.iter().filter(|_| place.starts_with(home)) {
                assert!(!text.contains(word), "{word} in {}", place.display());
            }
        }
    }
}
