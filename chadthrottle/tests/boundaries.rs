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
    // Where each process that becomes known meets the rules.
    ("engine/admission.rs", &["self.owners.insert("]),
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

/// The only parts of the program that the sources below a folder may use.
const USES_ONLY: &[(&str, &[&str])] = &[
    ("model", &["model", "rate"]),
    ("policy", &["model", "policy", "rate"]),
    ("priority", &["model", "priority", "rate"]),
];

/// What must not stand below a folder or in a file.
const NEVER_IN: &[(&str, &[&str])] = &[
    ("policy", &["std::fs", "std::io", "std::env", "::now()"]),
    ("priority", &["std::fs", "std::io", "std::env", "::now()"]),
    ("model", &["std::fs", "std::io", "std::env", "::now()"]),
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

/// The parts of the program that a source names: what follows `crate::`, alone or in braces.
fn parts_named(text: &str) -> Vec<&str> {
    let word = |text: &'_ str| text.find(|c: char| c != '_' && !c.is_alphanumeric());
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.push(&rest[..word(rest).unwrap_or(rest.len())]);
            continue;
        };
        let mut depth = 0;
        let mut begins = true;
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if begins && !c.is_whitespace() => {
                    let item = &list[at..];
                    found.push(&item[..word(item).unwrap_or(item.len())]);
                    begins = false;
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn what_a_source_uses_is_found() {
    let text = "use crate::rate::Rate;\nuse crate::{\n    kernel::{Cell, a::b},\n    tui,\n};\n\
                fn x(key: crate::process::Key) {}";
    assert_eq!(parts_named(text), ["rate", "kernel", "tui", "process"]);
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
        for (home, parts) in USES_ONLY.iter().filter(|(home, _)| place.starts_with(home)) {
            for part in parts_named(&text) {
                assert!(
                    parts.contains(&part),
                    "{home} uses {part}: {}",
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
