//! How the made-up world's link is shared.

use std::time::Duration;

use super::world::{Actor, World};
use crate::{
    model::{
        direction::{Limits, PerDirection},
        link::{Link, LinkDirection, Why},
        priority::Priority,
    },
    rate::Rate,
};

/// How fast the link is, in bytes a second, and what background traffic has of it in any case.
const LINK: PerDirection<u64> = PerDirection {
    download: 12_500_000,
    upload: 5_000_000,
};
const TRICKLE: u64 = 100_000;
/// Everybody else has one such part of it at the least.
const KEPT: u64 = 20;
const ROUND_TRIP: Duration = Duration::from_millis(23);

impl World {
    /// Whoever comes before everybody else has the link first, then everybody else; background traffic has what others
    /// don't take, and a trickle in any case.
    pub(super) fn share_link(&mut self) {
        self.snapshot.link = None;
        let rest = self.left_to_everybody_else();
        self.rules.hold_everybody_else(rest);
        if !self.rules.is_link_shared() {
            return;
        }
        let is_background = |actor: &Actor| {
            let limit = actor.row.limit.as_ref();
            limit.is_some_and(|limit| limit.priority == Priority::Background)
        };
        let mut others_use = PerDirection::default();
        let left = Limits::of(|direction| {
            let others = self
                .actors
                .iter()
                .filter(|actor| !actor.row.ended && !is_background(actor));
            let taken: u64 = others.map(|actor| *actor.wanted.get(direction)).sum();
            let seen = taken.min(*LINK.get(direction));
            *others_use.get_mut(direction) = Rate::from_bytes_per_second(seen);
            let said = self
                .said
                .0
                .get(direction)
                .map_or(u64::MAX, Rate::bytes_per_second);
            let left = (*LINK.get(direction))
                .min(said)
                .saturating_sub(taken)
                .max(TRICKLE);
            Some(Rate::from_bytes_per_second(left))
        });
        self.rules.set_background(|active| {
            let ceiling = active.rule.ceiling;
            Limits::of(|direction| {
                let rates = [*left.get(direction), *ceiling.get(direction)];
                rates.into_iter().flatten().min()
            })
        });
        self.snapshot.link = Some(Link {
            device: "eth0".into(),
            directions: PerDirection::of(|direction| LinkDirection {
                carries: Some(Rate::from_bytes_per_second(*LINK.get(direction))),
                said: *self.said.0.get(direction),
                others: *others_use.get(direction),
                background: left.get(direction).unwrap_or_default(),
                queue: Duration::ZERO,
                round_trip: Some(ROUND_TRIP),
                why: Why::Shares,
            }),
        });
        self.limit_all();
    }

    /// What those leave of the link who come before everybody else; nothing while they do not use it.
    fn left_to_everybody_else(&self) -> Limits {
        let rules = &self.rules;
        let first = |actor: &&Actor| !actor.row.ended && rules.is_important(&actor.choice);
        let first: Vec<&Actor> = self.actors.iter().filter(first).collect();
        Limits::of(|direction| {
            let claims = first.iter().map(|actor| {
                let wanted = *actor.wanted.get(direction);
                let limit = actor.row.limit.as_ref();
                let at_least = limit.and_then(|limit| *limit.at_least.get(direction));
                match limit.is_some_and(|limit| limit.priority == Priority::High) {
                    true => wanted,
                    false => at_least.map_or(0, |part| wanted.min(part.bytes_per_second())),
                }
            });
            let claimed: u64 = claims.sum();
            let link = *LINK.get(direction);
            let left = link.saturating_sub(claimed).max(link / KEPT);
            (claimed > 0).then_some(Rate::from_bytes_per_second(left))
        })
    }
}
