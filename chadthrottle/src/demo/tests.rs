use super::*;
use crate::{
    model::{
        command::CommandError,
        connections::Watch,
        direction::{Limits, PerDirection},
        priority::Priority,
        process::ProcessKey,
        rule::{Rule, Sharing},
        snapshot::ProcessRow,
        target::Target,
        terms::Terms,
    },
    rate::Rate,
};

fn world() -> World {
    let mut world = World::new(7, 30, SystemTime::UNIX_EPOCH);
    for _ in 0..10 {
        world.advance(Duration::from_secs(1));
    }
    world
}

#[test]
fn the_same_seed_makes_the_same_world() {
    assert_eq!(world().snapshot(), world().snapshot());
}

#[test]
fn a_limit_is_obeyed_and_removed() {
    let mut world = world();
    let key = busiest(&world);
    let limit = Rate::from_bytes_per_second(1_000);
    let limits = PerDirection {
        download: Some(limit),
        upload: None,
    };
    world.apply(&Command::limit(key, limits)).unwrap();
    for _ in 0..5 {
        world.advance(Duration::from_secs(1));
        let row = row(&world, key);
        assert!(row.rate.download <= limit);
        assert_eq!(row.limit.as_ref().unwrap().limits, limits);
    }
    world.apply(&Command::RemoveAll).unwrap();
    assert_eq!(world.snapshot().limited(), 0);
}

#[test]
fn an_id_used_again_is_refused() {
    let mut world = world();
    let mut key = busiest(&world);
    key.start_time += 1;
    let error = world
        .apply(&Command::limit(key, Limits::default()))
        .unwrap_err();
    assert!(matches!(error, CommandError::PidReused(_)));
}

#[test]
fn connections_and_ports_are_there_while_they_are_wanted() {
    let mut world = world();
    let key = busiest(&world);
    assert_eq!(world.snapshot().watched, Default::default());
    let watch = Watch {
        process: Some(key),
        ports: true,
    };
    world.apply(&Command::Watch(watch)).unwrap();
    let watched = world.snapshot().watched.clone();
    let details = watched.details.unwrap();
    assert_eq!(details.key, key);
    let count = row(&world, key).connections as usize;
    assert_eq!(details.connections.len(), count);
    assert_eq!(watched.ports.unwrap().of(key).len(), 2 * count);
    world.apply(&Command::Watch(Watch::default())).unwrap();
    assert_eq!(world.snapshot().watched, Default::default());
}

fn busiest(world: &World) -> ProcessKey {
    let rows = &world.snapshot().processes;
    rows.iter().max_by_key(|row| row.total_rate()).unwrap().key
}

fn row(world: &World, key: ProcessKey) -> &ProcessRow {
    let mut rows = world.snapshot().processes.iter();
    rows.find(|row| row.key == key).unwrap()
}

#[test]
fn what_shares_a_limit_has_it_together() {
    let mut world = world();
    let name = row(&world, busiest(&world)).name.clone();
    let limit = Rate::from_bytes_per_second(100_000);
    let rule = Rule {
        sharing: Sharing::Shared,
        ..Rule::by_hand(
            Target::program(&name),
            PerDirection {
                download: Some(limit),
                upload: None,
            },
        )
    };
    let since = world.snapshot().time;
    world.apply(&Command::Set(Box::new(rule))).unwrap();
    for _ in 0..5 {
        world.advance(Duration::from_secs(1));
        let rows = world.snapshot().processes.iter();
        let rates = rows.filter(|row| row.name == name);
        let sum: u64 = rates.map(|row| row.rate.download.bytes_per_second()).sum();
        let in_force = &world.snapshot().limits[0];
        assert!((99_000..=100_000).contains(&sum), "{sum}");
        assert_eq!(in_force.effect.achieved.download.bytes_per_second(), sum);
        assert_eq!(in_force.since, since);
        assert!(in_force.members > 1);
    }
}

#[test]
fn background_traffic_has_what_others_leave() {
    let mut world = world();
    let key = busiest(&world);
    let rule = Rule::in_background(key.pid);
    world.apply(&Command::Set(Box::new(rule))).unwrap();
    for _ in 0..20 {
        world.advance(Duration::from_secs(1));
        let row = row(&world, key);
        if row.ended {
            return;
        }
        let state = row.limit.as_ref().unwrap();
        let left = state.limits.download.unwrap();
        assert_eq!(state.priority, Priority::Background);
        assert!(row.rate.download <= left, "{} of {left}", row.rate.download);
    }
}

#[test]
fn a_rule_for_a_user_finds_its_processes() {
    let mut world = world();
    let row = row(&world, busiest(&world)).clone();
    let target = Target::User {
        uid: row.uid.unwrap(),
        name: row.user.to_string(),
    };
    let limits = PerDirection {
        download: Some(Rate::ZERO),
        upload: None,
    };
    world.apply(&Command::limit(target, limits)).unwrap();
    let mut rows = world.snapshot().processes.iter();
    assert!(rows.all(|other| other.limit.is_some() == (other.user == row.user)));
}

#[test]
fn everybody_else_has_what_those_leave_who_come_first() {
    let mut world = world();
    let key = busiest(&world);
    let others = |world: &World| -> u64 {
        let rows = world.snapshot().processes.iter();
        let others = rows.filter(|row| row.key != key);
        others.map(|row| row.rate.download.bytes_per_second()).sum()
    };
    let part = Rate::from_bytes_per_second(9_000_000);
    let terms = Terms {
        at_least: PerDirection {
            download: Some(part),
            upload: None,
        },
        ..Terms::default()
    };
    let guaranteed = Rule {
        scope: terms.scope(),
        ..Rule::by_hand(key.pid, PerDirection::default()).with(terms)
    };
    for rule in [guaranteed, Rule::with_high_priority(key.pid)] {
        let is_high = rule.is_high();
        world.apply(&Command::Set(Box::new(rule))).unwrap();
        for _ in 0..10 {
            world.advance(Duration::from_secs(1));
            let row = row(&world, key);
            if row.ended {
                return;
            }
            let its = row.rate.download.bytes_per_second();
            let claims = if is_high { its } else { its.min(9_000_000) };
            let left = 12_500_000_u64.saturating_sub(claims).max(12_500_000 / 20);
            let have = others(&world);
            assert!(have <= left + left / 50, "{have} of {left}, {its} for it");
        }
    }
    world.apply(&Command::RemoveAll).unwrap();
    world.advance(Duration::from_secs(1));
    assert!(world.snapshot().link.is_none());
}
