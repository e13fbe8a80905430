use super::*;
use crate::{
    model::{direction::Limits, rule::Scope},
    rules::file::FileTarget,
};
use proptest::prelude::*;

const TEXT: &str = r#"# Our rules.
# Ask Alice before you change them.

# The backup may not disturb anybody.
[[rule]]
name = "backup"     # at night
program = 'rsync'   # see cron
upload = "1000K"
shared = true

[metrics]
listen = "127.0.0.1:9184" # prometheus

# Guests.
[[rule]]
name = "guest"
user = "guest"
download = "0"
upload = "0"

# The end.
"#;

fn document() -> RulesDocument {
    TEXT.parse().unwrap()
}

fn curl() -> FileRule {
    let target = FileTarget::from_key("program", "curl").unwrap();
    let mut rule = FileRule::new("curl", target);
    rule.limits.download = Some("1M".parse().unwrap());
    rule
}

#[test]
fn nothing_changes_by_reading() {
    assert_eq!(document().text(), TEXT);
    assert_eq!(RulesDocument::from_str(HEADER).unwrap().text(), HEADER);
}

#[test]
fn a_rule_is_added() {
    let added = "[[rule]]\nname = \"curl\"\nprogram = \"curl\"\ndownload = \"1M\"\n";
    let mut empty = RulesDocument::from_str("").unwrap();
    empty.add(&curl(), Position::First).unwrap();
    assert_eq!(empty.text(), added);
    let mut new = RulesDocument::from_str(HEADER).unwrap();
    new.add(&curl(), Position::Last).unwrap();
    assert_eq!(new.text(), format!("{HEADER}\n{added}"));
}

#[test]
fn a_rule_is_added_where_it_should_be() {
    let added = "[[rule]]\nname = \"curl\"\nprogram = \"curl\"\ndownload = \"1M\"\n";
    for (position, before, after) in [
        (Position::Last, "upload = \"0\"\n\n", "\n# The end.\n"),
        (Position::First, "change them.\n\n", "\n# The backup"),
        (
            Position::Before("guest"),
            "# prometheus\n\n",
            "\n# Guests.\n",
        ),
    ] {
        let mut document = document();
        document.add(&curl(), position).unwrap();
        let text = document.text();
        let expected = format!("{before}{added}{after}");
        assert!(text.contains(&expected), "{position:?}:\n{text}");
        assert_eq!(
            text.replacen(&format!("{added}\n"), "", 1).len(),
            TEXT.len()
        );
    }
    let taken = document().add(&document().rules().rules[0], Position::Last);
    assert!(matches!(taken, Err(EditError::Taken(_))));
    let error = document()
        .add(&curl(), Position::Before("backups"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("did you mean 'backup'?"), "{error}");
}

#[test]
fn only_what_changes_of_a_rule_is_written() {
    let mut document = document();
    let mut backup = document.rules().rules[0].clone();
    backup.limits.upload = Some("2M".parse().unwrap());
    backup.sharing = Sharing::Each;
    document.replace("backup", &backup).unwrap();
    let expected = TEXT
        .replace("\"1000K\"", "\"2M\"")
        .replace("shared = true\n", "");
    assert_eq!(document.text(), expected);

    let mut guest = document.rules().rules[1].clone();
    guest.name = "visitor".into();
    guest.limits.download = None;
    document.replace("guest", &guest).unwrap();
    let text = document.text();
    assert!(
        text.contains("name = \"visitor\"\nuser = \"guest\"\nblock = \"upload\"\n"),
        "{text}"
    );
    let taken = document.replace("visitor", &backup);
    assert!(matches!(taken, Err(EditError::Taken(_))));
}

#[test]
fn a_rule_is_removed_with_its_own_comment() {
    let mut document = document();
    document.remove("backup").unwrap();
    let text = document.text();
    assert!(text.starts_with("# Our rules.\n# Ask Alice"), "{text}");
    assert!(!text.contains("backup"), "{text}");
    document.remove("guest").unwrap();
    let text = document.text();
    assert!(!text.contains("Guests"), "{text}");
    for kept in ["# Our rules.", "[metrics]", "# prometheus", "# The end."] {
        assert!(text.contains(kept), "{kept}: {text}");
    }
    let error = document.remove("guest").unwrap_err().to_string();
    assert!(error.contains("there are none"), "{error}");
}

fn some_rule() -> impl Strategy<Value = FileRule> {
    let target = prop_oneof![
        Just(("program", "curl*")),
        Just(("path", "/usr/bin/a")),
        Just(("command", "re:x y\"z")),
        Just(("cgroup", "/a.slice")),
        Just(("unit", "a.service")),
        Just(("user", "guest")),
    ];
    let rate = || prop::option::of(0..Rate::MAX.bytes_per_second());
    let time = || prop::option::of((0..24i8, 0..60i8));
    (
        (target, rate(), rate(), any::<[bool; 3]>()),
        (0..3usize, 0..128u8, time(), time()),
        prop::option::of((1..1u64 << 50, 0..3usize, 0..3usize, 0..3usize)),
    )
        .prop_map(
            |((target, down, up, flags), (scope, days, from, until), quota)| {
                let target = FileTarget::from_key(target.0, target.1).unwrap();
                let mut rule = FileRule::new("x", target);
                rule.limits.download = down.map(Rate::from_bytes_per_second);
                rule.limits.upload = up.map(Rate::from_bytes_per_second);
                rule.enabled = flags[0];
                if flags[1] {
                    rule.sharing = Sharing::Shared;
                }
                if flags[2] {
                    rule.priority = match days % 2 {
                        0 => Priority::Background,
                        _ => Priority::High,
                    };
                    rule.limits = Limits::default();
                }
                rule.scope = [Scope::All, Scope::Internet, Scope::Local][scope];
                for day in 0..7 {
                    if days & (1 << day) != 0 {
                        let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
                        rule.schedule.days.add(names[day]).unwrap();
                    }
                }
                let time = |(hour, minute)| jiff::civil::time(hour, minute, 0, 0);
                rule.schedule.from = from.map(time);
                rule.schedule.until = until.map(time).filter(|u| Some(*u) != rule.schedule.from);
                rule.quota =
                    quota.map(|(amount, period, then, count)| crate::rules::quota::Quota {
                        amount: crate::rate::Bytes::new(amount),
                        period: [
                            crate::rules::quota::Period::Day,
                            crate::rules::quota::Period::Week,
                            crate::rules::quota::Period::Month,
                        ][period],
                        then: [Then::Limit, Then::Block, Then::Notify][then],
                        count: [Count::Both, Count::Download, Count::Upload][count],
                    });
                rule
            },
        )
        .prop_filter("makes sense", |rule| rule.check().is_ok())
}

proptest! {
    /// Every change is read back by [`RulesDocument::change`]; here it is seen to succeed.
    #[test]
    fn any_rule_can_be_written_and_changed_to_any_other(
        first in some_rule(), second in some_rule(), place in 0..3usize,
    ) {
        let mut document = document();
        let position = [Position::Last, Position::First, Position::Before("guest")][place];
        document.add(&first, position).unwrap();
        let mut second = second;
        second.name = "y".into();
        document.replace("x", &second).unwrap();
        let again: RulesDocument = document.text().parse().unwrap();
        prop_assert_eq!(again.rules().rule("y"), Some(&second));
        document.remove("y").unwrap();
        for line in TEXT.lines() {
            prop_assert!(document.text().contains(line), "{}", line);
        }
        let before = self::document();
        prop_assert_eq!(document.rules(), before.rules());
    }
}
