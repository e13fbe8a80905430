//! A link with a queue, who else uses it, and a [`Capacity`] that does not know it: a millisecond a step, and the
//! same each time.

use std::{collections::VecDeque, time::Duration};

use super::{
    capacity::{Capacity, Traffic},
    guarantee::Guarantee,
};

const PACKET: f64 = 1514.0;
/// Steps a second.
const STEPS: u64 = 1000;
/// The capacity is looked at each so many steps.
const LOOK: u64 = 20;

/// Bytes a second of so many megabits.
pub fn mbit(count: f64) -> f64 {
    count * 125_000.0
}

/// How somebody sends.
#[derive(Clone, Debug)]
pub enum Habit {
    /// Always as much, in bytes a second, as a call does.
    Steady(f64),
    /// As much as a window lets: CUBIC's (RFC 9438).
    Cubic(Cubic),
}

/// A window in bytes, and what made it so.
#[derive(Clone, Debug)]
pub struct Cubic {
    window: f64,
    threshold: f64,
    most: f64,
    lost_at: u64,
    in_flight: f64,
    recover_until: u64,
}

impl Cubic {
    fn new() -> Self {
        Self {
            window: 10.0 * PACKET,
            threshold: f64::MAX,
            most: 0.0,
            lost_at: 0,
            in_flight: 0.0,
            recover_until: 0,
        }
    }

    fn acknowledged(&mut self, now: u64, bytes: f64) {
        self.in_flight -= bytes;
        if self.window < self.threshold {
            self.window += bytes;
            return;
        }
        let most = self.most / PACKET;
        let bend = (most * 0.3 / 0.4).cbrt();
        let time = (now - self.lost_at) as f64 / STEPS as f64;
        let target = (0.4 * (time - bend).powi(3) + most) * PACKET;
        let step = ((target - self.window) / self.window).clamp(0.01, 0.5);
        self.window += bytes * step;
    }

    fn lost(&mut self, now: u64, bytes: f64, round_trip: u64) {
        self.in_flight -= bytes;
        if now >= self.recover_until {
            self.most = self.window;
            self.window = (self.window * 0.7).max(2.0 * PACKET);
            self.threshold = self.window;
            self.lost_at = now;
            self.recover_until = now + round_trip;
        }
    }
}

/// Somebody beside the background.
#[derive(Clone, Debug)]
pub struct Sender {
    habit: Habit,
    /// From when until when, in steps.
    time: (u64, u64),
    /// Whether it is on this machine: then what it sends is known.
    own: bool,
    owed: f64,
}

/// What is on its way: who sent how much, and when.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    of: usize,
    /// Which of the background's flows, if it is the background's.
    flow: usize,
    bytes: f64,
    sent: u64,
}

/// The index of the background among senders.
const BACKGROUND: usize = 0;

/// A second of it.
#[derive(Clone, Debug, Default)]
pub struct Second {
    /// What got through, of each sender, the background first, in bytes.
    pub delivered: Vec<f64>,
    /// How long the queue was, in milliseconds, at each step.
    pub queue: Vec<f64>,
    /// What the link could have carried.
    pub could: f64,
}

/// The link and all who use it.
#[derive(Clone)]
pub struct Simulation {
    pub capacity: Capacity,
    now: u64,
    /// In bytes a second.
    pub speed: f64,
    /// Of the whole way, in steps.
    pub round_trip: u64,
    /// Of the queue, in bytes.
    pub buffer: f64,
    /// Whether each sender has a queue of its own, served in turn.
    pub fair: bool,
    /// Whether this machine's others are seen when they send, before the queue, and not when it arrives.
    pub upload: bool,
    /// Of how many flows the background is.
    pub flows: usize,
    next_flow: usize,
    queues: Vec<VecDeque<Chunk>>,
    to_queue: VecDeque<(u64, Chunk)>,
    answers: VecDeque<(u64, Chunk, bool)>,
    senders: Vec<Sender>,
    /// Whether the background has anything to send.
    pub demand: bool,
    /// Whether it is normal traffic that is held for what is important.
    pub firm: bool,
    /// Which sender is guaranteed a part of it.
    pub guaranteed: Option<(usize, Guarantee)>,
    /// Whether its answers tell how long they took.
    pub silent: bool,
    tokens: f64,
    since_look: Traffic,
    told: u64,
    pub seconds: Vec<Second>,
}

impl Simulation {
    /// An empty link.
    pub fn new(speed: f64, round_trip: u64, buffer: f64) -> Self {
        Self {
            capacity: Capacity::new(Duration::ZERO),
            now: 0,
            speed,
            round_trip,
            buffer,
            fair: false,
            upload: false,
            flows: 1,
            next_flow: 0,
            queues: Vec::new(),
            to_queue: VecDeque::new(),
            answers: VecDeque::new(),
            senders: Vec::new(),
            demand: true,
            firm: false,
            guaranteed: None,
            silent: false,
            tokens: 0.0,
            since_look: Traffic::default(),
            told: 0,
            seconds: Vec::new(),
        }
    }

    /// Somebody who sends from one second to another; returns their number in [`Second::delivered`].
    pub fn sender(&mut self, habit: Habit, own: bool, from: u64, until: u64) -> usize {
        self.senders.push(Sender {
            habit,
            time: (from * STEPS, until * STEPS),
            own,
            owed: 0.0,
        });
        self.senders.len()
    }

    /// One that sends as much as it can.
    pub fn cubic(&mut self, own: bool, from: u64, until: u64) -> usize {
        self.sender(Habit::Cubic(Cubic::new()), own, from, until)
    }

    pub fn run(&mut self, seconds: u64) -> &[Second] {
        for _ in 0..seconds {
            self.seconds.push(Second {
                delivered: vec![0.0; self.senders.len() + 1],
                ..Second::default()
            });
            for _ in 0..STEPS {
                self.step();
            }
        }
        &self.seconds
    }

    fn send(&mut self, of: usize, bytes: f64) {
        if of == BACKGROUND {
            self.next_flow = (self.next_flow + 1) % self.flows;
        }
        let chunk = Chunk {
            of,
            flow: self.next_flow,
            bytes,
            sent: self.now,
        };
        self.to_queue
            .push_back((self.now + self.round_trip / 2, chunk));
    }

    fn step(&mut self) {
        self.now += 1;
        self.send_all();
        // A way that has become shorter lets later packets come sooner; here they wait for those before them.
        while let Some((at, chunk)) = self.to_queue.front().copied()
            && at <= self.now
        {
            self.to_queue.pop_front();
            self.enqueue(chunk);
        }
        self.serve();
        while let Some((at, chunk, lost)) = self.answers.front().copied()
            && at <= self.now
        {
            self.answers.pop_front();
            self.answer(chunk, lost);
        }
        if self.now.is_multiple_of(LOOK) {
            let mut traffic = std::mem::take(&mut self.since_look);
            let now = self.time();
            traffic.firm = self.firm;
            if let Some((_, guarantee)) = &mut self.guaranteed {
                let bytes = traffic.bytes.guaranteed;
                guarantee.look(now, bytes, bytes > 0, traffic.held);
                traffic.kept = guarantee.kept(now).unwrap_or_default();
            }
            self.capacity.look(now, traffic);
        }
    }

    fn time(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    fn send_all(&mut self) {
        for number in 0..self.senders.len() {
            let sender = &mut self.senders[number];
            if self.now < sender.time.0 || self.now >= sender.time.1 {
                continue;
            }
            let bytes = match &mut sender.habit {
                Habit::Steady(rate) => {
                    sender.owed += *rate / STEPS as f64;
                    let packets = (sender.owed / PACKET).floor();
                    sender.owed -= packets * PACKET;
                    packets * PACKET
                }
                Habit::Cubic(cubic) => {
                    let packets = ((cubic.window - cubic.in_flight) / PACKET).floor().max(0.0);
                    cubic.in_flight += packets * PACKET;
                    packets * PACKET
                }
            };
            if sender.own && self.upload {
                self.passed(number + 1, bytes as u64);
            }
            let mut left = bytes;
            while left > 0.0 {
                self.send(number + 1, PACKET);
                left -= PACKET;
            }
        }
        let left = self.capacity.left(self.time()).bytes_per_second() as f64;
        self.tokens = (self.tokens + left / STEPS as f64).min((left / 500.0).max(2.0 * PACKET));
        if !self.demand {
            return;
        }
        loop {
            if self.tokens < PACKET {
                self.since_look.held = true;
                return;
            }
            self.tokens -= PACKET;
            self.send(BACKGROUND, PACKET);
        }
    }

    /// So much was seen to pass of what a sender sends.
    fn passed(&mut self, of: usize, bytes: u64) {
        let passed = &mut self.since_look.bytes;
        let guaranteed = self.guaranteed.as_ref().map(|(sender, _)| *sender);
        *match of {
            BACKGROUND => &mut passed.background,
            _ if Some(of) == guaranteed => &mut passed.guaranteed,
            _ => &mut passed.others,
        } += bytes;
    }

    fn enqueue(&mut self, chunk: Chunk) {
        let queue = match (self.fair, chunk.of) {
            (false, _) => 0,
            (true, BACKGROUND) => chunk.flow,
            (true, of) => self.flows + of,
        };
        if self.waiting() + chunk.bytes > self.buffer {
            self.lose(chunk);
            return;
        }
        if self.queues.len() <= queue {
            self.queues.resize(queue + 1, VecDeque::new());
        }
        self.queues[queue].push_back(chunk);
    }

    /// Bytes in all queues.
    fn waiting(&self) -> f64 {
        let chunks = self.queues.iter().flatten();
        chunks.map(|chunk| chunk.bytes).sum()
    }

    fn lose(&mut self, chunk: Chunk) {
        // The sender learns of it when what came after it is answered.
        self.answers
            .push_back((self.now + self.round_trip / 2, chunk, true));
    }

    fn serve(&mut self) {
        let could = self.speed / STEPS as f64;
        let waiting = self.waiting();
        let Some(second) = self.seconds.last_mut() else {
            return;
        };
        second.could += could;
        second.queue.push(waiting / self.speed * 1000.0);
        let mut left = could;
        while left > 0.0 {
            let waiting = self.queues.iter().filter(|queue| !queue.is_empty()).count();
            if waiting == 0 {
                return;
            }
            let each = left / waiting as f64;
            for queue in &mut self.queues {
                let mut share = each;
                while share > 0.0
                    && let Some(first) = queue.front_mut()
                {
                    let served = first.bytes.min(share);
                    first.bytes -= served;
                    share -= served;
                    left -= served;
                    if first.bytes <= 1e-6 {
                        let chunk = Chunk {
                            bytes: PACKET,
                            ..*first
                        };
                        queue.pop_front();
                        let second = self.seconds.last_mut();
                        if let Some(second) = second {
                            second.delivered[chunk.of] += PACKET;
                        }
                        self.answers
                            .push_back((self.now + self.round_trip / 2, chunk, false));
                    }
                }
            }
            if left < 1e-6 {
                return;
            }
        }
    }

    fn answer(&mut self, chunk: Chunk, lost: bool) {
        let round_trip = self.round_trip;
        let waited = self.now - chunk.sent;
        match chunk.of.checked_sub(1) {
            _ if lost => {}
            None => self.passed(BACKGROUND, PACKET as u64),
            Some(number) if self.senders[number].own && !self.upload => {
                self.passed(chunk.of, PACKET as u64);
            }
            Some(_) => {}
        }
        match chunk.of.checked_sub(1) {
            None if lost => self.since_look.congested += 1,
            None => {
                if self.now >= self.told + 10 && !self.silent {
                    self.told = self.now;
                    let time = self.time();
                    let waited = Duration::from_millis(waited);
                    self.capacity
                        .round_trip(time, chunk.flow as u64, waited, None);
                }
            }
            Some(number) => {
                if let Habit::Cubic(cubic) = &mut self.senders[number].habit {
                    match lost {
                        true => cubic.lost(self.now, chunk.bytes, round_trip),
                        false => cubic.acknowledged(self.now, chunk.bytes),
                    }
                }
            }
        }
    }
}

/// What a sender got of the link in some seconds.
pub fn share(seconds: &[Second], of: usize) -> f64 {
    let delivered: f64 = seconds.iter().map(|second| second.delivered[of]).sum();
    let could: f64 = seconds.iter().map(|second| second.could).sum();
    delivered / could
}

/// A quantile of the queue in milliseconds.
pub fn queue(seconds: &[Second], quantile: f64) -> f64 {
    let mut all: Vec<f64> = seconds
        .iter()
        .flat_map(|second| second.queue.clone())
        .collect();
    all.sort_by(f64::total_cmp);
    all[((all.len() - 1) as f64 * quantile) as usize]
}

mod tests;
