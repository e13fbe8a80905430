//! What is told of a [`Capacity`].

use std::time::Duration;

use super::{BELIEVED, Capacity, phase::Phase};
use crate::{
    model::link::{LinkDirection, Why},
    rate::Rate,
};

impl Capacity {
    /// All that is known.
    pub fn state(&self, now: Duration) -> LinkDirection {
        let is_known = self.knee > 0.0 && self.phase != Phase::Begin;
        LinkDirection {
            carries: is_known.then(|| Rate::from_bytes_per_second(self.knee as u64)),
            said: self
                .said
                .map(|said| Rate::from_bytes_per_second((said / BELIEVED) as u64)),
            others: self.others(now),
            background: self.left(),
            queue: self.queue,
            round_trip: self.base(),
            why: self.why(),
        }
    }

    fn why(&self) -> Why {
        match self.phase {
            Phase::Begin | Phase::Listen { .. } => Why::Seeks,
            Phase::Curve { .. } | Phase::Insist { .. } | Phase::Keep => Why::Shares,
            Phase::GiveWay { .. } => Why::GivesWay,
            Phase::Drain(_) => Why::Drains,
            Phase::Yield { .. } | Phase::Try { .. } | Phase::Polite { .. } | Phase::Look { .. } => {
                Why::Yields
            }
        }
    }
}
