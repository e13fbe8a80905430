//! The rules while clocks jump and folders vanish.

use std::{fs, time::UNIX_EPOCH};

use super::*;
use crate::{demo::World, model::command::Command, rate::Bytes, rules::plan::State};

fn keeper(folder: &Path, rules: &str) -> Keeper {
    let path = folder.join("rules.toml");
    fs::write(&path, rules).unwrap();
    fs::create_dir_all(folder.join("state")).unwrap();
    Keeper::start(&path, true, &folder.join("state")).unwrap().0
}

fn at(text: &str) -> Zoned {
    let time: jiff::civil::DateTime = text.parse().unwrap();
    time.to_zoned(jiff::tz::TimeZone::UTC).unwrap()
}

/// Puts what is due in force, and says which rules are.
fn in_force(keeper: &mut Keeper, world: &mut World, now: &str) -> Vec<String> {
    if let Some(rules) = keeper.due(&at(now)) {
        world.apply(&Command::SetFile(rules)).unwrap();
        keeper.put_in_force(true);
    }
    let standings = keeper.plan().standings.iter();
    let in_force = standings.filter(|standing| standing.state == State::InForce);
    in_force.map(|standing| standing.name.to_string()).collect()
}

/// A rule with a quota for everything, and a sample in which it has moved so much.
const QUOTA: &str = r#"
    [[rule]]
    name = "all"
    cgroup = "/"
    quota = "1KB/day"
    then = "block"
"#;

fn moved(world: &World, bytes: u64) -> Snapshot {
    let mut snapshot = world.snapshot().clone();
    snapshot.limits[0].bytes.download = Bytes::new(bytes);
    snapshot
}

#[test]
fn a_clock_that_jumps_is_followed_there_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(
        folder.path(),
        r#"
        [[rule]]
        name = "day"
        program = "firefox"
        upload = "1M"
        from = "08:00"
        until = "20:00"

        [[rule]]
        name = "night"
        program = "firefox"
        upload = "2M"
        from = "20:00"
        until = "08:00"
        "#,
    );
    let mut world = World::new(7, 30, UNIX_EPOCH);
    for (now, expected) in [
        ("2026-11-23T12:00:00", "day"),
        // Set ahead by hours, back to the second, and to a clock without a battery.
        ("2026-11-23T23:00:00", "night"),
        ("2026-11-23T12:00:01", "day"),
        ("1970-01-01T00:00:10", "night"),
        ("2099-12-31T19:59:59", "day"),
        ("2026-11-23T12:00:02", "day"),
    ] {
        assert_eq!(in_force(&mut keeper, &mut world, now), [expected], "{now}");
    }
    assert!(keeper.due(&at("2026-11-23T12:00:03")).is_none());
}

#[test]
fn a_quota_is_used_up_after_the_clock_was_elsewhere_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path(), QUOTA);
    let mut world = World::new(7, 30, UNIX_EPOCH);
    let used = |keeper: &mut Keeper, now: &str| {
        keeper.due(&at(now));
        keeper.plan().standings[0].quota.unwrap().used.count()
    };
    let mut count = |keeper: &mut Keeper, now: &str, bytes| {
        in_force(keeper, &mut world, now);
        keeper.observe(&moved(&world, bytes), &at(now));
        used(keeper, now)
    };
    assert_eq!(count(&mut keeper, "2026-11-23T12:00:00", 1500), 1500);
    // Ahead by mistake, and back.
    assert_eq!(used(&mut keeper, "2026-11-24T00:00:00"), 0);
    assert_eq!(count(&mut keeper, "2026-11-24T00:00:00", 1700), 200);
    assert_eq!(used(&mut keeper, "2026-11-23T12:00:01"), 1500);
    // Before all that is known: not believed, so nothing is free again.
    assert_eq!(used(&mut keeper, "1970-01-01T00:00:00"), 200);
    assert_eq!(keeper.save(), None);
    let (path, state) = (
        folder.path().join("rules.toml"),
        folder.path().join("state"),
    );
    let (mut again, said) = Keeper::start(&path, true, &state).unwrap();
    assert!(said.is_empty(), "{said:?}");
    assert_eq!(used(&mut again, "2026-11-23T12:00:02"), 1500);
}

#[test]
fn what_can_not_be_written_down_is_said_once_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path(), QUOTA);
    let mut world = World::new(7, 30, UNIX_EPOCH);
    let now = "2026-11-23T12:00:00";
    in_force(&mut keeper, &mut world, now);
    keeper.observe(&moved(&world, 5), &at(now));
    let state = folder.path().join("state");
    fs::remove_dir(&state).unwrap();
    let (severity, text) = keeper.save().unwrap();
    assert_eq!(severity, Severity::Warning);
    assert!(text.contains("can't be written down"), "{text}");
    assert_eq!(keeper.save(), None);
    fs::create_dir(&state).unwrap();
    let (_, text) = keeper.save().unwrap();
    assert!(text.contains("written down again"), "{text}");
    assert!(state.join("quotas.json").exists());
    assert_eq!(keeper.save(), None);
}
