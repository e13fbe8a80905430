use super::*;
use proptest::prelude::*;

#[test]
fn a_file_is_read() {
    let file = read(
        r#"
            # Backups
            [[rule]]
            name = "backup"
            program = "rsync"
            upload = "1M"
            traffic = "internet"
            shared = true
            days = ["mon-fri"]
            from = "09:00"
            until = 17:30:00

            [[rule]]
            name = "updates"
            unit = "apt-daily.service"
            enabled = false
            quota = "5GB/day"
            then = "block"
            count = "download"

            [[rule]]
            name = "guest"
            user = "guest"
            download = 1000
            block = "upload"

            [[rule]]
            name = "mirror"
            program = "rclone"
            priority = "background"
            upload = "1M"

            [metrics]
            listen = "127.0.0.1:9184"

            [link]
            download = "50mbit"
            "#,
    )
    .unwrap();
    assert_eq!(file.metrics, Some("127.0.0.1:9184".parse().unwrap()));
    let download = Some("50mbit".parse().unwrap());
    assert_eq!(
        file.link.0,
        PerDirection {
            download,
            upload: None
        }
    );
    let [backup, updates, guest, mirror] = &file.rules[..] else {
        panic!("{file:?}")
    };
    assert_eq!(mirror.priority, Priority::Background);
    assert_eq!(mirror.limits.upload, Some("1M".parse().unwrap()));
    assert_eq!(backup.priority, Priority::Normal);
    assert_eq!(backup.limits.upload, Some("1M".parse().unwrap()));
    assert_eq!(
        (backup.scope, backup.sharing),
        (Scope::Internet, Sharing::Shared)
    );
    assert_eq!(
        backup.schedule.to_string(),
        "mon,tue,wed,thu,fri from 09:00 until 17:30"
    );
    assert!(!updates.enabled);
    let quota = updates.quota.unwrap();
    assert_eq!(quota.allowance().to_string(), "5GB/day");
    assert_eq!((quota.then, quota.count), (Then::Block, Count::Download));
    assert_eq!(guest.target, FileTarget::User("guest".into()));
    assert_eq!(guest.limits.upload, Some(Rate::ZERO));
    assert_eq!(
        guest.limits.download,
        Some(Rate::from_bytes_per_second(1000))
    );
    assert_eq!(file.rule("guest"), Some(guest));
    assert_eq!(read("").unwrap(), RulesFile::default());
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let rule = |rest: &str| format!("[[rule]]\nname = \"a\"\nprogram = \"curl\"\n{rest}\n");
    for (text, expected) in [
        (
            rule("donwload = \"1M\"\nupload = \"1M\""),
            "4:1: 'donwload' is no key of a rule; did you mean 'download'?",
        ),
        (
            rule("upload = \"1M\"\n[rule]"),
            "5:2: a rule begins with [[rule]], in double brackets",
        ),
        (
            rule("upload = \"1M\"\nupload = \"2M\""),
            "5:1: 'upload' is there already; leave out one of the two",
        ),
        (
            rule("download = \"8Mbps\""),
            "4:12: 'Mbps' can mean bits or bytes; type 8MB for bytes or 8mbit for bits a second",
        ),
        (
            rule("priority = \"backgruond\""),
            "4:12: 'priority' can't be 'backgruond'; did you mean 'background'?",
        ),
        (
            rule("upload = 0\npriority = \"background\""),
            "5:12: background traffic has what others leave, and what is blocked has nothing; leave out one of the two",
        ),
        (
            rule("download = true"),
            "4:12: 'download' is a text in quotes, and this is boolean",
        ),
        (
            rule("download = \"1M\"\nshared = \"yes\""),
            "5:10: 'shared' is true or false, without quotes, and this is string",
        ),
        (
            rule("download = \"1M\"\ntraffic = \"lan\""),
            "5:11: 'traffic' can't be 'lan'",
        ),
        (
            rule("download = \"1M\"\ntraffic = \"intrenet\""),
            "did you mean 'internet'?",
        ),
        (
            rule("download = \"1M\"\nblock = true"),
            "4:12: download is blocked; leave out one of the two",
        ),
        (
            rule("download = \"1M\"\ndays = [\"mon\", \"tusday\"]"),
            "5:16: 'tusday' is no day",
        ),
        (
            rule("download = \"1M\"\nfrom = \"25:00\""),
            "5:8: '25:00' is no time of day",
        ),
        (
            rule("download = \"1M\"\nfrom = 2026-01-01"),
            "5:8: '' is no time of day",
        ),
        (
            rule("quota = \"5GB\"\nthen = \"notify\""),
            "4:9: a quota is an amount a day",
        ),
        (
            rule("quota = \"5GB/day\""),
            "4:9: the quota is to limit, but to what?",
        ),
        (
            rule("download = \"1M\"\nthen = \"block\""),
            "5:1: 'then' belongs to a quota",
        ),
        (rule(""), "2:8: rule 'a' limits nothing"),
        (
            rule("path = \"/usr/bin/curl\"\ndownload = \"1M\""),
            "4:1: a rule has one target, and 'program' is there already",
        ),
        (
            "[[rule]]\nname = \"a\"\npid = 7\ndownload = \"1M\"".to_owned(),
            "3:1: a process id means another process tomorrow",
        ),
        (
            "[[rule]]\nname = \"a\"\ndownload = \"1M\"".to_owned(),
            "1:1: whom is the rule about? Add one of program,",
        ),
        (
            "[[rule]]\nprogram = \"curl\"\ndownload = \"1M\"".to_owned(),
            "1:1: the rule has no name",
        ),
        (
            rule("download = \"1M\"").repeat(2),
            "6:8: the rule in line 2 is called 'a', too",
        ),
        (
            "[rule]\nname = \"a\"".to_owned(),
            "1:2: a rule begins with [[rule]]",
        ),
        (
            "[[rules]]\n".to_owned(),
            "1:3: 'rules' is no key of the rules file; did you mean 'rule'?",
        ),
        (
            "[metrics]\nlisten = \"0.0.0.0:9184\"".to_owned(),
            "2:10: metrics are served to this machine only",
        ),
        (
            "[metrics]\nlisten = \"9184\"".to_owned(),
            "2:10: an address and a port",
        ),
        (
            "link = 1".to_owned(),
            "1:8: link is a section: write [link]",
        ),
        (
            "[link]\nspeed = \"1M\"".to_owned(),
            "2:1: 'speed' is no key of [link]",
        ),
        (
            "[link]\nupload = 0".to_owned(),
            "2:10: a link carries something",
        ),
        ("[link]\ndownload = \"fast\"".to_owned(), "2:12: "),
        ("[[rule]\n".to_owned(), "1:8: "),
        ("a = \n".to_owned(), "1:"),
        (rule("download = \"1M").to_owned(), "4:"),
    ] {
        let mistakes = read(&text).unwrap_err();
        let said: Vec<String> = mistakes.0.iter().map(ToString::to_string).collect();
        assert!(
            said.iter()
                .any(|said| said.starts_with(expected) || said.ends_with(expected)),
            "{text}: {said:#?}"
        );
    }
}

#[test]
fn all_mistakes_are_said_at_once() {
    let text = "[[rule]]\nname = 1\nprogam = \"x\"\n[[rule]]\nname = \"b\"\nupload = \"fast\"\n";
    let mistakes = read(text).unwrap_err();
    let file = std::path::Path::new("r.toml");
    let said = mistakes.in_file(file).to_string();
    assert!(mistakes.0.len() >= 4, "{said}");
    assert!(said.lines().all(|line| line.starts_with("r.toml:")));
    assert!(
        mistakes
            .0
            .is_sorted_by_key(|mistake| (mistake.line, mistake.column))
    );
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = read(&text);
    }

    /// Texts that look like rules, with values of all kinds where they don't belong.
    #[test]
    fn no_rule_makes_it_panic(
        lines in prop::collection::vec((0..KEYS.len() + 3, 0..VALUES.len()), 0..12),
    ) {
        let mut text = String::new();
        for (key, value) in lines {
            let line = match KEYS.get(key) {
                Some(key) => format!("{key} = {}\n", VALUES[value]),
                None => ["[[rule]]\n", "[metrics]\nlisten = 1\n", "[rule.quota]\n"][key - KEYS.len()].into(),
            };
            text.push_str(&line);
        }
        if let Err(mistakes) = read(&text) {
            prop_assert!(!mistakes.0.is_empty());
            prop_assert!(mistakes.0.iter().all(|m| m.line >= 1 && m.line <= text.lines().count() + 1));
        }
    }
}

const VALUES: [&str; 14] = [
    "\"1M\"",
    "\"\"",
    "1",
    "-1",
    "1.5",
    "nan",
    "true",
    "[]",
    "[\"mon\", 1]",
    "{ a = 1 }",
    "09:00:00",
    "2026-01-01",
    "\"mon\"",
    "\"\\u0000\"",
];
