//! How long packets wait in the queue of a link: what round trips are longer than the shortest.
//!
//! A flow's round trip is the way there and back and what waits on it. The way is another for each flow, so each
//! has a base of its own: its shortest round trip. What is above it is the queue, and as all flows share the
//! link's, the queue is what the flow has that waits least: the others wait elsewhere besides, or their hosts
//! were slow to answer. A flow that is new has waited already with its first round trip, as long as the others do then.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

/// A flow's identity: its socket's cookie.
pub type FlowId = u64;

/// A base is the shortest round trip of this time; ways change.
const BASE_HOLDS: Duration = Duration::from_secs(600);

/// A flow that is new waits as long as others did so lately.
const LATELY: Duration = Duration::from_millis(300);

/// It is kept in as many parts.
const PARTS: u32 = 10;

/// A flow that said nothing for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// What is known of one flow.
#[derive(Clone, Debug, Default)]
struct Flow {
    /// The shortest round trips by the part of [`BASE_HOLDS`] in which they were seen, the oldest first.
    shortest: VecDeque<(u64, Duration)>,
    /// The latest round trips, the oldest first.
    latest: VecDeque<(Duration, Duration)>,
}

/// The parts of a time so far.
fn part_of(now: Duration) -> u64 {
    (now.as_nanos() / (BASE_HOLDS / PARTS).as_nanos()) as u64
}

impl Flow {
    fn base(&self) -> Option<Duration> {
        self.shortest.iter().map(|(_, shortest)| *shortest).min()
    }

    fn add(&mut self, now: Duration, round_trip: Duration, keep: Duration) {
        let part = part_of(now);
        match self.shortest.back_mut() {
            Some((last, shortest)) if *last == part => *shortest = round_trip.min(*shortest),
            _ => self.shortest.push_back((part, round_trip)),
        }
        while self.shortest.len() > PARTS as usize {
            self.shortest.pop_front();
        }
        self.latest.push_back((now, round_trip));
        while (self.latest.front()).is_some_and(|(at, _)| *at + keep < now) {
            self.latest.pop_front();
        }
    }

    /// The shortest of the latest round trips, since then.
    fn latest(&self, since: Duration) -> Option<Duration> {
        (self.latest.iter().rev())
            .take_while(|(at, _)| *at >= since)
            .map(|(_, round_trip)| *round_trip)
            .min()
    }
}

/// The round trips of a link's flows.
#[derive(Clone, Debug)]
pub struct Delays {
    flows: HashMap<FlowId, Flow>,
    keep: Duration,
}

impl Delays {
    /// No round trips yet; they will be asked for as long back as `keep`.
    pub fn new(keep: Duration) -> Self {
        Self {
            flows: HashMap::new(),
            keep,
        }
    }

    /// Takes note of a flow's round trip.
    pub fn add(&mut self, now: Duration, flow: FlowId, round_trip: Duration) {
        if !self.flows.contains_key(&flow) {
            let queue = self
                .queueing(now.saturating_sub(LATELY))
                .unwrap_or_default();
            let mut new = Flow::default();
            let base = round_trip.saturating_sub(queue);
            new.shortest.push_back((part_of(now), base));
            self.flows.insert(flow, new);
        }
        if let Some(flow) = self.flows.get_mut(&flow) {
            flow.add(now, round_trip, self.keep);
        }
    }

    /// How long packets waited since then: of each flow at the least, and of all flows the least. Nothing if no flow
    /// told of a round trip.
    pub fn queueing(&self, since: Duration) -> Option<Duration> {
        let waits = |flow: &Flow| Some(flow.latest(since)?.saturating_sub(flow.base()?));
        self.flows.values().filter_map(waits).min()
    }

    /// How many round trips were heard of since then.
    pub fn count(&self, since: Duration) -> usize {
        let heard = |flow: &Flow| {
            flow.latest
                .iter()
                .rev()
                .take_while(|(at, _)| *at >= since)
                .count()
        };
        self.flows.values().map(heard).sum()
    }

    /// How many flows there are.
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// How many of them told of a round trip since then.
    pub fn flows_since(&self, since: Duration) -> usize {
        let told = |flow: &&Flow| flow.latest.back().is_some_and(|(at, _)| *at >= since);
        self.flows.values().filter(told).count()
    }

    /// The shortest base of a flow.
    pub fn base(&self) -> Option<Duration> {
        self.flows.values().filter_map(Flow::base).min()
    }

    /// What flows have now is the way itself: it has become longer.
    pub fn rebase(&mut self, now: Duration, since: Duration) {
        for flow in self.flows.values_mut() {
            let latest = flow.latest(since);
            flow.shortest.clear();
            flow.shortest
                .extend(latest.map(|latest| (part_of(now), latest)));
        }
    }

    /// Forgets flows that have ended.
    pub fn forget(&mut self, now: Duration) {
        self.flows
            .retain(|_, flow| (flow.latest.back()).is_some_and(|(at, _)| *at + FORGOTTEN >= now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_secs(2);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn the_queue_is_what_the_flow_has_that_waits_least() {
        let mut delays = Delays::new(KEEP);
        assert_eq!(delays.queueing(ms(0)), None);
        for (at, flow, round_trip) in [(0, 1, 20), (0, 2, 100), (100, 1, 30), (100, 2, 180)] {
            delays.add(ms(at), flow, ms(round_trip));
        }
        assert_eq!(delays.queueing(ms(50)), Some(ms(10)));
        assert_eq!(delays.base(), Some(ms(20)));
        // Flow 2 alone was heard of since.
        delays.add(ms(300), 2, ms(140));
        assert_eq!(delays.queueing(ms(200)), Some(ms(40)));
        assert_eq!(delays.queueing(ms(400)), None);
    }

    #[test]
    fn a_flow_that_is_new_waits_as_the_others_do() {
        let mut delays = Delays::new(KEEP);
        delays.add(ms(0), 1, ms(20));
        delays.add(ms(500), 1, ms(120));
        // Its way is 40 ms.
        delays.add(ms(510), 2, ms(140));
        assert_eq!(delays.queueing(ms(500)), Some(ms(100)));
        assert_eq!(delays.flows[&2].base(), Some(ms(40)));
    }

    #[test]
    fn a_way_that_has_become_longer_is_no_queue() {
        let mut delays = Delays::new(KEEP);
        delays.add(ms(0), 1, ms(20));
        delays.add(ms(1000), 1, ms(70));
        assert_eq!(delays.queueing(ms(900)), Some(ms(50)));
        delays.rebase(ms(1000), ms(900));
        assert_eq!(delays.queueing(ms(900)), Some(ms(0)));
        // A shorter one is found without being told.
        delays.add(ms(1100), 1, ms(40));
        delays.add(ms(1300), 1, ms(45));
        assert_eq!(delays.queueing(ms(1200)), Some(ms(5)));
    }

    #[test]
    fn bases_and_flows_are_forgotten() {
        let mut delays = Delays::new(KEEP);
        delays.add(ms(0), 1, ms(20));
        for second in 1..=700 {
            delays.add(
                Duration::from_secs(second),
                2,
                ms(if second == 1 { 50 } else { 60 }),
            );
        }
        delays.forget(Duration::from_secs(700));
        assert_eq!(delays.flows.len(), 1);
        assert_eq!(delays.base(), Some(ms(60)));
    }
}
