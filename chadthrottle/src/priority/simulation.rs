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
        // As fast as Reno in any case (section 4.3).
        let reno = 3.0 * (1.0 - 0.7) / (1.0 + 0.7) * PACKET / self.window;
        self.window += bytes * step.max(reno);
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
    queued: u64,
}

/// What waits for its turn, and CoDel's state (RFC 8289, appendix A).
#[derive(Clone, Debug, Default)]
struct Turn {
    chunks: VecDeque<Chunk>,
    above_since: Option<u64>,
    drop_at: Option<u64>,
    count: u32,
}

impl Turn {
    /// In steps.
    const TARGET: u64 = 5;
    const INTERVAL: f64 = 100.0;

    /// What CoDel drops now.
    fn drop(&mut self, now: u64) -> Option<Chunk> {
        let is_long = self.chunks.len() > 2
            && (self.chunks.front()).is_some_and(|first| now - first.queued > Self::TARGET);
        if !is_long {
            (self.above_since, self.drop_at) = (None, None);
            return None;
        }
        let since = *self.above_since.get_or_insert(now);
        let due = match self.drop_at {
            None if now >= since + Self::INTERVAL as u64 => {
                self.count = self.count.saturating_sub(2).max(1);
                true
            }
            Some(at) if now >= at => {
                self.count += 1;
                true
            }
            _ => false,
        };
        if !due {
            return None;
        }
        self.drop_at = Some(now + (Self::INTERVAL / f64::from(self.count).sqrt()) as u64);
        self.drop_next()
    }

    /// The first that is not being sent.
    fn drop_next(&mut self) -> Option<Chunk> {
        self.chunks.remove(1)
    }
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

/// A moment in which answers are late.
#[derive(Clone, Debug, Default)]
struct Hiccup {
    /// In steps.
    from: u64,
    until: u64,
    late: u64,
    /// Where the next one comes from: a linear congruential generator's state, the same each time.
    state: u64,
}

impl Hiccup {
    /// By how many steps an answer is late now.
    fn late(&mut self, now: u64) -> u64 {
        if now >= self.until {
            self.from = now + 300 + self.next(1200);
            self.until = self.from + 20 + self.next(110);
            self.late = 5 + self.next(8);
        }
        if now >= self.from { self.late } else { 0 }
    }

    fn next(&mut self, most: u64) -> u64 {
        // Knuth's MMIX constants.
        self.state = (self.state.wrapping_mul(6_364_136_223_846_793_005))
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % most
    }
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
    queues: Vec<Turn>,
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
    /// So much of what it is let the background moves: a window is of whole segments, and its sender has one of his own.
    pub moves: f64,
    /// Whether answers are late for a moment now and then, all of them, as those of a busy or virtual machine, or by radio.
    pub hiccups: bool,
    hiccup: Hiccup,
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
            moves: 1.0,
            hiccups: false,
            hiccup: Hiccup::default(),
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
            queued: self.now,
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
        let left = self.capacity.left().bytes_per_second() as f64;
        let moved = left * self.moves;
        self.tokens = (self.tokens + moved / STEPS as f64).min((left / 500.0).max(2.0 * PACKET));
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
        if !self.fair && self.waiting() + chunk.bytes > self.buffer {
            self.lose(chunk);
            return;
        }
        if self.queues.len() <= queue {
            self.queues.resize(queue + 1, Turn::default());
        }
        self.queues[queue].chunks.push_back(Chunk {
            queued: self.now,
            ..chunk
        });
        while self.waiting() > self.buffer {
            // As fq_codel and cake do, of whoever has most.
            let longest =
                (0..self.queues.len()).max_by_key(|queue| self.queues[*queue].chunks.len());
            let Some(first) = longest.and_then(|longest| self.queues[longest].drop_next()) else {
                return;
            };
            self.lose(first);
        }
    }

    /// Bytes in all queues.
    fn waiting(&self) -> f64 {
        let chunks = self.queues.iter().flat_map(|queue| &queue.chunks);
        chunks.map(|chunk| chunk.bytes).sum()
    }

    fn lose(&mut self, chunk: Chunk) {
        // The sender learns of it when what came after it is answered.
        self.answers
            .push_back((self.now + self.round_trip / 2, chunk, true));
    }

    fn serve(&mut self) {
        if self.fair {
            let now = self.now;
            let dropped: Vec<Chunk> = (self.queues.iter_mut())
                .filter_map(|queue| queue.drop(now))
                .collect();
            for chunk in dropped {
                self.lose(chunk);
            }
        }
        let could = self.speed / STEPS as f64;
        let waiting = self.waiting();
        let Some(second) = self.seconds.last_mut() else {
            return;
        };
        second.could += could;
        second.queue.push(waiting / self.speed * 1000.0);
        let mut left = could;
        while left > 0.0 {
            let waiting = self
                .queues
                .iter()
                .filter(|queue| !queue.chunks.is_empty())
                .count();
            if waiting == 0 {
                return;
            }
            let each = left / waiting as f64;
            for queue in &mut self.queues {
                let mut share = each;
                while share > 0.0
                    && let Some(first) = queue.chunks.front_mut()
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
                        queue.chunks.pop_front();
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
                    let late = if self.hiccups {
                        self.hiccup.late(self.now)
                    } else {
                        0
                    };
                    let waited = Duration::from_millis(waited + late);
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
