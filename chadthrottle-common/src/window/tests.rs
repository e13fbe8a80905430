//! Windows on simulated flows.

use std::{cmp::Reverse, collections::BinaryHeap};

use proptest::prelude::*;

use super::*;
use crate::clock::{cost, debt};

const SEGMENT: u64 = 1448;

/// What Linux allows in its SYN: more than is good at low rates.
const FIRST_WINDOW: u64 = 64_240;

/// A sender with as much to send as it is allowed, and its receiver; nothing gets lost.
struct Flow {
    base: Ticks,
    leaves: Ticks,
    sent: u64,
    allowed: u64,
    congestion_window: u64,
    acknowledged: u64,
    received: u64,
    grant: Grant,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A segment arrives at the receiver.
    Segment,
    /// The receiver has received so much for 40 ms without having acknowledged it.
    Delayed { received: u64 },
    /// An acknowledgement of so much arrives at the sender, which may send up to `edge`.
    Acknowledgement { of: u64, edge: u64 },
}

struct Simulation {
    rate: u64,
    now: Ticks,
    clock: Ticks,
    work: Ticks,
    control: Control,
    flows: Vec<Flow>,
    events: BinaryHeap<Reverse<(Ticks, u64, usize, Event)>>,
    number: u64,
}

impl Simulation {
    /// Flows with these base round trips in milliseconds, each of which leaves after so many.
    fn new(rate: u64, flows: &[(u64, u64)]) -> Self {
        let now = 1000 * TICKS_PER_SECOND;
        let mut simulation = Self {
            rate,
            now,
            clock: 0,
            work: 0,
            control: Control::default(),
            flows: Vec::new(),
            events: BinaryHeap::new(),
            number: 0,
        };
        for (index, (base, leaves)) in flows.iter().enumerate() {
            simulation.flows.push(Flow {
                base: base * MILLISECOND + MILLISECOND / 5,
                leaves: now + leaves * MILLISECOND,
                sent: 0,
                allowed: FIRST_WINDOW,
                congestion_window: 10 * SEGMENT,
                acknowledged: 0,
                received: 0,
                grant: Grant {
                    edge: FIRST_WINDOW as u32,
                    edge_known: 1,
                    ..Grant::default()
                },
            });
            let start = Event::Acknowledgement {
                of: 0,
                edge: FIRST_WINDOW,
            };
            simulation.after(index as u64 * MILLISECOND, index, start);
        }
        simulation
    }

    fn after(&mut self, time: Ticks, flow: usize, event: Event) {
        self.number += 1;
        let at = self.now + time;
        self.events.push(Reverse((at, self.number, flow, event)));
    }

    fn debt(&self) -> Ticks {
        debt(self.clock, self.now).unwrap_or(0)
    }

    /// Lets so many milliseconds pass; returns what arrived at each flow, and the queue in
    /// milliseconds every tenth of a second.
    fn run(&mut self, milliseconds: u64) -> (Vec<u64>, Vec<u64>) {
        let before: Vec<u64> = self.flows.iter().map(|flow| flow.received).collect();
        let (mut queues, mut looked) = (Vec::new(), self.now);
        let end = self.now + milliseconds * MILLISECOND;
        while let Some(Reverse((at, _, flow, event))) = self.events.pop() {
            self.now = at;
            while looked + 100 * MILLISECOND <= at {
                looked += 100 * MILLISECOND;
                queues.push(self.debt() / MILLISECOND);
            }
            self.happen(flow, event);
            if at >= end {
                break;
            }
        }
        let received = self.flows.iter().zip(before);
        let received = received.map(|(flow, before)| flow.received - before);
        (received.collect(), queues)
    }

    fn happen(&mut self, index: usize, event: Event) {
        let now = self.now;
        let queue = self.debt();
        let flow = &mut self.flows[index];
        match event {
            Event::Acknowledgement { of, edge } => {
                flow.congestion_window += of - flow.acknowledged;
                flow.acknowledged = of;
                flow.allowed = edge;
                let base = flow.base;
                let mut segments = 0;
                while now < flow.leaves
                    && flow.sent + SEGMENT <= flow.allowed
                    && flow.sent + SEGMENT <= flow.acknowledged + flow.congestion_window
                {
                    flow.sent += SEGMENT;
                    segments += 1;
                }
                for n in 0..segments {
                    self.after(base + n * MILLISECOND / 100, index, Event::Segment);
                }
            }
            Event::Segment => {
                flow.received += SEGMENT;
                let received = flow.received;
                self.control.shortest = self.control.shortest.min(queue);
                let cost = cost(SEGMENT, self.rate);
                self.clock = self.clock.max(now) + cost;
                self.work += cost;
                if (received / SEGMENT).is_multiple_of(2) {
                    self.acknowledge(index);
                } else {
                    self.after(40 * MILLISECOND, index, Event::Delayed { received });
                }
            }
            Event::Delayed { received } if received == flow.received => self.acknowledge(index),
            Event::Delayed { .. } => {}
        }
    }

    fn acknowledge(&mut self, index: usize) {
        let debt = self.debt();
        let (now, rate, flow) = (self.now, self.rate, &mut self.flows[index]);
        let base = (flow.base / TICKS_PER_MICROSECOND) as u32;
        let signal_after = (150 * MILLISECOND).max(cost(32 * SEGMENT, rate));
        let counted = flow.grant.counted;
        self.control = self
            .control
            .acknowledge(now, rate, self.work, debt, base, counted);
        flow.grant.counted = self.control.since;
        flow.grant.window = self.control.window(rate, base, SEGMENT as u32);
        flow.grant.most_ahead = Control::most_ahead(rate, signal_after, base);
        flow.grant.scale = 10;
        let header = Header {
            acknowledged: flow.received as u32,
            flags: ACK,
            window: 4096,
        };
        let field = flow.grant.advertise(header).unwrap_or(header.window);
        let (of, edge) = (flow.received, flow.received + (u64::from(field) << 10));
        self.after(debt, index, Event::Acknowledgement { of, edge });
    }
}

const ALWAYS: u64 = u64::MAX / MILLISECOND / 2;

/// The rate as a part of the limit, the fairness (the least served flow as a part of the best),
/// and the longest queue, of the ten seconds after the first three.
fn steady(rate: u64, bases: &[u64]) -> (f64, f64, u64) {
    let flows: Vec<_> = bases.iter().map(|base| (*base, ALWAYS)).collect();
    let mut simulation = Simulation::new(rate, &flows);
    simulation.run(3000);
    let (received, queues) = simulation.run(10_000);
    let all: u64 = received.iter().sum();
    let (least, most) = (
        received.iter().min().unwrap(),
        received.iter().max().unwrap(),
    );
    (
        all as f64 / 10.0 / rate as f64,
        *least as f64 / *most as f64,
        queues.into_iter().max().unwrap(),
    )
}

#[test]
fn flows_get_the_rate_with_a_short_queue_whatever_their_number_and_round_trip() {
    for rate in [64_000, 125_000, 1_250_000, 12_500_000] {
        for bases in [
            &[0; 1][..],
            &[20],
            &[100],
            &[0; 8],
            &[20; 8],
            &[100; 8],
            &[10, 100],
        ] {
            let (used, fairness, queue) = steady(rate, bases);
            let cell = format!("{rate} B/s, {bases:?}: {used:.4} {fairness:.2} {queue} ms");
            // Two segments for each flow are the least; two are aimed at, and two are heard of at a time.
            let least = cost(LEAST_SEGMENTS * SEGMENT * (bases.len() as u64 + 2), rate);
            assert!((0.98..1.02).contains(&used), "{cell}");
            assert!(fairness > 0.5, "{cell}");
            assert!(queue <= 50 + least / MILLISECOND, "{cell}");
        }
    }
}

#[test]
fn who_stays_gets_what_others_leave() {
    let mut flows = vec![(100, 5000); 7];
    flows.push((100, ALWAYS));
    let mut simulation = Simulation::new(1_250_000, &flows);
    simulation.run(6500);
    let (received, _) = simulation.run(2000);
    let used = received[7] as f64 / 2.0 / 1_250_000.0;
    assert!(used > 0.95, "{used}");
}

#[test]
fn flows_begin_anew_after_they_were_idle() {
    let mut control = Control {
        shares: 7,
        since: 5 * TICKS_PER_SECOND,
        shortest: 0,
        flows_before: 3,
        ..Control::default()
    };
    let soon = control.since + TICKS_PER_SECOND / 2;
    let late = control.since + 2 * TICKS_PER_SECOND;
    assert_ne!(control.acknowledge(soon, 1000, 0, 0, 0, 0).shares, WHOLE);
    assert_eq!(control.acknowledge(late, 1000, 0, 0, 0, 0).shares, WHOLE);
    // A rate so low that a second passes between acknowledgements.
    control.shortest = TICKS_PER_SECOND;
    assert_ne!(control.acknowledge(late, 1000, 0, 0, 0, 0).shares, WHOLE);
}

#[test]
fn a_round_trip_that_was_not_measured_is_taken_for_an_ordinary_one() {
    assert_eq!(base(20_000), 20_000);
    assert_eq!(base(u32::MAX), UNKNOWN_BASE);
}

fn granted(window: u32, most_ahead: u32) -> Grant {
    Grant {
        window,
        most_ahead,
        scale: 7,
        ..Grant::default()
    }
}

fn acknowledgement(acknowledged: u32, window: u16) -> Header {
    Header {
        acknowledged,
        flags: ACK,
        window,
    }
}

#[test]
fn what_was_allowed_stays_allowed() {
    let mut grant = granted(2920, 100_000);
    // 64,000 bytes were allowed before the limit: that is left, and not extended.
    assert_eq!(grant.advertise(acknowledgement(1000, 500)), None);
    assert_eq!(grant.advertise(acknowledgement(33_768, 500)), Some(244));
    // Where it is used up the grant begins, rounded up to the scale.
    assert_eq!(grant.advertise(acknowledgement(64_000, 500)), Some(23));
    assert_eq!(grant.edge, 64_000 + 23 * 128);
}

#[test]
fn too_much_that_was_allowed_is_taken_back() {
    let mut grant = granted(2920, 50_000);
    assert_eq!(grant.advertise(acknowledgement(1000, 500)), Some(23));
}

#[test]
fn a_flow_that_landed_grows_into_its_window() {
    let mut grant = Grant {
        landing: 1,
        first: 3000,
        ..granted(20_000, 0)
    };
    let mut advertised = |acknowledged| {
        let field = grant.advertise(acknowledgement(acknowledged, 60_000));
        u32::from(field.expect("it is less than the process's own")) << grant.scale
    };
    for (acknowledged, window) in [
        (1_000_000, 3072),
        // Nothing new.
        (1_000_000, 3072),
        (1_003_072, 6144),
        (1_005_968, 9088),
        (1_020_000, 20_096),
        (1_030_000, 20_096),
    ] {
        assert_eq!(advertised(acknowledged), window, "{acknowledged}");
    }
}

#[test]
fn what_may_be_in_flight_ends_at_the_edge_that_was_advertised() {
    let advertised = Grant {
        edge: 9_000,
        edge_known: 1,
        until: 7,
        ..Grant::default()
    };
    for (what, grant, ktime, flight) in [
        ("the process's own", Grant::default(), 7, 500_000),
        ("what was granted", advertised, 7, 8_000),
        ("a grant of long ago", advertised, 8 + EDGE_HOLDS, 500_000),
        (
            "an edge that is behind",
            Grant {
                edge: 900,
                ..advertised
            },
            7,
            500_000,
        ),
    ] {
        let mut grant = grant;
        grant.land(11, 1_000, Some(500_000), true, ktime);
        assert_eq!((grant.flight, grant.landing), (flight, 11), "{what}");
        // What was advertised until the sender is told counts, if it is the process's own.
        grant.scale = 7;
        grant.round_trip = 20_000;
        grant.told(acknowledgement(0, 6_000), 1_000_000_000);
        let then = if flight == 8_000 { 8_000 } else { 6_000 << 7 };
        assert_eq!((grant.flight, grant.heard), (then, 1_040_000_000), "{what}");
    }
}

#[test]
fn a_new_connection_has_nothing_in_flight() {
    let mut grant = granted(2920, 0);
    grant.land(11, 1_000, None, true, 7);
    assert!(!grant.has_flight());
    grant.told(acknowledgement(0, 6_000), 1_000_000_000);
    assert!(!grant.has_flight());
    // A full window is another matter.
    grant.land(12, 1_000, Some(0), true, 7);
    assert!(grant.has_flight());
}

#[test]
fn where_senders_are_told_at_once_no_more_lands_than_was_allowed() {
    let mut grant = Grant {
        scale: 7,
        ..Grant::default()
    };
    grant.land(11, 1_000, Some(64_000), false, 7);
    assert_eq!(grant.flight, 64_000);
    // The process would allow more by now.
    grant.told(acknowledgement(0, 6_000), 1_000_000_000);
    assert_eq!(grant.flight, 64_000);
    grant.land(12, 1_000, Some(0), false, 7);
    assert!(!grant.has_flight());
}

#[test]
fn the_acknowledgement_of_a_batch_leaves_with_its_first_segments() {
    let grant = Grant {
        acknowledged: 1_000,
        edge_known: 1,
        ..Grant::default()
    };
    let rate = 1_448_000;
    for (received, milliseconds) in [(1_000, 0), (1_000 + 2 * 1448, 0), (1_000 + 12 * 1448, 10)] {
        let sooner = grant.ahead_of_batch(received, 1448, rate);
        assert_eq!(sooner, milliseconds * MILLISECOND, "{received}");
    }
    assert_eq!(grant.ahead_of_batch(999, 1448, rate), 0, "behind");
}

#[test]
fn where_nothing_is_held_windows_close_as_the_clock_gets_ahead() {
    let control = Control {
        flows: 2,
        ..Control::default()
    };
    let window =
        |ms| control.policed_window(1_000_000, ms * MILLISECOND, 20_000, 1460, POLICED_AIM);
    for (ahead, bytes) in [(0, 99 * 1460), (145, 49 * 1460), (289, 1460), (291, 1)] {
        assert_eq!(window(ahead), bytes, "{ahead} ms");
    }
}

#[test]
fn a_smaller_window_of_the_process_is_its_own() {
    let mut grant = granted(2920, 50_000);
    assert_eq!(grant.advertise(acknowledgement(0, 0)), None);
    assert_eq!(grant.advertise(acknowledgement(0, 22)), None);
    assert_eq!(grant.advertise(acknowledgement(0, 24)), Some(23));
}

#[test]
fn connections_begin_and_end_as_they_would() {
    for flags in [SYN, SYN | ACK, RST | ACK, RST, 0] {
        let header = Header {
            flags,
            ..acknowledgement(0, 60_000)
        };
        assert_eq!(granted(2920, 0).advertise(header), None, "{flags}");
    }
}

proptest! {
    #[test]
    fn the_right_edge_is_not_taken_back(
        start: u32,
        scale in 0u32..=14,
        windows in prop::collection::vec((2920u32..1_000_000, 0u32..4000, 0u16..), 1..100),
    ) {
        let mut grant = Grant { scale, most_ahead: 1 << 30, ..Grant::default() };
        let mut acknowledged = start;
        let mut edge: Option<u32> = None;
        for (window, more, own) in windows {
            // As Linux does, the process takes nothing back itself.
            let least = edge.map_or(0, |edge| edge.wrapping_sub(acknowledged) >> scale);
            let own = own.max(least.min(0xffff) as u16);
            if let Some(edge) = edge {
                acknowledged = acknowledged.wrapping_add(more.min(edge.wrapping_sub(acknowledged)));
            }
            grant.window = window;
            let field = grant.advertise(acknowledgement(acknowledged, own)).unwrap_or(own);
            prop_assert!(field <= own);
            let next = acknowledged.wrapping_add(u32::from(field) << scale);
            if let Some(edge) = edge {
                let back = edge.wrapping_sub(next).cast_signed();
                prop_assert!(back < 1 << scale, "{back} of {}", 1 << scale);
            }
            edge = Some(next);
        }
    }

    /// Whatever the numbers, nothing overflows, and shares and windows stay within their bounds.
    #[test]
    fn any_numbers_will_do(
        rate: u64,
        segment in 0u32..70_000,
        acknowledgements in prop::collection::vec(any::<(u64, u64, u64, u32, u64, u64)>(), 1..50),
    ) {
        let mut control = Control::default();
        for (now, work, debt, shortest_rtt, counted, shortest) in acknowledgements {
            let base = base(shortest_rtt);
            control.shortest = control.shortest.min(shortest);
            control = control.acknowledge(now, rate, work, debt, base, counted);
            prop_assert!((1..=MOST_SHARES).contains(&control.shares.into()));
            let window = u64::from(control.window(rate, base, segment));
            prop_assert!((LEAST_SEGMENTS * LEAST_SEGMENT..=LARGEST).contains(&window));
            prop_assert!(u64::from(Control::most_ahead(rate, debt, base)) <= LARGEST);
        }
    }
}
