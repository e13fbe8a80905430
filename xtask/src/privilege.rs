//! Starting a program as root.

use std::{env, ffi::OsStr, process::Command};

/// Whether a password may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A person sits there.
    Yes,
    /// Nobody does.
    Never,
}

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether root is within reach without asking for a password.
#[must_use]
pub fn can_be_root() -> bool {
    is_root()
        || Command::new("sudo")
            .args(["-n", "true"])
            .output()
            .is_ok_and(|output| output.status.success())
}

/// A command that runs `program` as root, directly or through sudo, with these variables and
/// those that are the program's own. `None` if neither works.
#[must_use]
pub fn as_root<V: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    ask: Ask,
    variables: &[(&str, V)],
) -> Option<Command> {
    if is_root() {
        let mut command = Command::new(program);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        return Some(command);
    }
    let sudo = which::which_global("sudo").ok()?;
    let mut command = Command::new(&sudo);
    if ask == Ask::Never {
        if !can_be_root() {
            return None;
        }
        command.arg("-n");
    }
    // Through env: sudo's own --preserve-env is refused by many configurations.
    command.arg("--").arg("env");
    let kept = env::vars_os().filter(|(name, _)| is_kept(&name.to_string_lossy()));
    let given = (variables.iter()).map(|(name, value)| (name.into(), value.as_ref().to_owned()));
    for (mut setting, value) in kept.chain(given) {
        setting.push("=");
        setting.push(value);
        command.arg(setting);
    }
    command.arg(program);
    Some(command)
}

/// What the program is told through its environment, and what a terminal is.
fn is_kept(name: &str) -> bool {
    const KEPT: [&str; 7] = [
        "COLORTERM",
        "NO_COLOR",
        "RUST_BACKTRACE",
        "RUST_LOG",
        "RUST_LOG_STYLE",
        "RUST_TEST_THREADS",
        "TERM",
    ];
    KEPT.contains(&name) || name.starts_with("CHADTHROTTLE_")
}
