//! What gets past limits: whether connections of limited processes move more than their limits meet.
//!
//! The programs in the kernel can't tell: of whom they don't know a packet, they meet none. So the sockets
//! themselves are asked, by TCP's own counters, whatever the cause is. Each costs some microseconds, so they are
//! asked only while there are bytes of nobody.

use std::{
    collections::HashMap,
    fmt, io,
    time::{Duration, Instant},
};

use chadthrottle_common::{tag::UNATTRIBUTED, traffic::Direction};

use super::{Engine, enforcement::Enforcement, payload};
use crate::{
    model::{direction::PerDirection, process::ProcessKey},
    process::{descriptors, sockets},
};

/// So many bytes a second of nobody are none that a limit should have held.
const FEW: u64 = 32_768;

/// Of each process no more sockets are asked...
const MOST: usize = 500;

/// ... and with each round no longer than so; who had no turn is asked with the next ones.
const BUDGET: Duration = Duration::from_millis(20);

/// Two looks at a process are at least this far apart.
const APART: Duration = Duration::from_millis(400);

/// A look this old says nothing any more: its process has ended, or is not limited now.
const OLD: Duration = Duration::from_secs(10);

/// Why a limit does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// Its connections move what is counted for nobody.
    Unseen,
    /// The kernel forbids to look at its sockets, and there are bytes of nobody.
    Forbidden,
    /// It has a packet socket, and devices carry what is no process's.
    PacketSocket,
}

impl fmt::Display for Escape {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Unseen => "its connections move more than the kernel shows of them",
            Self::Forbidden => {
                "the kernel forbids looking at its older sockets (kernel.yama.ptrace_scope=3?)"
            }
            Self::PacketSocket => "it has a packet socket, which no limit reaches",
        })
    }
}

/// What came of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    /// It is too early to say.
    Early,
    /// The limit holds.
    Holds,
    /// It does not.
    Escapes(Escape),
}

/// A look at the connections of a limited process.
struct Look {
    at: Instant,
    /// What each had moved, by socket cookie.
    moved: HashMap<u64, PerDirection<u64>>,
    /// What its limits had met.
    met: PerDirection<u64>,
    /// What was nobody's.
    nobodys: u64,
}

/// The latest looks.
#[derive(Default)]
pub struct Escapes {
    looks: HashMap<ProcessKey, Look>,
    /// What was nobody's at the last round, and when that was.
    round: Option<(Instant, u64)>,
}

impl Escapes {
    /// Takes note of how much is nobody's now; returns whether it becomes more.
    fn grows(&mut self, now: Instant, nobodys: u64) -> bool {
        let (before, already) = self.round.replace((now, nobodys)).unwrap_or((now, 0));
        let passed = now.duration_since(before).as_secs_f64();
        (nobodys.saturating_sub(already)) as f64 > FEW as f64 * passed
    }
}

/// Whether connections moved more than limits met, in the directions that are limited, and nobody's bytes can be
/// theirs.
fn escaped(before: &Look, after: &Look, limited: impl Fn(Direction) -> bool) -> bool {
    let nobodys = after.nobodys.saturating_sub(before.nobodys);
    Direction::BOTH.into_iter().any(|direction| {
        let of = |bytes: &PerDirection<u64>| *bytes.get(direction);
        let moved: u64 = (after.moved.iter())
            .filter_map(|(cookie, now)| Some((now, before.moved.get(cookie)?)))
            .map(|(now, then)| of(now).saturating_sub(of(then)))
            .sum();
        let met = of(&after.met).saturating_sub(of(&before.met));
        // What was met may still be in the receiver's queue, and be counted by TCP later.
        let unmet = moved.saturating_sub(met + met / 4 + 2 * FEW);
        limited(direction) && unmet > 0 && nobodys >= unmet / 2
    })
}

impl Engine {
    /// Finds out which limits do not hold: of those for which `due` says so.
    pub(super) fn look_for_escapes(&mut self, due: impl Fn(&Enforcement) -> bool) {
        let is_due = |limit: &Enforcement| limit.in_force && due(limit);
        if !self.owners.limits().any(is_due) {
            return;
        }
        let now = Instant::now();
        let nobodys = match self.kernel.counters.read(UNATTRIBUTED) {
            Ok(counters) => payload(&counters),
            Err(error) => return log::warn!("{error:#}"),
        };
        let grows = self.escapes.grows(now, nobodys);
        let carried = self.uplinks.sends_nobodys(FEW);
        if !grows {
            self.escapes.looks.clear();
        }
        self.escapes.looks.retain(|_, look| look.at.elapsed() < OLD);
        for slot in self.owners.slots() {
            let Some(owner) = self.owners.of_slot(slot).filter(|owner| !owner.is_crowd()) else {
                continue;
            };
            let (key, running) = (owner.identity.key, owner.ended.is_none());
            let Some(limit) = (owner.enforcement.as_ref())
                .filter(|limit| is_due(limit) && !self.rules.is_for_rest(&limit.choice))
            else {
                continue;
            };
            let finding = if carried
                && running
                && limit.limits(Direction::Upload)
                && descriptors::holds_packet_socket(key.pid)
            {
                Finding::Escapes(Escape::PacketSocket)
            } else if !grows || !running {
                Finding::Holds
            } else if now.elapsed() < BUDGET {
                self.compare(slot, key, nobodys)
            } else {
                Finding::Early
            };
            match finding {
                Finding::Early => {}
                Finding::Holds => self.tell_of_escape(slot, None),
                Finding::Escapes(escape) => self.tell_of_escape(slot, Some(escape)),
            }
        }
    }

    /// Compares what a process's connections moved since the last look with what its limits met.
    fn compare(&mut self, slot: u32, key: ProcessKey, nobodys: u64) -> Finding {
        let before = self.escapes.looks.get(&key);
        if before.is_some_and(|before| before.at.elapsed() < APART) {
            return Finding::Early;
        }
        let (readings, _) = match sockets::read(key.pid, MOST, &mut || self.attend()) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Finding::Escapes(Escape::Forbidden);
            }
            // It has ended.
            Err(_) => return Finding::Holds,
        };
        let met = match self.kernel.counters.read(slot) {
            Ok(counters) => PerDirection::of(|direction| counters.met(direction)),
            Err(error) => {
                log::warn!("{error:#}");
                return Finding::Early;
            }
        };
        let moved = (readings.into_iter())
            .filter_map(|reading| Some((reading.cookie, reading.tcp?.bytes())));
        let after = Look {
            at: Instant::now(),
            moved: moved.collect(),
            met,
            nobodys,
        };
        let owner = self.owners.of_slot(slot);
        let Some(limit) = owner.and_then(|owner| owner.enforcement.as_ref()) else {
            return Finding::Early;
        };
        let finding = match self.escapes.looks.get(&key) {
            None => Finding::Early,
            Some(before) if escaped(before, &after, |direction| limit.limits(direction)) => {
                Finding::Escapes(Escape::Unseen)
            }
            Some(_) => Finding::Holds,
        };
        self.escapes.looks.insert(key, after);
        finding
    }

    fn tell_of_escape(&mut self, slot: u32, escape: Option<Escape>) {
        let Some(owner) = self.owners.of_slot_mut(slot) else {
            return;
        };
        let Some(limit) = &mut owner.enforcement else {
            return;
        };
        if limit.escape == escape {
            return;
        }
        limit.escape = escape;
        let who = format!("{} ({})", owner.identity.name, owner.pid());
        match escape {
            Some(escape) => {
                (self.notices).warn(format!("the limit of {who} does not hold: {escape}"))
            }
            // Or nothing moves.
            None => log::info!("nothing gets past the limit of {who} any more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(moved: u64, met: u64, nobodys: u64) -> Look {
        let down = |bytes| PerDirection {
            download: bytes,
            upload: 0,
        };
        Look {
            at: Instant::now(),
            moved: HashMap::from([(7, down(moved))]),
            met: down(met),
            nobodys,
        }
    }

    #[test]
    fn what_connections_move_and_limits_do_not_meet_escapes() {
        let before = look(1_000_000, 0, 0);
        let limited = |direction| direction == Direction::Download;
        for (moved, met, nobodys, escapes) in [
            // All of it, and half of it.
            (9_000_000, 0, 8_000_000, true),
            (9_000_000, 4_000_000, 4_000_000, true),
            // It is met, though TCP counts later.
            (9_000_000, 8_000_000, 0, false),
            (9_000_000, 7_000_000, 9_000_000, false),
            // Nobody's bytes are too few to be its: another process has the connection, too.
            (9_000_000, 0, 100_000, false),
        ] {
            let after = look(moved, met, nobodys);
            assert_eq!(escaped(&before, &after, limited), escapes, "{moved} {met}");
            assert!(!escaped(&before, &after, |_| false), "nothing is limited");
        }
    }

    #[test]
    fn a_connection_that_is_new_says_nothing() {
        let mut before = look(0, 0, 0);
        before.moved.clear();
        let after = look(9_000_000, 0, 9_000_000);
        assert!(!escaped(&before, &after, |_| true));
    }

    #[test]
    fn a_trickle_is_no_reason_to_look() {
        let mut escapes = Escapes::default();
        let begin = Instant::now();
        let second = Duration::from_secs(1);
        assert!(!escapes.grows(begin, 0));
        assert!(!escapes.grows(begin + second, 30_000));
        assert!(escapes.grows(begin + 2 * second, 70_000));
        assert!(!escapes.grows(begin + 3 * second, 70_000));
    }
}
