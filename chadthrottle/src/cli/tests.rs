use super::*;
use crate::{
    model::{process::Pid, rule::Scope},
    rate::Rate,
};
use clap::CommandFactory as _;

fn parse(line: &str) -> Result<Cli, String> {
    let cli = Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
    cli.check().map(|()| cli)
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn a_limit_is_read() {
    let cli = parse("chadthrottle limit --pid 7 --pid 8 --download 500K --duration 30s").unwrap();
    let Some(Action::Limit(limit)) = cli.action else {
        panic!("limit")
    };
    assert_eq!(limit.duration, Some(Duration::from_secs(30)));
    let rules = limit.rules().unwrap();
    let targets: Vec<&Target> = rules.iter().map(|rule| &rule.target).collect();
    assert_eq!(targets, [&Target::from(Pid(7)), &Target::from(Pid(8))]);
    let half_a_megabyte = Some(Rate::from_bytes_per_second(500_000));
    for rule in rules {
        assert_eq!(
            (rule.limits.download, rule.limits.upload),
            (half_a_megabyte, None)
        );
        assert_eq!((rule.scope, rule.sharing), (Scope::All, Sharing::Each));
    }
}

#[test]
fn targets_of_all_kinds_are_read() {
    let cli = parse(
        "chadthrottle limit --tree 7 --program curl --path /opt/* --command re:x \
         --cgroup /a/ --unit nginx --user 0 --user 0 --block --shared --traffic local",
    )
    .unwrap();
    let Some(Action::Limit(limit)) = cli.action else {
        panic!("limit")
    };
    let rules = limit.rules().unwrap();
    assert_eq!(
        rules[0].target.to_string(),
        "process 7 and its descendants, program curl, program file /opt/*, command line re:x, \
         cgroup /a, unit nginx.service, user root"
    );
    assert_eq!(
        (rules.len(), rules[0].sharing, rules[0].scope),
        (1, Sharing::Shared, Scope::Local)
    );
    assert!(rules[0].limits.is_blocked());
}

#[test]
fn a_unit_is_named_as_systemctl_has_it_and_a_container_as_it_is_shown() {
    for (typed, meant) in [
        ("nginx", "unit nginx.service"),
        ("backup.scope", "unit backup.scope"),
        ("libpod-3f4e8a2b9c01", "unit libpod-3f4e8a2b9c01"),
        ("3f4e8a2b9c01", "unit 3f4e8a2b9c01"),
    ] {
        let line = format!("chadthrottle limit --unit {typed} --block");
        let Some(Action::Limit(limit)) = parse(&line).unwrap().action else {
            panic!("limit")
        };
        assert_eq!(limit.rules().unwrap()[0].target.to_string(), meant);
    }
}

#[test]
fn who_knows_how_fast_the_link_is_may_say_so() {
    let line = "chadthrottle limit --pid 7 --priority background --link 50mbit/10mbit";
    let Some(Action::Limit(limit)) = parse(line).unwrap().action else {
        panic!("limit")
    };
    assert_eq!(limit.link.link, Some("50mbit/10mbit".parse().unwrap()));
    parse("chadthrottle run --priority background --link 5M/1M -- true").unwrap();
    parse("chadthrottle --link 5M/1M").unwrap();
    for (line, error) in [
        (
            "limit --pid 7 --download 1M --link 5M/1M",
            "is for --priority background or high",
        ),
        (
            "run --block --link 5M/1M -- true",
            "is for --priority background or high",
        ),
        (
            "limit --pid 7 --priority background --link 5M",
            "for example 50mbit/10mbit",
        ),
        ("--demo --link 5M/1M", "made-up world"),
    ] {
        let said = parse(&format!("chadthrottle {line}")).unwrap_err();
        assert!(said.contains(error), "{line}: {said}");
    }
}

#[test]
fn what_is_limited_shares_or_not() {
    use Sharing::{Each, Shared};
    for (option, limited, run) in [
        ("", Each, Shared),
        ("--each ", Each, Each),
        ("--shared ", Shared, Shared),
    ] {
        let line = format!("chadthrottle limit {option}--pid 7 --block");
        let Some(Action::Limit(limit)) = parse(&line).unwrap().action else {
            panic!("limit")
        };
        assert_eq!(limit.rules().unwrap()[0].sharing, limited, "{line}");
        let line = format!("chadthrottle run {option}--block -- true");
        let Some(Action::Run(args)) = parse(&line).unwrap().action else {
            panic!("run")
        };
        let rule = args.rule(Pid(7).into(), Limits::default());
        assert_eq!(rule.sharing, run, "{line}");
    }
}

#[test]
fn a_priority_takes_the_place_of_rates() {
    let line = "chadthrottle limit --program rclone --priority background --traffic internet";
    let Some(Action::Limit(limit)) = parse(line).unwrap().action else {
        panic!("limit")
    };
    let rules = limit.rules().unwrap();
    let expected = Rule {
        scope: Scope::Internet,
        ..Rule::in_background(Target::program("rclone"))
    };
    assert_eq!(rules, [expected]);
}

#[test]
fn a_priority_stands_beside_rates() {
    let line = "chadthrottle limit --program rclone --priority background --upload 1M";
    let Some(Action::Limit(limit)) = parse(line).unwrap().action else {
        panic!("limit")
    };
    let [rule] = &limit.rules().unwrap()[..] else {
        panic!()
    };
    let upload = Some("1M".parse().unwrap());
    let ceiling = Limits {
        download: None,
        upload,
    };
    assert_eq!(rule.asked().limits, ceiling);
    assert_eq!((rule.limits, rule.ceiling), (Limits::default(), ceiling));
    assert!(rule.is_background());
}

#[test]
fn users_of_a_limit_must_exist() {
    let line = "chadthrottle limit --user nobody-has-this-name --block";
    let Some(Action::Limit(limit)) = parse(line).unwrap().action else {
        panic!("limit")
    };
    let error = limit.rules().unwrap_err();
    assert!(
        error.contains("there is no user 'nobody-has-this-name'"),
        "{error}"
    );
}

#[test]
fn limit_and_rules_name_targets_alike() {
    let command = Cli::command();
    let options = |path: &[&str]| {
        let mut command = &command;
        for name in path {
            command = command.find_subcommand(name).unwrap();
        }
        let named = ["program", "path", "command", "cgroup", "unit", "user"];
        named.map(|name| {
            let mut all = command.get_arguments();
            let option = all.find(|option| option.get_long() == Some(name)).unwrap();
            option.get_help().unwrap().to_string()
        })
    };
    assert_eq!(options(&["limit"]), options(&["rules", "add"]));
    assert_eq!(options(&["limit"]), options(&["rules", "edit"]));
}

#[test]
fn a_table_is_ordered_and_narrowed() {
    let cli = parse("chadthrottle top --by program --sort used --reverse --filter user:ada");
    let Some(Action::Top(top)) = cli.unwrap().action else {
        panic!("top")
    };
    assert_eq!(
        (top.by, top.sort, top.reverse),
        (View::Programs, Some(Column::OfLimit), true)
    );
    assert_eq!(top.filter, Some(Filter::new("user:ada")));
}

#[test]
fn what_is_wrong_is_said() {
    for (line, message) in [
        ("chadthrottle limit --pid 7", "--download <RATE>"),
        ("chadthrottle limit --download 1M", "--pid <PID>"),
        (
            "chadthrottle limit --program curl --block --download 1M",
            "contradict each other",
        ),
        (
            "chadthrottle limit --pid 7 --priority background --block",
            "cannot be used with",
        ),
        (
            "chadthrottle limit --pid 7 --priority background --download 0",
            "what is blocked has nothing",
        ),
        (
            "chadthrottle limit --pid 7 --priority high --at-least 1M",
            "no less than a part",
        ),
        (
            "chadthrottle limit --pid 7 --at-least 2M --download 1M",
            "can't have at least more",
        ),
        (
            "chadthrottle limit --pid 7 --at-least 0",
            "a guarantee is of something",
        ),
        (
            "chadthrottle run --priority normal -- true",
            "normal is what every process is",
        ),
        (
            "chadthrottle run --block=upload --upload 1M -- true",
            "contradict each other",
        ),
        (
            "chadthrottle rules edit a --block --upload 1M",
            "contradict each other",
        ),
        (
            "chadthrottle run --shared --each --block -- true",
            "cannot be used with",
        ),
        (
            "chadthrottle limit --cgroup user.slice --block",
            "a path from the root of the hierarchy",
        ),
        (
            "chadthrottle limit --program /bin/x --block",
            "'path' means its file",
        ),
        (
            "chadthrottle limit --program re:( --block",
            "the regular expression can't be understood",
        ),
        (
            "chadthrottle limit --pid x --download 1M",
            "a process id is a number",
        ),
        (
            "chadthrottle limit --pid 0 --download 1M",
            "0 is no process",
        ),
        (
            "chadthrottle limit --pid -4 --download 1M",
            "unexpected argument '-4'",
        ),
        (
            "chadthrottle limit --pid 7 --download 8Mbps",
            "type 8MB for bytes or 8mbit",
        ),
        (
            "chadthrottle limit --pid 7 --download -1",
            "can't be negative",
        ),
        (
            "chadthrottle limit --pid 7 --download 1M --duration 0s",
            "no time at all",
        ),
        ("chadthrottle top --interval 1ms", "between 100ms and 1h"),
        ("chadthrottle top --count 0", "1.."),
        ("chadthrottle top --json --csv", "cannot be used with"),
        ("chadthrottle top --by cgruop", "'cgroup'"),
        ("chadthrottle top --sort mark", "total-download"),
        ("chadthrottle top --filter port:x", "port:443"),
    ] {
        let error = parse(line).unwrap_err();
        assert!(error.contains(message), "{line}: {error}");
    }
}
