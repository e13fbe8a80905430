//! Changes a source of the eBPF object and sees plain `cargo build` refuse, and
//! `cargo xtask build-release` put it right.
//!
//! The real build script, fingerprint, xtask and eBPF sources, in a copy of the workspace. Only
//! the program around the object is a small one, or its dependencies would be built once more.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output},
};

#[path = "../../chadthrottle/bpf/fingerprint.rs"]
#[allow(
    dead_code,
    reason = "only the parts that describe an object are needed here"
)]
mod fingerprint;

use fingerprint::{COMMITTED_DIR, OBJECT_FILE, RECORD_FILE, Record};

const WORKSPACE: &str = r#"
[workspace]
resolver = "3"
members = ["chadthrottle", "chadthrottle-common"]
exclude = ["chadthrottle-ebpf"]

[workspace.lints]
"#;

const MANIFEST: &str = r#"
[package]
name = "chadthrottle"
version = "0.1.0"
edition = "2024"
build = "build.rs"

[build-dependencies]
anyhow = "1"
sha2 = "0.10"
"#;

const PROGRAM: &str = r#"
fn main() {
    let object = include_bytes!(concat!(env!("OUT_DIR"), "/chadthrottle.o"));
    println!("{} {}", std::hint::black_box(object).len(), env!("CHADTHROTTLE_OBJECT_ORIGIN"));
}
"#;

/// A copy of the workspace, built in a directory of its own that stays for the next time.
struct Copy {
    root: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn new() -> Self {
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stale-object");
        let copy = Self {
            root: place.join("workspace"),
            target: place.join("target"),
        };
        let _ = fs::remove_dir_all(&copy.root);
        let _ = fs::remove_dir_all(copy.target.join("bpf-fresh"));
        for source in fingerprint::SOURCES.into_iter().chain([
            COMMITTED_DIR,
            "chadthrottle/build.rs",
            "Cargo.lock",
        ]) {
            copy_all(&original.join(source), &copy.root.join(source));
        }
        copy.put("Cargo.toml", WORKSPACE);
        copy.put("chadthrottle/Cargo.toml", MANIFEST);
        copy.put("chadthrottle/src/main.rs", PROGRAM);
        // While someone works on the sources, the committed object is behind: this test is about
        // what happens after a change, so it starts from an object that matches.
        let object = fs::read(copy.root.join(COMMITTED_DIR).join(OBJECT_FILE)).unwrap();
        let record = Record {
            sources: fingerprint::of_sources(&copy.root).unwrap(),
            object: fingerprint::of_bytes(&object),
            built_with: "a test".to_owned(),
        };
        copy.put(
            &format!("{COMMITTED_DIR}/{RECORD_FILE}"),
            &record.to_string(),
        );
        copy
    }

    fn put(&self, path: &str, contents: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    fn append(&self, path: &str, text: &str) {
        let contents = fs::read_to_string(self.root.join(path)).unwrap();
        self.put(path, &(contents + text));
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target);
        // Of the package that this test belongs to.
        for (name, _) in env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_")) {
            command.env_remove(name);
        }
        command.output().unwrap()
    }

    fn cargo_build(&self) -> Output {
        self.run(env!("CARGO"), &["build"])
    }

    fn xtask(&self, arguments: &[&str]) -> Output {
        self.run(env!("CARGO_BIN_EXE_xtask"), arguments)
    }

    /// What the program says of the object in it.
    fn embedded(&self) -> String {
        let output = self.run(
            self.target.join("debug/chadthrottle").to_str().unwrap(),
            &[],
        );
        said(&output).0
    }
}

fn copy_all(from: &Path, to: &Path) {
    if from.is_dir() {
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy_all(&from.join(&name), &to.join(&name));
        }
    } else {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        // Not fs::copy, which would keep a file read-only.
        fs::write(to, fs::read(from).unwrap()).unwrap();
    }
}

fn said(output: &Output) -> (String, String) {
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[track_caller]
fn succeeds(output: &Output) {
    let (out, err) = said(output);
    assert!(output.status.success(), "{out}\n{err}");
}

#[track_caller]
fn refuses(output: &Output) {
    let (out, err) = said(output);
    assert!(
        !output.status.success(),
        "built a stale object: {out}\n{err}"
    );
    assert!(err.contains("was built from other sources"), "{err}");
    assert!(err.contains("cargo xtask build-release"), "{err}");
}

#[test]
fn a_changed_source_stops_cargo_build_until_the_object_is_built_anew() {
    let copy = Copy::new();
    succeeds(&copy.cargo_build());
    assert!(copy.embedded().contains("committed"), "{}", copy.embedded());
    let again = copy.cargo_build();
    succeeds(&again);
    assert!(!said(&again).1.contains("Compiling"), "built without need");

    for source in [
        "chadthrottle-ebpf/src/main.rs",
        "chadthrottle-common/src/lib.rs",
    ] {
        let original = fs::read_to_string(copy.root.join(source)).unwrap();
        copy.append(source, "\n// Another line.\n");
        refuses(&copy.cargo_build());
        copy.put(source, &original);
        succeeds(&copy.cargo_build());
    }

    copy.append("chadthrottle-ebpf/src/main.rs", "\n// Another line.\n");
    refuses(&copy.cargo_build());
    let built = copy.xtask(&["build-release"]);
    let (out, err) = said(&built);
    if !built.status.success() && err.contains("cargo xtask setup") {
        // Past libtest's capture, so that it is counted.
        let reason = err.lines().last().unwrap_or_default();
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        let _ = writeln!(io::stdout(), "SKIPPED: {test} (second half): {reason}");
        return;
    }
    succeeds(&built);
    assert!(out.contains("with the fresh object"), "{out}");
    succeeds(&copy.cargo_build());
    assert!(copy.embedded().contains("fresh"), "{}", copy.embedded());
}
