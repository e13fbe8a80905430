use super::*;
use crate::{
    engine::{
        command::CommandError,
        connections::Watch,
        snapshot::{Limits, PerDirection, ProcessRow},
    },
    process::ProcessKey,
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
