//! Limits in force: where their packets are met, and whether all of them are.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::PathBuf,
    time::Instant,
};

use chadthrottle_common::traffic::{Counters, Direction};

use super::{cells::LimitCell, escapes::Escape};
use crate::{
    model::{
        direction::PerDirection,
        limit::{LimitId, Mechanism},
    },
    pacing::{Device, Unpaced},
    policy::choose::Choice,
};

/// A mechanism, and why it is not pacing everywhere.
pub type Expected = (Mechanism, Option<String>);

/// The cgroup that contains all others.
pub(super) const ROOT: &str = "/";

/// Checks in a row that must find unmet bytes before the throttle pair is moved up. The counters
/// are read one after the other, so a single check may catch a packet in between.
const PATIENCE: u32 = 2;

/// Between two readings pass no more bytes than these: some packets of 64 KiB, each on a processor that was
/// interrupted after the observers had counted it. What is more is told of at the first check.
const BETWEEN_READINGS: u64 = 262_144;

/// What is in force for a process.
pub struct Enforcement {
    /// Which limits count.
    pub choice: Choice,
    /// The cells that it has to itself.
    pub own: Vec<LimitCell>,
    /// Since when.
    pub since: Instant,
    /// Whether its process's slot names its limits. Before it does, its devices are not ready, and what would be
    /// sent by them may be held.
    pub in_force: bool,
    /// The cgroups whose packets must meet the throttle pair.
    pub cgroups: BTreeSet<PathBuf>,
    /// The difference between what the observers had seen and what the throttle pair had met at the first check
    /// after a direction came to be limited: what passed until the limit was in force is none of its business.
    baseline: PerDirection<Option<u64>>,
    unmet: PerDirection<u64>,
    unmet_in_a_row: u32,
    /// Whether it is told that the pair does not meet all.
    is_missed: bool,
    /// Why it does not hold, if what gets past it was found.
    pub escape: Option<Escape>,
    /// The devices that its packets leave by, and whether they can be paced there.
    roads: BTreeMap<Device, Result<(), Unpaced>>,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The throttle pair meets what the observers see.
    Met,
    /// It does not: sockets of the process live in another cgroup. The pair must go to the root.
    Climb,
}

impl Enforcement {
    /// Limits that come into force at the cgroup of their process.
    pub fn new(choice: Choice, cgroup: &str, now: Instant) -> Self {
        Self {
            choice,
            own: Vec::new(),
            since: now,
            in_force: false,
            cgroups: BTreeSet::from([PathBuf::from(if cgroup.is_empty() { ROOT } else { cgroup })]),
            baseline: PerDirection::default(),
            unmet: PerDirection::default(),
            unmet_in_a_row: 0,
            is_missed: false,
            escape: None,
            roads: BTreeMap::new(),
        }
    }

    /// Other limits take the place of those in force.
    pub fn replace(&mut self, choice: Choice, now: Instant) {
        let before = self.choice.clone();
        self.choice = choice;
        self.since = now;
        // A direction that was limited before goes on counting from where it began.
        self.baseline = PerDirection::of(|direction| {
            (*self.baseline.get(direction)).filter(|_| before.limits(direction))
        });
    }

    /// Whether any traffic of a direction is limited.
    pub fn limits(&self, direction: Direction) -> bool {
        self.choice.limits(direction)
    }

    /// The cell of a limit that the process has to itself.
    pub fn own_cell(&self, limit: LimitId, direction: Direction) -> Option<&LimitCell> {
        self.own
            .iter()
            .find(|cell| cell.limit == limit && cell.direction == direction)
    }

    /// Compares what the observers saw with what the throttle pair met; `met` must have been read
    /// after `seen`.
    pub fn check(&mut self, seen: &Counters, met: &Counters) -> Check {
        if self.cgroups.contains(&PathBuf::from(ROOT)) {
            return Check::Met;
        }
        let now = unmet(seen, met);
        let unmet = PerDirection::of(|direction| {
            let now = *now.get(direction);
            let baseline = *self.baseline.get_mut(direction).get_or_insert(now);
            if self.choice.limits(direction) {
                now.saturating_sub(baseline)
            } else {
                0
            }
        });
        let grew = Direction::BOTH
            .map(|direction| {
                unmet
                    .get(direction)
                    .saturating_sub(*self.unmet.get(direction))
            })
            .into_iter()
            .max()
            .unwrap_or_default();
        self.unmet = unmet;
        self.unmet_in_a_row = if grew > 0 { self.unmet_in_a_row + 1 } else { 0 };
        self.is_missed = grew > BETWEEN_READINGS;
        if self.unmet_in_a_row >= PATIENCE {
            Check::Climb
        } else {
            Check::Met
        }
    }

    /// Why the limits are not, or not fully, enforced; nothing when they are.
    pub fn not_enforced(&self) -> Option<String> {
        if let Some(escape) = self.escape {
            return Some(escape.to_string());
        }
        self.is_missed.then(|| {
            "some of its sockets are in another cgroup; looking for them further up".to_owned()
        })
    }

    /// Wants the throttle pair at the root from now on.
    pub fn climb(&mut self) {
        self.cgroups = BTreeSet::from([PathBuf::from(ROOT)]);
        self.unmet_in_a_row = 0;
        self.is_missed = false;
    }

    /// The process is in `cgroup` now: new sockets will live there. Returns whether that is news.
    /// Where it was before stays covered, because its older sockets stay there.
    pub fn moved_to(&mut self, cgroup: &str) -> bool {
        let path = PathBuf::from(cgroup);
        let known = cgroup.is_empty() || path.ancestors().any(|above| self.cgroups.contains(above));
        if !known {
            self.cgroups.insert(path);
        }
        !known
    }

    /// Whether it is known if packets that leave by the device of this index can be paced.
    pub fn knows_road(&self, index: u32) -> bool {
        self.devices().any(|device| device.index == index)
    }

    /// Takes note of that.
    pub fn add_road(&mut self, device: Device, paced: Result<(), Unpaced>) {
        self.roads.insert(device, paced);
    }

    /// Forgets devices that lost their fq; their next packet shows what can be done. Returns
    /// whether any of them mattered.
    pub fn lose_roads(&mut self, lost: &HashSet<Device>) -> bool {
        let before = self.roads.len();
        self.roads
            .retain(|device, paced| paced.is_err() || !lost.contains(device));
        self.roads.len() < before
    }

    /// The devices that its packets leave by.
    pub fn devices(&self) -> impl Iterator<Item = Device> {
        self.roads.keys().copied()
    }

    /// The devices on which its packets are paced.
    pub fn paced_on(&self) -> impl Iterator<Item = Device> {
        let paced = self.roads.iter().filter(|(_, paced)| paced.is_ok());
        paced.map(|(device, _)| *device)
    }

    /// The indexes of those devices.
    pub fn paced_indexes(&self) -> Vec<u32> {
        self.paced_on().map(|device| device.index).collect()
    }

    /// How it is enforced, and why it is not paced everywhere; before its first packet, what is
    /// expected.
    pub fn mechanism(&self, expected: &Expected) -> Expected {
        let why = self
            .roads
            .values()
            .find_map(|paced| paced.as_ref().err())
            .map(ToString::to_string);
        match (self.paced_on().next().is_some(), why) {
            (false, None) => expected.clone(),
            (true, None) => (Mechanism::Pacing, None),
            (true, why) => (Mechanism::Mixed, why),
            (false, why) => (Mechanism::Policing, why),
        }
    }
}

/// What the observers saw and the throttle pair did not meet.
fn unmet(seen: &Counters, met: &Counters) -> PerDirection<u64> {
    PerDirection::of(|direction: Direction| {
        let seen = seen.seen[direction.index()].payload;
        seen.saturating_sub(met.met(direction))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::direction::PerClass;

    fn counters(seen: u64, admitted: u64, dropped: u64) -> Counters {
        let mut counters = Counters::default();
        counters.seen[0].payload = seen;
        counters.admitted[0][0] = admitted;
        counters.dropped[0].payload = dropped;
        counters
    }

    fn limited(download: bool) -> Enforcement {
        let mut choice = Choice::default();
        let direction = Direction::BOTH[usize::from(!download)];
        *choice.limits.get_mut(direction) = PerClass::of(|_| Some(LimitId(1)));
        let mut limit = Enforcement::new(choice, "/a", Instant::now());
        check(&mut limit, 5000, 0, 0);
        limit
    }

    fn check(limit: &mut Enforcement, seen: u64, admitted: u64, dropped: u64) -> Check {
        let counters = counters(seen, admitted, dropped);
        limit.check(&counters, &counters)
    }

    #[test]
    fn bytes_that_the_pair_does_not_meet_send_it_up() {
        let mut limit = limited(true);
        assert_eq!(check(&mut limit, 6000, 900, 100), Check::Met);
        assert_eq!(check(&mut limit, 1_007_000, 900, 100), Check::Met, "once");
        assert!(limit.not_enforced().is_some());
        assert_eq!(
            check(&mut limit, 2_008_000, 900, 100),
            Check::Climb,
            "twice"
        );
        limit.climb();
        assert_eq!(check(&mut limit, 2_009_000, 1000, 100), Check::Met);
        assert!(limit.not_enforced().is_none());
        assert!(limit.cgroups.contains(&PathBuf::from("/")));
    }

    #[test]
    fn what_is_not_limited_need_not_be_met() {
        let mut limit = limited(false);
        for n in 1..5 {
            assert_eq!(check(&mut limit, 5000 + n * 1000, 0, 0), Check::Met);
        }
    }

    #[test]
    fn a_packet_between_two_readings_is_no_reason_to_climb() {
        let mut limit = limited(true);
        for n in 1..20 {
            let late = if n % 2 == 0 { 1448 } else { 0 };
            assert_eq!(
                check(&mut limit, 5000 + n * 10_000, n * 10_000 - late, 0),
                Check::Met
            );
            assert_eq!(limit.not_enforced(), None);
        }
    }

    #[test]
    fn what_passed_before_a_direction_was_limited_need_not_have_been_met() {
        let mut limit = limited(false);
        check(&mut limit, 90_000, 0, 0);
        let choice = Choice {
            limits: PerDirection::of(|_| PerClass::of(|_| Some(LimitId(1)))),
            ..Choice::default()
        };
        limit.replace(choice, Instant::now());
        // Until it was in force, some more passed.
        assert_eq!(check(&mut limit, 100_000, 0, 0), Check::Met);
        assert_eq!(limit.not_enforced(), None);
        for n in 1..5 {
            assert_eq!(
                check(&mut limit, 100_000 + n * 1000, n * 1000, 0),
                Check::Met
            );
        }
        assert!(limit.not_enforced().is_none());
    }

    #[test]
    fn the_mechanism_is_that_of_the_devices_its_packets_leave_by() {
        let mut limit = limited(true);
        let expected = (Mechanism::Policing, Some("no packet yet".to_owned()));
        assert_eq!(limit.mechanism(&expected), expected);
        let device = Device {
            namespace: 1,
            index: 2,
        };
        limit.add_road(device, Ok(()));
        assert_eq!(limit.mechanism(&expected), (Mechanism::Pacing, None));
        let other = Device { index: 3, ..device };
        limit.add_road(other, Err(Unpaced::OwnQdisc("cake".into())));
        let (mechanism, why) = limit.mechanism(&expected);
        assert_eq!(mechanism, Mechanism::Mixed);
        assert!(why.unwrap().contains("cake"));
        assert_eq!(limit.paced_on().collect::<Vec<_>>(), [device]);
    }

    #[test]
    fn a_process_that_moves_is_met_where_it_was_and_where_it_is() {
        let mut limit = limited(true);
        assert!(!limit.moved_to("/a/b"), "below what is covered");
        assert!(limit.moved_to("/c"));
        assert!(!limit.moved_to("/c"));
        assert_eq!(limit.cgroups.len(), 2);
    }
}
