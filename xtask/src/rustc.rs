//! A stand-in for rustc in the build of the eBPF object.
//!
//! Cargo gives every crate outside of its workspace's root an identity made from its absolute path.
//! It decides the order of functions, the order decides what is inlined, and so the same sources
//! made another object in another directory. This gives our crates the same identity everywhere.

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

/// Set, this program is called as rustc's wrapper: the compiler and its arguments follow.
const CALLED: &str = "CHADTHROTTLE_XTASK_IS_RUSTC";

/// How our crates' names begin.
const OURS: &str = "chadthrottle";

/// Makes cargo call this program for rustc.
pub fn stand_in(cargo: &mut Command) -> std::io::Result<()> {
    cargo
        .env("RUSTC_WRAPPER", env::current_exe()?)
        .env(CALLED, "1");
    Ok(())
}

/// Calls the compiler, if that is what this program was started for. Returns only if not, or with
/// the exit code of a compiler that can't be started.
pub fn called() -> Option<ExitCode> {
    env::var_os(CALLED)?;
    let mut words = env::args_os().skip(1);
    let compiler = words.next()?;
    let words: Vec<OsString> = words.collect();
    let error = Command::new(&compiler).args(same_everywhere(words)).exec();
    eprintln!("cannot start {}: {error}", compiler.display());
    Some(ExitCode::FAILURE)
}

/// The arguments with an identity for our crates that does not depend on where they are.
fn same_everywhere(mut words: Vec<OsString>) -> Vec<OsString> {
    let name = words.iter().position(|word| word == "--crate-name");
    let name = name.and_then(|at| words.get(at + 1)?.to_str());
    let Some(name) = name
        .filter(|name| name.starts_with(OURS))
        .map(str::to_owned)
    else {
        return words;
    };
    for word in &mut words {
        if word
            .to_str()
            .is_some_and(|word| word.starts_with("metadata="))
        {
            *word = format!("metadata={name}").into();
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_crates_get_another_identity() {
        let line = |name: &str, metadata: &str| -> Vec<OsString> {
            let line = format!("--crate-name {name} -C metadata={metadata} -C extra-filename=-1a");
            line.split(' ').map(Into::into).collect()
        };
        assert_eq!(
            same_everywhere(line("chadthrottle_common", "1a2b")),
            line("chadthrottle_common", "chadthrottle_common")
        );
        assert_eq!(
            same_everywhere(line("aya_ebpf", "1a2b")),
            line("aya_ebpf", "1a2b")
        );
        assert_eq!(same_everywhere(vec!["-vV".into()]), ["-vV"]);
    }
}
