//! Limits in force: where their packets are met, and whether all of them are.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use chadthrottle_common::{
    limit::Enforced,
    traffic::{Counters, Direction},
};

use super::snapshot::{LimitState, Limits, Mechanism, PerDirection};
use crate::{
    pacing::{Device, Unpaced},
    rate::{Bytes, Rate},
};

/// A mechanism, and why it is not pacing everywhere.
pub type Expected = (Mechanism, Option<String>);

/// The cgroup that contains all others.
const ROOT: &str = "/";

/// Checks in a row that must find unmet bytes before the throttle pair is moved up. The counters
/// are read one after the other, so a single check may catch a packet in between.
const PATIENCE: u32 = 2;

/// A limit in force.
pub struct Enforcement {
    /// What was asked for.
    pub limits: Limits,
    /// Since when.
    pub since: Instant,
    /// The cgroups whose packets must meet the throttle pair.
    pub cgroups: BTreeSet<PathBuf>,
    /// What the observers had seen when the limit came into force, per direction.
    baseline: PerDirection<u64>,
    unmet: PerDirection<u64>,
    unmet_in_a_row: u32,
    enforced: PerDirection<Enforced>,
    delay: PerDirection<Duration>,
    /// The devices that its packets leave by, and whether they can be paced there.
    roads: BTreeMap<u32, Result<Device, Unpaced>>,
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
    /// A limit that comes into force at the cgroup of its process.
    pub fn new(limits: Limits, cgroup: &str, counters: &Counters, now: Instant) -> Self {
        Self {
            limits,
            since: now,
            cgroups: BTreeSet::from([PathBuf::from(if cgroup.is_empty() { ROOT } else { cgroup })]),
            baseline: seen(counters),
            unmet: PerDirection::default(),
            unmet_in_a_row: 0,
            enforced: PerDirection::default(),
            delay: PerDirection::default(),
            roads: BTreeMap::new(),
        }
    }

    /// Continues a limit that it replaces: where that was found to be needed, this is, too.
    pub fn take_over(&mut self, previous: &Self) {
        self.cgroups.extend(previous.cgroups.iter().cloned());
        // A direction that was limited before goes on counting from where it began.
        self.baseline = PerDirection::of(|direction| {
            let continued = previous.limits.get(direction).is_some();
            let from = if continued { previous } else { &*self };
            *from.baseline.get(direction)
        });
        self.enforced = previous.enforced;
        self.roads = previous.roads.clone();
    }

    /// Compares what the observers saw with what the throttle pair met; `enforced` must have been
    /// read after `counters`.
    pub fn check(&mut self, counters: &Counters, enforced: PerDirection<Enforced>) -> Check {
        self.enforced = enforced;
        if self.cgroups.contains(&PathBuf::from(ROOT)) {
            return Check::Met;
        }
        let seen = seen(counters);
        let unmet = PerDirection::of(|direction| {
            let met = *enforced.get(direction);
            let limited = self.limits.get(direction).is_some();
            let seen = seen
                .get(direction)
                .saturating_sub(*self.baseline.get(direction));
            let met = met.admitted_bytes + met.dropped_bytes;
            if limited { seen.saturating_sub(met) } else { 0 }
        });
        let grew = Direction::BOTH
            .into_iter()
            .any(|direction| *unmet.get(direction) > *self.unmet.get(direction));
        self.unmet = unmet;
        self.unmet_in_a_row = if grew { self.unmet_in_a_row + 1 } else { 0 };
        if self.unmet_in_a_row >= PATIENCE {
            Check::Climb
        } else {
            Check::Met
        }
    }

    /// Wants the throttle pair at the root from now on.
    pub fn climb(&mut self) {
        self.cgroups = BTreeSet::from([PathBuf::from(ROOT)]);
        self.unmet_in_a_row = 0;
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

    /// Takes note of what the limit adds to the round trip now.
    pub fn set_delay(&mut self, delay: PerDirection<Duration>) {
        self.delay = delay;
    }

    /// Whether it is known if packets that leave by this device can be paced.
    pub fn knows_road(&self, index: u32) -> bool {
        self.roads.contains_key(&index)
    }

    /// Takes note of that.
    pub fn add_road(&mut self, index: u32, road: Result<Device, Unpaced>) {
        self.roads.insert(index, road);
    }

    /// Forgets devices that lost their fq; their next packet shows what can be done. Returns
    /// whether any of them mattered.
    pub fn lose_roads(&mut self, lost: &HashSet<Device>) -> bool {
        let before = self.roads.len();
        self.roads
            .retain(|_, road| !road.as_ref().is_ok_and(|device| lost.contains(device)));
        self.roads.len() < before
    }

    /// The devices on which its packets are paced.
    pub fn paced_on(&self) -> impl Iterator<Item = Device> {
        self.roads
            .values()
            .filter_map(|road| road.as_ref().ok())
            .copied()
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
            .find_map(|road| road.as_ref().err())
            .map(ToString::to_string);
        match (self.paced_on().next().is_some(), why) {
            (false, None) => expected.clone(),
            (true, None) => (Mechanism::Pacing, None),
            (true, why) => (Mechanism::Mixed, why),
            (false, why) => (Mechanism::Policing, why),
        }
    }

    /// What is shown of the limit.
    pub fn state(&self, achieved: PerDirection<Rate>, expected: &Expected) -> LimitState {
        let (mechanism, why_policing) = self.mechanism(expected);
        LimitState {
            limits: self.limits,
            achieved,
            dropped: self
                .enforced
                .map(|enforced| Bytes::new(enforced.dropped_bytes)),
            marked: self.enforced.map(|enforced| enforced.marked_packets),
            delay: self.delay,
            mechanism,
            why_policing,
            not_enforced: (self.unmet_in_a_row > 0).then(|| {
                "some of its sockets are in another cgroup; looking for them further up".to_owned()
            }),
        }
    }
}

fn seen(counters: &Counters) -> PerDirection<u64> {
    PerDirection::of(|direction: Direction| counters.seen[direction.index()].payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saw(payload: u64) -> Counters {
        let mut counters = Counters::default();
        counters.seen[0].payload = payload;
        counters
    }

    fn met(admitted_bytes: u64, dropped_bytes: u64) -> PerDirection<Enforced> {
        PerDirection {
            download: Enforced {
                admitted_bytes,
                dropped_bytes,
                ..Enforced::default()
            },
            upload: Enforced::default(),
        }
    }

    fn download_limit() -> Limits {
        Limits {
            download: Some(Rate::from_bytes_per_second(1000)),
            upload: None,
        }
    }

    #[test]
    fn bytes_that_the_pair_does_not_meet_send_it_up() {
        let mut limit = Enforcement::new(download_limit(), "/a", &saw(5000), Instant::now());
        assert_eq!(limit.check(&saw(6000), met(900, 100)), Check::Met);
        assert_eq!(limit.check(&saw(7000), met(900, 100)), Check::Met, "once");
        assert!(
            limit
                .state(PerDirection::default(), &(Mechanism::Pacing, None))
                .not_enforced
                .is_some()
        );
        assert_eq!(
            limit.check(&saw(8000), met(900, 100)),
            Check::Climb,
            "twice"
        );
        limit.climb();
        assert_eq!(limit.check(&saw(9000), met(1000, 100)), Check::Met);
        assert!(limit.cgroups.contains(&PathBuf::from("/")));
    }

    #[test]
    fn what_is_not_limited_need_not_be_met() {
        let upload = Limits {
            download: None,
            upload: Some(Rate::ZERO),
        };
        let mut limit = Enforcement::new(upload, "/a", &saw(0), Instant::now());
        for n in 1..5 {
            assert_eq!(limit.check(&saw(n * 1000), met(0, 0)), Check::Met);
        }
    }

    #[test]
    fn a_packet_between_two_readings_is_no_reason_to_climb() {
        let mut limit = Enforcement::new(download_limit(), "/a", &saw(0), Instant::now());
        for n in 1..20 {
            let late = if n % 2 == 0 { 1448 } else { 0 };
            assert_eq!(
                limit.check(&saw(n * 10_000), met(n * 10_000 - late, 0)),
                Check::Met
            );
        }
    }

    #[test]
    fn the_mechanism_is_that_of_the_devices_its_packets_leave_by() {
        let mut limit = Enforcement::new(download_limit(), "/a", &saw(0), Instant::now());
        let expected = (Mechanism::Policing, Some("no packet yet".to_owned()));
        assert_eq!(limit.mechanism(&expected), expected);
        let device = Device {
            namespace: 1,
            index: 2,
        };
        limit.add_road(2, Ok(device));
        assert_eq!(limit.mechanism(&expected), (Mechanism::Pacing, None));
        limit.add_road(3, Err(Unpaced::OwnQdisc("cake".into())));
        let (mechanism, why) = limit.mechanism(&expected);
        assert_eq!(mechanism, Mechanism::Mixed);
        assert!(why.unwrap().contains("cake"));
        assert_eq!(limit.paced_on().collect::<Vec<_>>(), [device]);
    }

    #[test]
    fn a_process_that_moves_is_met_where_it_was_and_where_it_is() {
        let mut limit = Enforcement::new(download_limit(), "/a", &saw(0), Instant::now());
        assert!(!limit.moved_to("/a/b"), "below what is covered");
        assert!(limit.moved_to("/c"));
        assert!(!limit.moved_to("/c"));
        assert_eq!(limit.cgroups.len(), 2);
    }
}
