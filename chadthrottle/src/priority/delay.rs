//! How long packets wait in the queue of a link: what round trips are longer than the shortest.
//!
//! A flow's round trip is the way there and back and what waits on it. The way is another for each flow, so each
//! has a base of its own: its shortest round trip. What is above it is the queue, and as all flows share the
//! link's, the queue is what the flow has that waits least: the others wait elsewhere besides, or their hosts
//! were slow to answer. A flow that is new has waited already with its first round trip, as long as the others do then:
//! its base is a guess, until it waits less, or longer than they do for some time.

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

/// A new flow whose round trip is longer by so much than one that TCP knows of waits: by more than a delayed acknowledgement
/// takes (`TCP_DELACK_MIN`, 40 ms)...
const KNOWN_TO_WAIT: Duration = Duration::from_millis(60);

/// ... and its way is no shorter than that with so much more, as the first segments are small, and what carries data takes
/// its time to be sent.
const WITH_DATA: Duration = Duration::from_millis(8);

/// A flow that said nothing for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// What is known of one flow.
#[derive(Clone, Debug, Default)]
struct Flow {
    /// The shortest round trips by the part of [`BASE_HOLDS`] in which they were seen, the oldest first.
    shortest: VecDeque<(u64, Duration)>,
    /// The latest round trips, the oldest first.
    latest: VecDeque<(Duration, Duration)>,
    /// The base is a guess, made at this time, and no round trip was as short yet.
    guessed: Option<Duration>,
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
        if self.base().is_some_and(|base| round_trip <= base) {
            self.guessed = None;
        }
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

    /// How long its packets waited since then, at the least.
    fn waited(&self, since: Duration) -> Option<Duration> {
        Some(self.latest(since)?.saturating_sub(self.base()?))
    }

    /// How long packets wait at the least now: what waited with the last round trip, less what the queue has sent since.
    fn waits(&self, now: Duration) -> Option<Duration> {
        let (at, round_trip) = self.latest.back()?;
        let waited = round_trip.saturating_sub(self.base()?);
        (*at + LATELY >= now).then(|| waited.saturating_sub(now.saturating_sub(*at)))
    }

    /// This is its base from now on, whatever was found before.
    fn begin_at(&mut self, now: Duration, base: Option<Duration>) {
        self.shortest.clear();
        self.shortest.extend(base.map(|base| (part_of(now), base)));
        self.guessed = None;
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

    /// Takes note of a flow's round trip, and the shortest one that TCP knows of.
    pub fn add(
        &mut self,
        now: Duration,
        flow: FlowId,
        round_trip: Duration,
        shortest: Option<Duration>,
    ) {
        if !self.flows.contains_key(&flow) {
            let queue = self
                .flows
                .values()
                .filter_map(|other| other.waits(now))
                .min();
            let mut new = Flow::default();
            let known = shortest.filter(|shortest| *shortest + KNOWN_TO_WAIT < round_trip);
            let known = known.map(|shortest| shortest + WITH_DATA);
            let as_others = queue.filter(|queue| *queue < round_trip);
            let as_others = as_others.map(|queue| round_trip - queue);
            if let Some(base) = known.into_iter().chain(as_others).min() {
                new.begin_at(now, Some(base));
                new.guessed = Some(now);
            }
            self.flows.insert(flow, new);
        }
        if let Some(flow) = self.flows.get_mut(&flow) {
            flow.add(now, round_trip, self.keep);
        }
    }

    /// All wait in the same queue. If a flow whose base is a guess never waited as little as the others, for as long as is
    /// looked back, it does not wait longer than they: its way is longer. To be called before the queue is asked for, and
    /// not with every round trip: it looks at all of them.
    pub fn correct(&mut self, now: Duration) {
        let since = now.saturating_sub(self.keep);
        let waited: Vec<(FlowId, Duration)> = (self.flows.iter())
            .filter_map(|(id, flow)| Some((*id, flow.waited(since)?)))
            .collect();
        let Some(least) = waited.iter().map(|(_, waited)| *waited).min() else {
            return;
        };
        for (id, waited) in waited {
            if waited > least
                && let Some(flow) = self.flows.get_mut(&id)
                && flow.guessed.is_some_and(|guessed| guessed <= since)
            {
                let base = flow.base().unwrap_or_default() + (waited - least);
                flow.begin_at(now, Some(base));
                flow.guessed = Some(now);
            }
        }
    }

    /// How long packets waited since then: of each flow at the least, and of all flows the least. Nothing if no flow
    /// told of a round trip.
    pub fn queueing(&self, since: Duration) -> Option<Duration> {
        let waited = self.flows.values().map(|flow| flow.waited(since));
        waited.flatten().min()
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
            flow.begin_at(now, flow.latest(since));
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
            delays.add(ms(at), flow, ms(round_trip), None);
        }
        assert_eq!(delays.queueing(ms(50)), Some(ms(10)));
        assert_eq!(delays.base(), Some(ms(20)));
        // Flow 2 alone was heard of since.
        delays.add(ms(300), 2, ms(140), None);
        assert_eq!(delays.queueing(ms(200)), Some(ms(40)));
        assert_eq!(delays.queueing(ms(400)), None);
    }

    #[test]
    fn a_flow_that_is_new_waits_as_the_others_do() {
        let mut delays = Delays::new(KEEP);
        delays.add(ms(0), 1, ms(20), None);
        delays.add(ms(500), 1, ms(120), None);
        // Its way is 40 ms, and the queue has sent for 10 ms since.
        delays.add(ms(510), 2, ms(130), None);
        assert_eq!(delays.queueing(ms(500)), Some(ms(90)));
        assert_eq!(delays.flows[&2].base(), Some(ms(40)));
    }

    #[test]
    fn tcp_knows_the_way_of_a_flow_that_waited_before_it_was_looked_at() {
        for (round_trip, shortest, base) in
            [(500, Some(40), 48), (90, Some(40), 90), (500, None, 500)]
        {
            let mut delays = Delays::new(KEEP);
            delays.add(ms(0), 1, ms(round_trip), shortest.map(ms));
            assert_eq!(delays.base(), Some(ms(base)), "{round_trip} {shortest:?}");
        }
    }

    #[test]
    fn a_way_that_was_guessed_too_short_is_found_out() {
        let mut delays = Delays::new(KEEP);
        delays.add(ms(0), 1, ms(20), None);
        delays.add(ms(500), 1, ms(150), None);
        // The queue has sent all that it held by then: nothing is guessed.
        delays.add(ms(700), 2, ms(25), None);
        assert_eq!(delays.flows[&2].base(), Some(ms(25)));
        // Nor where others wait for longer than all of a round trip.
        delays.add(ms(800), 1, ms(150), None);
        delays.add(ms(810), 3, ms(30), None);
        assert_eq!(delays.flows[&3].base(), Some(ms(30)));
        // 1 waited somewhere else, and the way of 4 is 90 ms.
        delays.add(ms(820), 1, ms(90), None);
        delays.add(ms(820), 2, ms(85), None);
        delays.add(ms(820), 3, ms(90), None);
        delays.add(ms(820), 4, ms(90), None);
        assert_eq!(delays.flows[&4].base(), Some(ms(30)));
        for at in (850..4000).step_by(50) {
            delays.add(ms(at), 1, ms(20), None);
            delays.add(ms(at), 4, ms(90), None);
            delays.correct(ms(at));
        }
        assert_eq!(delays.flows[&4].base(), Some(ms(90)));
        assert_eq!(delays.queueing(ms(3900)), Some(ms(0)));
        // What waits from then on is found.
        delays.add(ms(4000), 1, ms(50), None);
        delays.add(ms(4000), 4, ms(120), None);
        assert_eq!(delays.queueing(ms(4000)), Some(ms(30)));
    }

    #[test]
    fn a_way_that_has_become_longer_is_no_queue() {
        let mut delays = Delays::new(KEEP);
        delays.add(ms(0), 1, ms(20), None);
        delays.add(ms(1000), 1, ms(70), None);
        assert_eq!(delays.queueing(ms(900)), Some(ms(50)));
        delays.rebase(ms(1000), ms(900));
        assert_eq!(delays.queueing(ms(900)), Some(ms(0)));
        // A shorter one is found without being told.
        delays.add(ms(1100), 1, ms(40), None);
        delays.add(ms(1300), 1, ms(45), None);
        assert_eq!(delays.queueing(ms(1200)), Some(ms(5)));
    }

    #[test]
    fn bases_and_flows_are_forgotten() {
        let mut delays = Delays::new(KEEP);
        delays.add(ms(0), 1, ms(20), None);
        for second in 1..=700 {
            delays.add(
                Duration::from_secs(second),
                2,
                ms(if second == 1 { 50 } else { 60 }),
                None,
            );
        }
        delays.forget(Duration::from_secs(700));
        assert_eq!(delays.flows.len(), 1);
        assert_eq!(delays.base(), Some(ms(60)));
    }
}
