use super::*;

fn process() -> Identity {
    Identity {
        key: ProcessKey {
            pid: Pid(42),
            start_time: 7,
        },
        name: "chromium-browse".into(),
        exe: "/usr/lib/chromium/chromium-browser (deleted)".into(),
        command_line: "chromium-browser --type=network".into(),
        user: "alice".into(),
        uid: Some(1000),
        cgroup: "/user.slice/user-1000.slice/app.service/inner".into(),
        kernel_thread: false,
    }
}

fn matches(target: &Target) -> bool {
    target.matches(&process(), &mut |root| root.pid == Pid(1))
}

fn by(by: ProgramField, pattern: &str) -> Target {
    Target::Program {
        by,
        pattern: pattern.parse().unwrap(),
    }
}

#[test]
fn a_process_by_its_id() {
    assert!(matches(&Target::Process(Pid(42).into())));
    assert!(matches(&Target::Process(process().key.into())));
    assert!(!matches(&Target::Process(Pid(43).into())));
    let later = ProcessKey {
        pid: Pid(42),
        start_time: 8,
    };
    assert!(!matches(&Target::Process(later.into())));
    assert!(matches(&Target::Tree(Pid(42).into())));
    assert!(matches(&Target::Tree(Pid(1).into())));
    assert!(!matches(&Target::Tree(Pid(2).into())));
}

#[test]
fn a_name_may_be_that_of_a_script() {
    use ProgramField::{Name, Path};
    let python = Identity {
        name: "python3".into(),
        command_line: "/usr/bin/python3 -u /opt/speedtest.py --json".into(),
        ..process()
    };
    for (target, is_script) in [
        (by(Name, "speedtest.py"), true),
        (by(Name, "speed*"), true),
        (by(Name, "python3"), false),
        (by(Name, "speedtest"), false),
        (by(Path, "speedtest.py"), false),
        (Target::Cgroup("/".into()), false),
    ] {
        assert_eq!(target.names_script_of(&python), is_script, "{target}");
    }
}

#[test]
fn what_the_kernel_knows_of_a_new_process() {
    use ProgramField::{CommandLine, Name, Path};
    let user = Target::User {
        uid: 1000,
        name: "alice".into(),
    };
    for (target, expected) in [
        (Target::Process(Pid(42).into()), false),
        (Target::Tree(Pid(1).into()), true),
        (by(Name, "chromium-browser"), true),
        // Only its file is called so: another process with its name may have another.
        (by(Name, "*-browser"), false),
        (by(Path, "*"), false),
        (by(Path, "/usr/lib/chromium/chromium-browser"), true),
        (by(Path, "/usr/bin/chromium"), false),
        (by(CommandLine, "*"), false),
        (Target::Unit("app.service".into()), true),
        (Target::Cgroup("/other".into()), false),
        (Target::Any(vec![by(Path, "*"), user.clone()]), true),
        (user, true),
    ] {
        assert_eq!(target.matches_kind(&process(), true), expected, "{target}");
    }
    assert!(!Target::Tree(Pid(1).into()).matches_kind(&process(), false));
}

#[test]
fn what_is_certain_of_names_and_users() {
    use ProgramField::{CommandLine, Name, Path};
    let user = Target::User {
        uid: 7,
        name: "bob".into(),
    };
    let all = Target::Any(vec![
        by(Name, "curl"),
        by(Name, "w*"),
        by(Path, "/usr/lib/chromium/chromium-browser"),
        by(Path, "/usr/*/x"),
        by(CommandLine, "y"),
        by(Name, "fifteen-bytes-é"),
        user,
        Pid(1).into(),
    ]);
    let names: Vec<&str> = all.names().collect();
    assert_eq!(names, ["curl", "chromium-browse"]);
    assert!(names.iter().all(|name| all.may_be_named(name)));
    assert!(all.may_be_named("wget") && !all.may_be_named("x"));
    assert_eq!(all.users().collect::<Vec<_>>(), [7]);
}

#[test]
fn a_program() {
    use ProgramField::{CommandLine, Name, Path};
    for (field, pattern, expected) in [
        (Name, "chromium-browse", true),
        (Name, "chromium-browser", true),
        (Name, "chromium-browsers", true),
        (Name, "chrom*er", true),
        (Name, "chromium", false),
        (Path, "/usr/lib/chromium/*", true),
        (Path, "chromium-browser", false),
        // Its file was replaced since, as by an upgrade.
        (Path, "/usr/lib/chromium/chromium-browser", true),
        (Path, "re:browser$", true),
        (Path, "/usr/lib/chromium/chromium-browser (deleted)", true),
        (CommandLine, "re:--type=network", true),
        (CommandLine, "--type=network", false),
    ] {
        assert_eq!(
            matches(&by(field, pattern)),
            expected,
            "{field:?} {pattern}"
        );
    }
    let mut gone = process();
    gone.exe = "".into();
    gone.command_line = "".into();
    assert!(!by(Path, "*").matches(&gone, &mut |_| false));
    assert!(!by(CommandLine, "*").matches(&gone, &mut |_| false));
}

#[test]
fn any_of_several() {
    let key = process().key;
    let mut any = Target::Any(vec![Pid(7).into(), key.into(), Target::Tree(Pid(3).into())]);
    assert!(matches(&any));
    assert_eq!(any.processes().len(), 3);
    assert_eq!(any.roots(), [Pid(3).into()]);
    assert_eq!(any.breadth(), 1);
    assert!(!any.forget(key));
    assert!(!matches(&any));
    assert_eq!(any.to_string(), "process 7, process 3 and its descendants");
    assert!(Target::from(key).forget(key));
    let found: Result<Target, ()> = any.resolved(&|id| {
        Ok(ProcessKey {
            pid: id.pid,
            start_time: 9,
        })
    });
    assert!(
        found
            .unwrap()
            .processes()
            .iter()
            .all(|id| id.start_time == Some(9))
    );
}

#[test]
fn a_container_by_the_name_that_is_shown_of_it() {
    let id = "3f4e8a2b9c01d5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b7c8d9e0";
    for (cgroup, shown) in [
        (
            format!("/machine.slice/libpod-{id}.scope/container"),
            "libpod-3f4e8a2b9c01",
        ),
        (format!("/docker/{id}"), "3f4e8a2b9c01"),
        ("/system.slice/nginx.service/worker".into(), "nginx.service"),
    ] {
        let mut process = process();
        process.cgroup = cgroup.as_str().into();
        let unit = |text: &str| Target::Unit(text.into()).matches(&process, &mut |_| false);
        assert!(unit(shown), "{shown}");
        assert!(!unit("libpod-3f4e8a2b9c0"), "{shown}");
    }
}

#[test]
fn a_cgroup_a_unit_a_user() {
    for (target, expected) in [
        (Target::Cgroup("/user.slice".into()), true),
        (Target::Cgroup("/".into()), true),
        (
            Target::Cgroup("/user.slice/user-1000.slice/app.service/inner".into()),
            true,
        ),
        (
            Target::Cgroup("/user.slice/user-1000.slice/app".into()),
            false,
        ),
        (Target::Unit("app.service".into()), true),
        (Target::Unit("app".into()), false),
        (
            Target::User {
                uid: 1000,
                name: "alice".into(),
            },
            true,
        ),
        (
            Target::User {
                uid: 0,
                name: "root".into(),
            },
            false,
        ),
    ] {
        assert_eq!(matches(&target), expected, "{target}");
    }
}
