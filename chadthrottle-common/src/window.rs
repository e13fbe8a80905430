//! How much a sender may have on its way to a paced download: the window that the limited process
//! advertises to it.
//!
//! A sender that fills the window it was given has that much on its way. The network itself holds
//! `rate * base round trip` of it; the rest is the queue, which here is the debt of the limit's
//! clock. So the window alone keeps the queue short and steady, without a loss that would tell the
//! sender of the limit. As in FAST TCP (Wei, Jin, Low and Hegde: "FAST TCP: motivation,
//! architecture, algorithms, performance", 2006), the queue itself shows how large the windows may
//! be: every other round trip they become `window * (base + aim) / (base + queue)`.
//!
//! What the flows of a limit have in common is the sum of their shares of the rate, near
//! [`WHOLE`]. How many flows there are is counted, so that each one's share is known before the
//! queue shows it; and each one's window is its share for its own round trip, so that near and far
//! senders get the same.

use crate::{
    clock::{TICKS_PER_NANOSECOND, TICKS_PER_SECOND, Ticks},
    map_value,
};

const MILLISECOND: Ticks = TICKS_PER_SECOND / 1000;
const TICKS_PER_MICROSECOND: Ticks = 1000 * TICKS_PER_NANOSECOND;

/// The share of a flow that has the limit to itself.
pub const WHOLE: u32 = 1 << 16;

/// A flow's largest share: more than the whole, because its round trip may have become longer than
/// the shortest that was measured.
const MOST: u64 = 8 * WHOLE as u64;

/// A flow begins with this part of its window. Given all of it at once, it would send it as one burst,
/// and then wait for the acknowledgement of that burst, and so on for as long as it lasts.
const FIRST_PART: u32 = 8;

/// The largest sum of shares: some flows may hardly use theirs.
const MOST_SHARES: u64 = 1000 * WHOLE as u64;

/// The queue that is aimed at, at its shortest...
const AIM: Ticks = 30 * MILLISECOND;

/// ... and so many bytes at the least: a sender hears of every other segment only, so at low rates
/// a shorter queue would run empty.
const AIM_BYTES: u64 = 2 * 1448;

/// While the limit is used, no longer queue is aimed at, however often it runs empty: in
/// microseconds.
const LONG_QUEUE: u64 = 80_000;

/// A flow gets no smaller window than so many segments: with one, it would wait for each delayed
/// acknowledgement (RFC 9293, section 3.8.6.3).
const LEAST_SEGMENTS: u64 = 2;

/// Segments are taken to be at least this long, because a window below the sender's segment size
/// would stop it.
const LEAST_SEGMENT: u64 = 1460;

/// Base round trips above this are none that was measured, in microseconds.
const LONGEST_BASE: u32 = 1_000_000;

/// What is taken in their place.
const UNKNOWN_BASE: u32 = 100_000;

/// Adjustments are at least so far apart, besides the round trip and the queue, in microseconds.
const PAUSE: u64 = 10_000;

/// No adjustment waits longer, in microseconds.
const LONGEST_WAIT: u64 = 10_000_000;

/// Where nothing holds acknowledgements, windows let the clock run ahead by this, besides the round
/// trip: longer than a sender's persist timer runs (RFC 9293, section 3.8.6.1), so that the clock is not idle until
/// it asks again, and well within the bound at which packets are dropped. In Linux it is 200 ms and what the sender
/// takes for the round trip, of which delayed acknowledgements make some 40 ms more.
pub const POLICED_AIM: Ticks = 270 * MILLISECOND;

/// The same for MPTCP, whose sender asks by a timer of its own that runs longer: 250 ms usually (`mptcp_worker` of
/// Linux 6.18).
pub const MPTCP_AIM: Ticks = 300 * MILLISECOND;

/// How often flows are counted there.
const COUNTING: Ticks = 200 * MILLISECOND;

/// [`Control::wait`] while a flight lands: the queue that it makes says nothing about windows.
const LANDING: u32 = u32::MAX;

/// A sender that was told has heard after one and a half round trips and this, in microseconds.
const HEARING: u64 = 10_000;

/// An edge that was advertised longer ago was advertised again by the process itself, in
/// nanoseconds.
const EDGE_HOLDS: u64 = 2_000_000_000;

/// After so long without an acknowledgement, flows begin anew.
const IDLE: Ticks = TICKS_PER_SECOND;

/// A time since the last adjustment above this is negative: another CPU has just made one.
const IMPLAUSIBLE: Ticks = 1 << 62;

/// No window is larger (RFC 7323, section 2.3).
const LARGEST: u64 = 1 << 30;

// TCP flags, RFC 9293, section 3.1.
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// What the windows of a limit have in common.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// When it was last adjusted.
    pub since: Ticks,
    /// The limit's work then, see [`crate::limit::Limit::work`].
    pub work: Ticks,
    /// The shortest queue since then, as packets found it; [`u64::MAX`] before any.
    pub shortest: Ticks,
    /// The sum of the flows' shares of the rate, in 1/[`WHOLE`]; 0 before the first
    /// acknowledgement.
    pub shares: u32,
    /// How many flows acknowledged something since the last adjustment.
    pub flows: u32,
    /// The same between the last two adjustments.
    pub flows_before: u32,
    /// How much of the rate is used, in 1/[`WHOLE`]; a moving average.
    pub used: u32,
    /// The longest base round trip of a flow since the last adjustment, in microseconds.
    pub base: u32,
    /// How long after the last adjustment comes the next, in microseconds.
    pub wait: u32,
}
map_value!(Control, 48);

impl Default for Control {
    fn default() -> Self {
        Self {
            since: 0,
            work: 0,
            shortest: u64::MAX,
            shares: 0,
            flows: 0,
            flows_before: 0,
            used: 0,
            base: 0,
            wait: 0,
        }
    }
}

/// What a socket may advertise, and what it has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Until when this holds, in nanoseconds of `CLOCK_MONOTONIC`.
    pub until: u64,
    /// [`Control::since`] when the flow was last counted.
    pub counted: Ticks,
    /// How many bytes from the acknowledged one on.
    pub window: u32,
    /// What was advertised before is not taken back unless it is further ahead than this.
    pub most_ahead: u32,
    /// By how many bits the window is scaled.
    pub scale: u32,
    /// The right edge that was advertised last: the first sequence number not allowed.
    pub edge: u32,
    /// Whether `edge` is known: 0 or 1.
    pub edge_known: u32,
    /// Of the flight that lands: how many bytes may still come.
    pub flight: u32,
    /// [`crate::landing::Landing::since`] of that flight.
    pub landing: Ticks,
    /// When all that was sent before the sender heard of the limit has arrived, in nanoseconds of
    /// `CLOCK_MONOTONIC`; 0 before it was told.
    pub heard: u64,
    /// The longest round trip that is known of, in microseconds.
    pub round_trip: u32,
    /// With how many bytes a flow that landed begins; from there on its window grows by what it
    /// acknowledges.
    pub first: u32,
    /// What was acknowledged with `edge`.
    pub acknowledged: u32,
    /// 1 if `flight` is what the process itself had allowed, and allows until its sender is told.
    pub flight_is_own: u32,
}
map_value!(Grant, 72);

/// What a TCP header says of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The acknowledgement number.
    pub acknowledged: u32,
    /// The flags of RFC 9293, section 3.1: SYN is 2, RST 4, ACK 16.
    pub flags: u8,
    /// The window, not yet scaled.
    pub window: u16,
}

/// The queue that is aimed at, at a rate in bytes a second.
#[inline(always)]
pub const fn aim(rate: u64) -> Ticks {
    match (AIM_BYTES * TICKS_PER_SECOND).checked_div(rate) {
        Some(bytes) if bytes > AIM => bytes,
        _ => AIM,
    }
}

/// The base round trip of a flow in microseconds, by the shortest that TCP has measured.
#[inline(always)]
pub const fn base(shortest: u32) -> u32 {
    if shortest > LONGEST_BASE {
        UNKNOWN_BASE
    } else {
        shortest
    }
}

/// The longest round trip of a flow in microseconds, by the shortest and the usual one that TCP has
/// measured.
#[inline(always)]
pub const fn round_trip(shortest: u32, usual: u32) -> u32 {
    let base = base(shortest);
    if usual > base && usual <= LONGEST_BASE {
        usual
    } else {
        base
    }
}

/// Bytes that pass at `rate` in so many microseconds, as far as a window may count them.
#[inline(always)]
const fn bytes(rate: u64, microseconds: u64) -> u64 {
    match (LARGEST * 1_000_000).checked_div(rate) {
        Some(longest) if microseconds > longest => LARGEST,
        _ => rate * microseconds / 1_000_000,
    }
}

/// A number of bytes as a window.
#[inline(always)]
const fn at_most_largest(bytes: u64) -> u32 {
    if bytes > LARGEST {
        LARGEST as u32
    } else {
        bytes as u32
    }
}

impl Control {
    /// [`Self::shortest`], as the windows of background traffic see it. Where they are as large as the rate needs and
    /// nothing waits here, it is because the link is slower: it waits there, and larger windows would only add to it.
    #[inline(always)]
    pub const fn shortest_of_background(shares: u32, shortest: Ticks, rate: u64) -> Ticks {
        let aim = aim(rate);
        if shares >= WHOLE && shortest < aim {
            aim
        } else {
            shortest
        }
    }

    /// A flow's share of the rate, in 1/[`WHOLE`].
    #[inline(always)]
    const fn share(&self) -> u64 {
        let flows = if self.flows > self.flows_before {
            self.flows
        } else {
            self.flows_before
        };
        match (self.shares as u64).checked_div(flows as u64) {
            Some(share) if share <= MOST => share,
            _ => MOST,
        }
    }

    /// The window of a flow in bytes, before it is made whole segments.
    #[inline(always)]
    const fn exact_window(&self, rate: u64, base: u32) -> u64 {
        let microseconds = base as u64 + aim(rate) / TICKS_PER_MICROSECOND;
        bytes(rate, microseconds) * self.share() / WHOLE as u64
    }

    /// The window in bytes of a flow with this base round trip in microseconds and segments of
    /// this size.
    #[inline(always)]
    pub const fn window(&self, rate: u64, base: u32, segment: u32) -> u32 {
        let segment = if (segment as u64) < LEAST_SEGMENT {
            LEAST_SEGMENT
        } else {
            segment as u64
        };
        let exact = self.exact_window(rate, base);
        if exact <= LEAST_SEGMENTS * segment {
            return at_most_largest(LEAST_SEGMENTS * segment);
        }
        match exact.checked_div(segment) {
            Some(segments) => at_most_largest((segments + 1) * segment),
            None => at_most_largest(exact),
        }
    }

    /// With how much of its window a flow begins.
    #[inline(always)]
    pub const fn first(window: u32, segment: u32) -> u32 {
        let segment = if (segment as u64) < LEAST_SEGMENT {
            LEAST_SEGMENT as u32
        } else {
            segment
        };
        let first = window / FIRST_PART;
        let least = LEAST_SEGMENTS as u32 * segment;
        if first > least { first } else { least }
    }

    /// How many bytes a sender may have been allowed so that, sending them all, it is far from being
    /// told to slow down; `signal_after` is [`crate::limit::Limit::signal_after`].
    #[inline(always)]
    pub const fn most_ahead(rate: u64, signal_after: Ticks, base: u32) -> u32 {
        let microseconds = signal_after / 2 / TICKS_PER_MICROSECOND + base as u64;
        bytes(rate, microseconds) as u32
    }

    /// What becomes of the control when a flow acknowledges something at `now`. The limit has this
    /// `rate`, did this `work` and is ahead by `debt`; the flow has this base round trip and was
    /// last counted at `counted`, by [`Self::since`].
    #[inline(always)]
    pub const fn acknowledge(
        &self,
        now: Ticks,
        rate: u64,
        work: Ticks,
        debt: Ticks,
        base: u32,
        counted: Ticks,
    ) -> Self {
        let mut next = *self;
        if base > next.base {
            next.base = base;
        }
        if counted != self.since {
            next.flows = next.flows.wrapping_add(1);
        }
        let passed = now.wrapping_sub(self.since);
        let anew = self.shares == 0 || (passed > IDLE && self.shortest == 0);
        if passed > IMPLAUSIBLE && self.shares != 0 {
            return next;
        } else if anew {
            next.shares = WHOLE;
            next.used = 0;
            next.flows = 1;
        } else if self.wait == LANDING {
            // Only from here on does the queue show what the windows do.
        } else if passed < self.wait as u64 * TICKS_PER_MICROSECOND || self.shortest == u64::MAX {
            return next;
        } else {
            let worked = work.wrapping_sub(self.work);
            let used = match worked.checked_div(passed / WHOLE as u64) {
                Some(used) if used < MOST => used,
                _ => MOST,
            };
            next.shares = next.adjusted(rate, used);
            next.used = ((3 * self.used as u64 + used) / 4) as u32;
        }
        // What is advertised now is what arrives when the queue and the round trip have passed;
        // and less only once it was all used that was advertised before.
        let turn = next.base as u64 + debt / TICKS_PER_MICROSECOND;
        let turns = if next.shares < self.shares { 2 } else { 1 };
        let wait = (turns * turn).saturating_add(PAUSE);
        next.wait = if wait > LONGEST_WAIT {
            LONGEST_WAIT as u32
        } else {
            wait as u32
        };
        next.since = now;
        next.work = work;
        next.shortest = u64::MAX;
        next.base = base;
        next.flows_before = next.flows;
        next.flows = 1;
        next
    }

    /// The same while acknowledgements of a flight are held: the flow is only counted.
    #[inline(always)]
    pub const fn land(&self, now: Ticks, counted: Ticks) -> Self {
        let mut next = *self;
        if self.wait != LANDING {
            next.since = now;
            next.shares = WHOLE;
            next.flows = 1;
            next.wait = LANDING;
        } else if counted != self.since {
            next.flows = next.flows.wrapping_add(1);
        }
        next
    }

    /// The same where nothing holds acknowledgements.
    #[inline(always)]
    pub const fn count(&self, now: Ticks, counted: Ticks) -> Self {
        let mut next = *self;
        if now.wrapping_sub(self.since) > COUNTING {
            next.since = now;
            next.flows_before = next.flows;
            next.flows = 1;
        } else if counted != self.since {
            next.flows = next.flows.wrapping_add(1);
        }
        next
    }

    /// The window in bytes where nothing holds acknowledgements, while the clock is ahead by
    /// `debt`; its sender is given [`POLICED_AIM`] or [`MPTCP_AIM`].
    ///
    /// Once the clock is far enough ahead the window closes. A sender that may not even send a
    /// segment asks with its persist timer until it may, so it waits, and nothing is lost.
    #[inline(always)]
    pub const fn policed_window(
        &self,
        rate: u64,
        debt: Ticks,
        base: u32,
        segment: u32,
        aim: Ticks,
    ) -> u32 {
        let segment = if (segment as u64) < LEAST_SEGMENT {
            LEAST_SEGMENT
        } else {
            segment as u64
        };
        let aim = match (AIM_BYTES * TICKS_PER_SECOND).checked_div(rate) {
            Some(bytes) if bytes > aim => bytes,
            _ => aim,
        };
        let ahead = aim + base as u64 * TICKS_PER_MICROSECOND;
        if debt > ahead {
            // A unit of its scale, which is less than a segment.
            return 1;
        }
        let flows = if self.flows > self.flows_before {
            self.flows as u64
        } else {
            self.flows_before as u64
        };
        let room = bytes(rate, (ahead - debt) / TICKS_PER_MICROSECOND);
        let segments = match room.checked_div(segment * flows) {
            Some(segments) if segments > 0 => segments,
            _ => 1,
        };
        at_most_largest(segments * segment)
    }

    /// The next sum of shares, after so much of the rate was `used`, in 1/[`WHOLE`].
    #[inline(always)]
    const fn adjusted(&self, rate: u64, used: u64) -> u32 {
        let shares = self.shares as u64;
        let wanted = if self.shortest == 0 {
            self.more(rate, used)
        } else {
            self.balanced(rate)
        };
        let wanted = if wanted > 2 * shares {
            2 * shares
        } else {
            wanted
        };
        // Half the way, as the measure is rough.
        match (shares + wanted) / 2 {
            0 => 1,
            next if next > MOST_SHARES => MOST_SHARES as u32,
            next => next as u32,
        }
    }

    /// The sum of shares with which the queue will be as it should.
    #[inline(always)]
    const fn balanced(&self, rate: u64) -> u64 {
        let shares = self.shares as u64;
        let aim = aim(rate);
        let least = LEAST_SEGMENTS * LEAST_SEGMENT;
        if self.shortest > aim && self.exact_window(rate, self.base) <= least {
            // It is as small as it gets; even smaller, it would take long to become larger again.
            return shares;
        }
        let should = self.base as u64 + aim / TICKS_PER_MICROSECOND;
        let is = self.base as u64 + self.shortest / TICKS_PER_MICROSECOND;
        match (shares * should).checked_div(is) {
            Some(balanced) => balanced,
            None => 2 * shares,
        }
    }

    /// The sum of shares after the queue ran empty: more, if it was the windows that held senders
    /// back.
    #[inline(always)]
    const fn more(&self, rate: u64, used: u64) -> u64 {
        let shares = self.shares as u64;
        let usually = self.used as u64;
        // Senders that use little of their windows, or more each round trip (slow start), are held
        // back by something else.
        if used < shares / 8 || used > usually + usually / 4 {
            return shares;
        }
        let aim = self.base as u64 + aim(rate) / TICKS_PER_MICROSECOND;
        let enough = (WHOLE as u64 * (self.base as u64 + LONG_QUEUE)).checked_div(aim);
        if usually > WHOLE as u64 * 31 / 32 && matches!(enough, Some(enough) if shares > enough) {
            return shares;
        }
        let somewhat_more = shares * 9 / 8;
        match (shares * WHOLE as u64).checked_div(used) {
            Some(missing) if missing > somewhat_more => missing,
            Some(_) => somewhat_more,
            None => 2 * shares,
        }
    }
}

impl Grant {
    /// A landing begins, of the limit that was set at `since`. How many bytes from `received` on may
    /// arrive, if the process's own window is `own`: as far as the right edge that was advertised
    /// last. Without an own window, none. While its sender may be `untold` for a while, more than that.
    #[inline(always)]
    pub const fn land(
        &mut self,
        since: Ticks,
        received: u32,
        own: Option<u32>,
        untold: bool,
        ktime: u64,
    ) {
        self.landing = since;
        self.heard = 0;
        let Some(own) = own else {
            self.flight = 0;
            self.flight_is_own = 0;
            return;
        };
        let ahead = self.edge.wrapping_sub(received);
        // An edge that is behind is further than 2^31 ahead.
        let advertised = self.edge_known != 0 && ktime <= self.until + EDGE_HOLDS && ahead < own;
        self.flight = if advertised { ahead } else { own };
        self.flight_is_own = (!advertised && untold) as u32;
    }

    /// Whether anything may be in flight: the window may be full now, and open when the sender is
    /// told.
    #[inline(always)]
    pub const fn has_flight(&self) -> bool {
        self.flight > 0 || self.flight_is_own != 0
    }

    /// The granted window as far as a flow that landed has grown into it: in a round trip to twice of
    /// what it had, as in slow start. Its sender's own is long over.
    #[inline(always)]
    const fn grown(&self, acknowledged: u32) -> u32 {
        if self.landing == 0 {
            return self.window;
        }
        let mut most = self.first;
        if self.edge_known != 0 {
            let before = self.edge.wrapping_sub(self.acknowledged);
            let more = acknowledged.wrapping_sub(self.acknowledged);
            // Behind what was acknowledged before is further than 2^31 ahead.
            if more <= LARGEST as u32 && before <= LARGEST as u32 && before + more > most {
                most = before + more;
            }
        }
        if self.window < most {
            self.window
        } else {
            most
        }
    }

    /// How much sooner an acknowledgement leaves than all that it acknowledges is repaid, at this
    /// rate, if everything up to `received` has arrived.
    ///
    /// What receive offload made one packet of is acknowledged at once, though a link of that rate
    /// would have delivered it bit by bit. If its acknowledgement waited for the last bit, the
    /// sender would wait for it with nothing else on its way. So it leaves with the first two
    /// segments.
    #[inline(always)]
    pub const fn ahead_of_batch(&self, received: u32, segment: u32, rate: u64) -> Ticks {
        let batch = received.wrapping_sub(self.acknowledged);
        if self.edge_known == 0 || batch > LARGEST as u32 {
            return 0;
        }
        let rest = batch.saturating_sub(LEAST_SEGMENTS as u32 * segment);
        match (rest as u64 * TICKS_PER_SECOND).checked_div(rate) {
            Some(time) => time,
            None => 0,
        }
    }

    /// Takes note that a window is advertised in place of the header's, by a packet that leaves at
    /// that time, in nanoseconds.
    #[inline(always)]
    pub const fn told(&mut self, header: Header, at: u64) {
        if self.heard != 0 || header.flags & ACK == 0 {
            return;
        }
        self.heard = at + (self.round_trip as u64 * 3 / 2 + HEARING) * 1000;
        if self.flight_is_own != 0 {
            // No further than to here did the process allow anything until now.
            self.flight = (header.window as u32) << self.scale;
        }
    }

    /// The window field that is to take the place of the header's, if any.
    ///
    /// The right edge is not taken back (RFC 9293, section 3.8.6.2.1), unless it is so far ahead
    /// that what the sender may send up to it would be dropped. The process itself still accepts
    /// all that it had allowed.
    #[inline(always)]
    pub const fn advertise(&mut self, header: Header) -> Option<u16> {
        if header.flags & ACK == 0 || header.flags & (SYN | RST) != 0 {
            return None;
        }
        let own = header.window as u32;
        let ahead = if self.edge_known == 0 {
            own << self.scale
        } else {
            self.edge.wrapping_sub(header.acknowledged)
        };
        // An edge that is behind is further than 2^31 ahead. Rounded down: windows are taken back
        // by less than a unit of their scale all the time (RFC 7323, section 2.4), and an edge that
        // was rounded up for each acknowledgement would run away.
        let kept = if ahead <= self.most_ahead {
            ahead >> self.scale
        } else {
            0
        };
        let granted = self.grown(header.acknowledged);
        let granted = (granted + (1 << self.scale) - 1) >> self.scale;
        let wanted = if kept > granted { kept } else { granted };
        let field = if wanted < own { wanted } else { own };
        self.edge = header.acknowledged.wrapping_add(field << self.scale);
        self.edge_known = 1;
        self.acknowledged = header.acknowledged;
        if field < own {
            Some(field as u16)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests;
