//! What the tests of this room begin with.

use crate::{
    model::{
        direction::Limits,
        process::{Identity, Pid, ProcessKey},
        rule::{Origin, Rule},
        target::Target,
    },
    rate::Rate,
};

/// A process of the user 1000.
pub fn process(pid: u32, name: &str) -> Identity {
    Identity {
        key: ProcessKey {
            pid: Pid(pid),
            start_time: 0,
        },
        name: name.into(),
        exe: "".into(),
        command_line: "".into(),
        user: "u".into(),
        uid: Some(1000),
        cgroup: "".into(),
        kernel_thread: false,
    }
}

/// Limits in bytes a second; 0 for none.
pub fn limits(download: u64, upload: u64) -> Limits {
    let rate = |bytes| (bytes > 0).then_some(Rate::from_bytes_per_second(bytes));
    Limits {
        download: rate(download),
        upload: rate(upload),
    }
}

/// A rule of the rules file.
pub fn file(name: &str, target: Target, limits: Limits) -> Rule {
    Rule {
        origin: Origin::File(name.into()),
        ..Rule::by_hand(target, limits)
    }
}
