//! The world itself: who moves how much, and who comes and goes.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use chadthrottle_common::traffic::Direction;

use super::{
    cast::{self, PROGRAMS, Program},
    connections,
};
use crate::{
    model::{
        command::{Command, CommandError},
        connections::{Details, Watch, Watched},
        direction::{PerClass, PerDirection},
        limit::{Effect, EffectiveLimits, LimitId, LimitRow, Mechanism},
        link::LinkSpeed,
        notice::{Notice, Severity},
        process::{Pid, ProcessId, ProcessKey},
        rule::Sharing,
        snapshot::{ProcessRow, Snapshot},
    },
    policy::{active::ActiveRules, choose::Choice, usage::Usage},
    rate::{Bytes, Rate},
};

/// How often a process is quiet, in a hundred.
const QUIET_PERCENT: u64 = 35;

/// How long an ended process stays in the list.
const ENDED_FOR: Duration = Duration::from_secs(20);

/// Chance as a seed decides it (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Debug)]
pub(super) struct Actor {
    pub(super) row: ProcessRow,
    /// What counts for it.
    pub(super) choice: Choice,
    pub(super) program: &'static Program,
    /// The most it moves in a second.
    most: PerDirection<u64>,
    /// What it would move this second if nothing limited it.
    pub(super) wanted: PerDirection<u64>,
    quiet: bool,
    ended_since: Option<SystemTime>,
}

/// The made-up world. It moves only when [`World::advance`] is called.
pub struct World {
    chance: Chance,
    pub(super) actors: Vec<Actor>,
    next_pid: u32,
    pub(super) rules: ActiveRules,
    usage: Usage,
    watch: Watch,
    /// What somebody said of the link.
    pub(super) said: LinkSpeed,
    pub(super) snapshot: Snapshot,
}

impl World {
    /// A world with that many processes at the start.
    pub fn new(seed: u64, processes: usize, start: SystemTime) -> Self {
        let mut world = Self {
            chance: Chance(seed),
            actors: Vec::new(),
            next_pid: 812,
            rules: ActiveRules::default(),
            usage: Usage::default(),
            watch: Watch::default(),
            said: LinkSpeed::default(),
            snapshot: Snapshot {
                interval: Duration::from_secs(1),
                ..Snapshot::empty(start)
            },
        };
        for index in 0..processes {
            world.start_process(index % PROGRAMS.len());
        }
        world.notice(
            Severity::Info,
            "a made-up world: nothing here is real".into(),
        );
        world.show();
        world
    }

    /// What it looks like now.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Moves it on.
    pub fn advance(&mut self, interval: Duration) {
        self.snapshot.sequence += 1;
        self.snapshot.time += interval;
        self.snapshot.interval = interval;
        self.snapshot.total_rate = PerDirection::default();
        for actor in &mut self.actors {
            actor.wish(&mut self.chance);
        }
        self.share_link();
        let shares = self.shares();
        for actor in &mut self.actors {
            actor.move_on(&shares, interval, &mut self.snapshot);
        }
        let moved = self
            .actors
            .iter()
            .map(|actor| (&actor.choice, actor.moved(interval)));
        self.usage.add(&self.rules, moved, interval);
        self.come_and_go();
        self.show();
    }

    /// What each limit leaves of what its processes want, in millionths.
    fn shares(&self) -> HashMap<(Direction, LimitId), u64> {
        let mut wanted: HashMap<(Direction, LimitId), u64> = HashMap::new();
        for actor in self.actors.iter().filter(|actor| !actor.row.ended) {
            for (direction, id) in actor.limits() {
                let sum = wanted.entry((direction, id)).or_default();
                *sum += actor.wanted.get(direction);
            }
        }
        let share = |((direction, id), sum): ((Direction, LimitId), u64)| {
            let rule = &self.rules.get(id)?.rule;
            let rate = (*rule.limits.get(direction))?.bytes_per_second();
            let share = (rate.saturating_mul(1_000_000) / sum.max(1)).min(1_000_000);
            (rule.sharing == Sharing::Shared).then_some(((direction, id), share))
        };
        wanted.into_iter().filter_map(share).collect()
    }

    /// Carries a command out, as a real engine would.
    ///
    /// # Errors
    ///
    /// As a real engine would: the process has ended, or its id is another's.
    pub fn apply(&mut self, command: &Command) -> Result<(), CommandError> {
        let now = self.snapshot.time;
        let (rules, _) = self
            .rules
            .after(command, now, &|process| self.find(process))?;
        self.rules = rules;
        if let Command::Watch(watch) = command {
            self.watch = *watch;
        }
        if let Command::SetLinkSpeed(said) = command {
            self.said = *said;
        }
        self.limit_all();
        self.show();
        Ok(())
    }

    fn find(&self, process: ProcessId) -> Result<ProcessKey, CommandError> {
        let pid = process.pid;
        let actor = self
            .actors
            .iter()
            .find(|actor| actor.row.pid() == pid && !actor.row.ended)
            .ok_or(CommandError::NoSuchProcess(pid))?;
        if process.is(actor.row.key) {
            Ok(actor.row.key)
        } else {
            Err(CommandError::PidReused(pid))
        }
    }

    /// Gives every actor the limits that count for it.
    pub(super) fn limit_all(&mut self) {
        for actor in &mut self.actors {
            let row = &mut actor.row;
            let before = actor.choice.limits;
            actor.choice = match row.ended {
                true => Choice::default(),
                false => self.rules.choose(&row.identity(), Vec::new),
            };
            let limits = actor.choice.limits;
            row.limits = self.rules.listed(limits);
            let same = limits == before;
            let mut effects = [row.limit.take(), row.local_limit.take()]
                .into_iter()
                .flatten();
            [row.limit, row.local_limit] = self.rules.states(&limits, |_, _| {
                let effect = effects.next().filter(|_| same);
                effect.map_or(Effect::none(Mechanism::Pacing), |state| state.effect)
            });
        }
    }

    fn start_process(&mut self, program: usize) {
        let program = &PROGRAMS[program % PROGRAMS.len()];
        let [download, upload] = program.most;
        let pid = self.next_pid;
        self.next_pid += 1 + self.chance.below(900) as u32;
        let share = 20 + self.chance.below(80);
        self.actors.push(Actor {
            row: ProcessRow {
                key: ProcessKey {
                    pid: Pid(pid),
                    start_time: u64::from(pid),
                },
                name: program.name.into(),
                exe: program.exe.into(),
                command_line: program.exe.into(),
                user: program.user.into(),
                uid: Some(cast::uid(program.user)),
                cgroup: program.cgroup.into(),
                connections: 1 + self.chance.below(24) as u32,
                bytes: PerDirection::default(),
                rate: PerDirection::default(),
                limits: EffectiveLimits::default(),
                limit: None,
                local_limit: None,
                ended: false,
            },
            choice: Choice::default(),
            program,
            most: PerDirection {
                download: download * share / 100,
                upload: upload * share / 100,
            },
            wanted: PerDirection::default(),
            quiet: self.chance.percent(QUIET_PERCENT),
            ended_since: None,
        });
    }

    /// Now and then a process ends and another starts.
    fn come_and_go(&mut self) {
        let now = self.snapshot.time;
        self.actors.retain(|actor| {
            actor
                .ended_since
                .is_none_or(|since| now.duration_since(since).is_ok_and(|age| age < ENDED_FOR))
        });
        if self.actors.is_empty() || !self.chance.percent(4) {
            return;
        }
        let victim = self.chance.below(self.actors.len() as u64) as usize;
        let actor = &mut self.actors[victim];
        if actor.ended_since.is_some() {
            return;
        }
        actor.ended_since = Some(now);
        actor.row.ended = true;
        actor.row.connections = 0;
        actor.row.rate = PerDirection::default();
        let limited = self.rules.process_ended(actor.row.key);
        let text = format!(
            "{} ({}) ended while limited",
            actor.row.name,
            actor.row.pid()
        );
        if limited {
            self.notice(Severity::Info, text);
        }
        let program = self.chance.below(PROGRAMS.len() as u64) as usize;
        self.start_process(program);
        self.limit_all();
    }

    fn notice(&mut self, severity: Severity, text: String) {
        let id = self.snapshot.notices.last().map_or(0, |last| last.id + 1);
        self.snapshot.notices.push(Notice {
            id,
            time: self.snapshot.time,
            severity,
            text,
        });
    }

    /// The process that a person's terminal would hang on.
    pub fn carrier(&self) -> Option<ProcessKey> {
        let mut actors = self.actors.iter();
        let session = actors.find(|actor| actor.program.name == "sshd-session");
        session.map(|actor| actor.row.key)
    }

    fn show(&mut self) {
        self.snapshot.processes = self.actors.iter().map(|actor| actor.row.clone()).collect();
        let active = self.rules.iter().filter(|active| !active.ended);
        let rows = active.map(|active| {
            let mut effect = Effect::none(Mechanism::Pacing);
            let limits = |actor: &&Actor| actor.choice.ids().contains(&active.id);
            let members: Vec<&Actor> = self.actors.iter().filter(limits).collect();
            for actor in &members {
                let of_rule = actor.limits().filter(|(_, id)| *id == active.id);
                for (direction, _) in of_rule {
                    let states = [&actor.row.limit, &actor.row.local_limit];
                    for state in states.into_iter().flatten() {
                        let delay = effect.delay.get_mut(direction);
                        *delay = (*delay).max(*state.effect.delay.get(direction));
                        let dropped = effect.dropped.get_mut(direction);
                        let more = state.effect.dropped.get(direction).count();
                        *dropped = Bytes::new(dropped.count() + more);
                    }
                }
            }
            let used = self.usage.of(active.id);
            effect.achieved = used.achieved;
            LimitRow {
                id: active.id,
                rule: active.rule.clone(),
                since: active.since,
                members: members.len() as u32,
                bytes: used.bytes,
                effect,
            }
        });
        self.snapshot.limits = rows.collect();
        let of = |actor: &Actor| connections::of(actor, self.snapshot.sequence);
        let mut actors = self.actors.iter().filter(|actor| !actor.row.ended);
        let watched = self.watch.process;
        self.snapshot.watched = Watched {
            details: watched.map(|key| {
                let actor = actors.find(|actor| actor.row.key == key);
                Arc::new(Details {
                    key,
                    connections: actor.map(of).unwrap_or_default(),
                    missing: None,
                })
            }),
            ports: self.watch.ports.then(|| {
                let ports = |actor: &Actor| (actor.row.key, connections::ports(&of(actor)));
                Arc::new(self.actors.iter().map(ports).collect())
            }),
        };
    }
}

impl Actor {
    /// The limits of its traffic, all of which is with the internet.
    fn limits(&self) -> impl Iterator<Item = (Direction, LimitId)> {
        let limits = self.choice.limits;
        let directions = Direction::BOTH.into_iter();
        directions.filter_map(move |d| Some((d, limits.get(d).internet?)))
    }

    /// What it moved in the last interval.
    fn moved(&self, interval: Duration) -> PerDirection<PerClass<u64>> {
        let rate = self.row.rate.map(Rate::bytes_per_second);
        rate.map(|rate| PerClass {
            internet: (rate as f64 * interval.as_secs_f64()) as u64,
            local: 0,
        })
    }

    /// What it would move this second if nothing limited it.
    fn wish(&mut self, chance: &mut Chance) {
        if self.row.ended {
            return;
        }
        if chance.percent(5) {
            self.quiet = chance.percent(QUIET_PERCENT);
        }
        for direction in Direction::BOTH {
            let most = *self.most.get(direction);
            let wanted = self.wanted.get_mut(direction);
            *wanted = if self.quiet {
                0
            } else {
                // Halfway to a new wish, so that rates wander rather than leap.
                (*wanted + most / 4 + chance.below(most.max(1) * 3 / 4 + 1)) / 2
            };
        }
    }

    fn move_on(
        &mut self,
        shares: &HashMap<(Direction, LimitId), u64>,
        interval: Duration,
        world: &mut Snapshot,
    ) {
        if self.row.ended {
            return;
        }
        for direction in Direction::BOTH {
            let wanted = *self.wanted.get(direction);
            let mut rate = wanted;
            if let Some(state) = &mut self.row.limit
                && let Some(limit) = *state.limits.get(direction)
            {
                let id = self.choice.limits.get(direction).internet;
                rate = match id.and_then(|id| shares.get(&(direction, id))) {
                    Some(share) => wanted * share / 1_000_000,
                    None => rate.min(limit.bytes_per_second()),
                };
                *state.effect.achieved.get_mut(direction) = Rate::from_bytes_per_second(rate);
                let held = rate < wanted && limit > Rate::ZERO;
                *state.effect.delay.get_mut(direction) =
                    Duration::from_millis(if held { 140 } else { 0 });
                // TCP backs off: little of what was wanted is dropped.
                let dropped = state.effect.dropped.get_mut(direction);
                *dropped = add(*dropped, (wanted - rate) / 200, interval);
            }
            // A little belongs to nobody: packets of the kernel's own.
            let nobody = rate / 900;
            *self.row.rate.get_mut(direction) = Rate::from_bytes_per_second(rate);
            let bytes = self.row.bytes.get_mut(direction);
            *bytes = add(*bytes, rate, interval);
            let total = world.total.get_mut(direction);
            *total = add(*total, rate + nobody, interval);
            let unattributed = world.unattributed.get_mut(direction);
            *unattributed = add(*unattributed, nobody, interval);
            let total_rate = world.total_rate.get_mut(direction);
            *total_rate =
                Rate::from_bytes_per_second(total_rate.bytes_per_second() + rate + nobody);
        }
    }
}

fn add(bytes: Bytes, rate: u64, interval: Duration) -> Bytes {
    let moved = (rate as f64 * interval.as_secs_f64()) as u64;
    Bytes::new(bytes.count().saturating_add(moved))
}
