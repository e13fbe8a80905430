//! The world itself: who moves how much, and who comes and goes.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use chadthrottle_common::{address::TrafficClass, traffic::Direction};

use super::{
    cast::{self, PROGRAMS, Program},
    connections,
};
use crate::{
    engine::in_force::RulesInForce,
    model::{
        command::{Command, CommandError},
        connections::{Details, Watch, Watched},
        direction::{Limits, PerDirection},
        limit::{Effect, LimitId, LimitRow, LimitState, Mechanism},
        notice::{Notice, Severity},
        process::{Identity, Pid, ProcessId, ProcessKey},
        rule::{Origin, Rule, Sharing},
        snapshot::{ProcessRow, Snapshot},
    },
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
    pub(super) program: &'static Program,
    /// The most it moves in a second.
    most: PerDirection<u64>,
    /// What it would move this second if nothing limited it.
    wanted: PerDirection<u64>,
    quiet: bool,
    ended_since: Option<SystemTime>,
}

/// The made-up world. It moves only when [`World::advance`] is called.
pub struct World {
    chance: Chance,
    actors: Vec<Actor>,
    next_pid: u32,
    rules: RulesInForce,
    watch: Watch,
    snapshot: Snapshot,
}

impl World {
    /// A world with that many processes at the start.
    pub fn new(seed: u64, processes: usize, start: SystemTime) -> Self {
        let mut world = Self {
            chance: Chance(seed),
            actors: Vec::new(),
            next_pid: 812,
            rules: RulesInForce::default(),
            watch: Watch::default(),
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
        let shares = self.shares();
        for actor in &mut self.actors {
            actor.move_on(&shares, interval, &mut self.snapshot);
        }
        for in_force in self.rules.iter_mut() {
            let members = self.actors.iter().filter(|actor| {
                let limit = actor.row.limit.as_ref();
                limit.is_some_and(|limit| limit.id == in_force.id)
            });
            let sum = members.fold(PerDirection::default(), |sum: PerDirection<u64>, actor| {
                PerDirection::of(|d| sum.get(d) + actor.row.rate.get(d).bytes_per_second())
            });
            let seconds = interval.as_secs_f64();
            in_force.achieved = sum.map(Rate::from_bytes_per_second);
            in_force.bytes =
                PerDirection::of(|d| in_force.bytes.get(d) + (*sum.get(d) as f64 * seconds) as u64);
        }
        self.come_and_go();
        self.show();
    }

    /// What each limit that is shared leaves of what its processes want, in millionths.
    fn shares(&self) -> HashMap<LimitId, PerDirection<u64>> {
        let mut wanted: HashMap<LimitId, PerDirection<u64>> = HashMap::new();
        for actor in self.actors.iter().filter(|actor| !actor.row.ended) {
            if let Some(limit) = &actor.row.limit
                && limit.sharing == Sharing::Shared
            {
                let sum = wanted.entry(limit.id).or_default();
                *sum = PerDirection::of(|d| sum.get(d) + actor.wanted.get(d));
            }
        }
        let share = |(id, sum): (LimitId, PerDirection<u64>)| {
            let limits = self.rules.get(id)?.rule.limits;
            let share = PerDirection::of(|d| match *limits.get(d) {
                Some(rate) => (rate.bytes_per_second().saturating_mul(1_000_000)
                    / sum.get(d).max(&1))
                .min(1_000_000),
                None => 1_000_000,
            });
            Some((id, share))
        };
        wanted.into_iter().filter_map(share).collect()
    }

    /// Carries a command out, as a real engine would.
    ///
    /// # Errors
    ///
    /// As a real engine would: the process has ended, or its id is another's.
    pub fn apply(&mut self, command: &Command) -> Result<(), CommandError> {
        match command {
            Command::Set(rule) => self.set(Rule::clone(rule)).map(|_| ())?,
            Command::SetFile(rules) => {
                let stays = |old: &Rule| rules.iter().any(|rule| rule.replaces(old));
                let gone = |old: &Rule| matches!(old.origin, Origin::File(_)) && !stays(old);
                let of_file = self.rules.iter().filter(|old| gone(&old.rule));
                for id in of_file.map(|old| old.id).collect::<Vec<LimitId>>() {
                    self.rules.remove(id);
                }
                let ids: Result<Vec<LimitId>, CommandError> = rules
                    .iter()
                    .filter_map(|rule| self.set(rule.clone()).transpose())
                    .collect();
                self.rules.order(&ids?);
            }
            Command::Remove(id) => {
                self.rules.remove(*id).ok_or(CommandError::NoSuchLimit)?;
            }
            Command::RemoveAll => self.rules = RulesInForce::default(),
            Command::Watch(watch) => self.watch = *watch,
            Command::SetInterval(_) => {}
        }
        self.limit_all();
        self.show();
        Ok(())
    }

    fn set(&mut self, mut rule: Rule) -> Result<Option<LimitId>, CommandError> {
        rule.target = rule.target.resolved(&|process| self.find(process))?;
        let replaced = self.rules.replaced_by(&rule);
        if rule.limits.is_unlimited() && !rule.metered {
            if let Some(id) = replaced {
                self.rules.remove(id);
            }
            return Ok(None);
        }
        let in_force = replaced.and_then(|id| self.rules.get_mut(id));
        Ok(Some(match in_force {
            Some(in_force) => {
                in_force.rule = rule;
                in_force.id
            }
            None => {
                let id = self.rules.insert(rule);
                if let Some(in_force) = self.rules.get_mut(id) {
                    in_force.since = self.snapshot.time;
                }
                id
            }
        }))
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
    fn limit_all(&mut self) {
        for actor in &mut self.actors {
            let choice = self.rules.choose(&actor.identity(), Vec::new);
            let state = |class: TrafficClass| {
                let by = choice.limits.map(|by| by[class.index()]);
                let id = by.into_iter().flatten().next()?;
                let limits = Limits::of(|direction| {
                    let rule = &self.rules.get(by[direction.index()]?)?.rule;
                    *rule.limits.get(direction)
                });
                let rule = &self.rules.get(id)?.rule;
                let mut state = LimitState::new(id, limits, Mechanism::Pacing);
                state.sharing = rule.sharing;
                state.scope = rule.scope;
                Some(state)
            };
            let (internet, local) = (state(TrafficClass::Internet), state(TrafficClass::Local));
            let same = internet.as_ref().map(|state| state.id) == local.as_ref().map(|s| s.id);
            let before = actor.row.limit.take();
            actor.row.limit = internet.map(|state| match before {
                Some(before) if before.id == state.id => LimitState {
                    effect: before.effect,
                    ..state
                },
                _ => state,
            });
            actor.row.local_limit = local.filter(|_| !same);
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
                user: program.user.into(),
                uid: Some(cast::uid(program.user)),
                cgroup: program.cgroup.into(),
                connections: 1 + self.chance.below(24) as u32,
                bytes: PerDirection::default(),
                rate: PerDirection::default(),
                limit: None,
                local_limit: None,
                ended: false,
            },
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
        actor.row.limit = None;
        actor.row.local_limit = None;
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
        let in_force = self.rules.iter().filter(|in_force| !in_force.ended);
        let rows = in_force.map(|in_force| {
            let states = self
                .actors
                .iter()
                .filter_map(|actor| actor.row.limit.as_ref());
            let states = states.filter(|state| state.id == in_force.id);
            let mut effect = Effect::none(Mechanism::Pacing);
            let mut members = 0;
            for state in states {
                members += 1;
                for direction in Direction::BOTH {
                    let delay = effect.delay.get_mut(direction);
                    *delay = (*delay).max(*state.effect.delay.get(direction));
                    let dropped = effect.dropped.get_mut(direction);
                    let more = state.effect.dropped.get(direction).count();
                    *dropped = Bytes::new(dropped.count() + more);
                }
            }
            effect.achieved = in_force.achieved;
            LimitRow {
                id: in_force.id,
                rule: in_force.rule.clone(),
                since: in_force.since,
                members,
                bytes: in_force.bytes.map(Bytes::new),
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
    /// Who it is, for rules.
    fn identity(&self) -> Identity {
        Identity {
            key: self.row.key,
            name: self.row.name.clone(),
            exe: self.row.exe.clone(),
            command_line: self.row.exe.clone(),
            user: self.row.user.clone(),
            uid: self.row.uid,
            cgroup: self.row.cgroup.clone(),
            kernel_thread: false,
        }
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
        shares: &HashMap<LimitId, PerDirection<u64>>,
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
                rate = match shares.get(&state.id) {
                    Some(share) => wanted * share.get(direction) / 1_000_000,
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
