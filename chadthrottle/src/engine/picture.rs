//! The picture that is published: what is known of processes and limits.

use std::{collections::HashMap, time::SystemTime};

use chadthrottle_common::traffic::Direction;

use super::{
    Engine,
    cells::Done,
    enforcement::{Enforcement, Expected},
    owners::Owner,
};
use crate::{
    model::{
        direction::PerDirection,
        limit::{Effect, LimitId, LimitRow, Mechanism},
        rule::Scope,
        snapshot::{ProcessRow, Snapshot},
    },
    rate::{Bytes, Rate},
};

impl Engine {
    /// What is known now, without new readings: after a command, its effect is on the screen at
    /// once. It has the sequence number of the sample before.
    pub(super) fn picture(&mut self) -> Snapshot {
        let mut processes = Vec::with_capacity(self.owners.len());
        let expected = self.pacing.expected();
        for slot in self.owners.slots() {
            self.attend();
            if let Some(owner) = self.owners.of_slot(slot) {
                processes.push(self.row(owner, &expected));
            }
        }
        let (mechanism, why_policing) = together(self.owners.limits(), &expected);
        Snapshot {
            sequence: self.totals.sequence,
            time: SystemTime::now(),
            interval: self.totals.interval,
            total: self.totals.bytes.map(Bytes::new),
            total_rate: self.totals.rate,
            devices: self.uplinks.devices(),
            link: match self.rules.is_link_shared() {
                true => self.background.link(&self.uplinks),
                false => None,
            },
            unattributed: PerDirection::of(|direction| {
                Bytes::new(self.unattributed.passed(direction).payload)
            }),
            processes,
            limits: self.limit_rows(&expected),
            mechanism,
            why_policing,
            notices: self.notices.latest(),
            watched: self.watching.watched(),
        }
    }

    /// A process's row of the table, with its limits.
    fn row(&self, owner: &Owner, expected: &Expected) -> ProcessRow {
        let mut row = owner.row();
        let Some(enforcement) = &owner.enforcement else {
            return row;
        };
        let limits = enforcement.choice.limits;
        let rate = row.rate;
        [row.limit, row.local_limit] = self.rules.states(&limits, |scope, by| {
            let admitted = owner.admitted();
            let achieved = |bytes: PerDirection<u64>| {
                bytes.map(|bytes| Rate::over(bytes, self.totals.interval))
            };
            let achieved = match scope {
                Scope::All => rate,
                Scope::Internet => achieved(admitted.map(|by| by.internet)),
                Scope::Local => achieved(admitted.map(|by| by.local)),
            };
            self.effect(enforcement, by, achieved, expected)
        });
        row.limits = self.rules.listed(limits);
        row
    }

    /// What the limits of a part of a process's traffic do.
    fn effect(
        &self,
        enforcement: &Enforcement,
        by: PerDirection<Option<LimitId>>,
        achieved: PerDirection<Rate>,
        expected: &Expected,
    ) -> Effect {
        let mut done = Done::default();
        for direction in Direction::BOTH {
            let cell = by.get(direction).and_then(|id| {
                let own = enforcement.own_cell(id, direction);
                own.or_else(|| self.cells.shared(id, direction))
            });
            if let Some(cell) = cell {
                done.add(cell);
            }
        }
        let (mechanism, why_policing) = enforcement.mechanism(expected);
        Effect {
            achieved,
            dropped: done.dropped,
            marked: done.marked,
            delay: done.delay,
            mechanism,
            why_policing,
            not_enforced: enforcement.not_enforced(),
            settling: done.settling,
        }
    }

    /// The rules in force, and what each does.
    fn limit_rows(&self, expected: &Expected) -> Vec<LimitRow> {
        let mut members: HashMap<LimitId, Vec<&Owner>> = HashMap::new();
        for owner in self.owners.iter() {
            if let Some(Enforcement { choice, .. }) = &owner.enforcement {
                for id in choice.ids() {
                    members.entry(id).or_default().push(owner);
                }
            }
        }
        let active = self.rules.iter().filter(|active| !active.ended);
        let rows = active.map(|active| {
            let owners = members.remove(&active.id).unwrap_or_default();
            let enforcements = || owners.iter().filter_map(|owner| owner.enforcement.as_ref());
            let mut done = self.cells.done(active.id);
            let own = enforcements().flat_map(|enforcement| &enforcement.own);
            for cell in own.filter(|cell| cell.limit == active.id) {
                done.add(cell);
            }
            let used = self.usage.of(active.id);
            let (mechanism, why_policing) = together(enforcements(), expected);
            LimitRow {
                id: active.id,
                rule: active.rule.clone(),
                since: active.since,
                members: owners.iter().filter(|owner| owner.ended.is_none()).count() as u32,
                bytes: used.bytes,
                effect: Effect {
                    achieved: used.achieved,
                    dropped: done.dropped,
                    marked: done.marked,
                    delay: done.delay,
                    mechanism,
                    why_policing,
                    not_enforced: enforcements().find_map(Enforcement::not_enforced),
                    settling: done.settling,
                },
            }
        });
        rows.collect()
    }
}

/// The mechanism of several limits together.
fn together<'a>(limits: impl Iterator<Item = &'a Enforcement>, expected: &Expected) -> Expected {
    limits
        .map(|limit| limit.mechanism(expected))
        .reduce(|all, one| {
            let why = all.1.or(one.1);
            let mechanism = if all.0 == one.0 {
                one.0
            } else {
                Mechanism::Mixed
            };
            (mechanism, why)
        })
        .unwrap_or_else(|| expected.clone())
}
