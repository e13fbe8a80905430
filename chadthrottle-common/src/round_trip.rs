//! What the sockets of background traffic tell of the link: round trips, by TCP's timestamps, and losses.
//!
//! What a socket sends carries a timestamp, and the peer's answer carries it back (RFC 7323, section 3). From the
//! moment that the packet leaves this machine, which may be later than TCP made it, until the first answer to it comes,
//! is a round trip: of what is sent and of what is received alike, and without the time for which this machine itself held
//! the packet. It is what RFC 9840 measures for downloads.
//!
//! What is lost on its way here leaves a hole in the stream: a segment comes before an earlier one has. What is lost of
//! what is sent, TCP sends again.

use crate::map_value;

/// The next round trip is measured so long after the last one, in nanoseconds.
const PAUSE: u64 = 15_000_000;

/// A timestamp that nobody answered for so long is given up.
const LOST: u64 = 2_000_000_000;

/// The timestamps of a segment, and where in the stream it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamps {
    /// The number of its first byte.
    pub sequence: u32,
    /// The sender's own.
    pub value: u32,
    /// The one that it answers.
    pub echo: u32,
}

impl Timestamps {
    /// So many bytes of a TCP header are looked at.
    pub const HEADER: usize = 32;

    /// The timestamps in a TCP header; nothing if it has none where all but the first segments have them, before any
    /// other option (RFC 7323, appendix A).
    #[inline(always)]
    pub const fn of(header: &[u8; Self::HEADER]) -> Option<Self> {
        // Two options of no operation, then kind 8 of ten bytes; the header is as long as that, at least.
        if header[12] >> 4 < 8
            || header[20] != 1
            || header[21] != 1
            || header[22] != 8
            || header[23] != 10
        {
            return None;
        }
        Some(Self {
            sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            value: u32::from_be_bytes([header[24], header[25], header[26], header[27]]),
            echo: u32::from_be_bytes([header[28], header[29], header[30], header[31]]),
        })
    }
}

/// What is known of a socket's timestamps and losses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// When the packet with the timestamp `value` leaves, in nanoseconds of `CLOCK_MONOTONIC`; 0 if none is waited for.
    pub departs: u64,
    /// Not before this time is the next one measured.
    pub next: u64,
    /// The timestamp whose answer is waited for.
    pub value: u32,
    /// The last that was sent.
    pub last: u32,
    /// The number of the byte that is expected next, if [`Self::EXPECTS`] says so.
    pub expected: u32,
    /// How many segments were sent again, if [`Self::COUNTS`] says so.
    pub resent: u32,
    /// How many bytes were acknowledged, if [`Self::HEARS`] says so.
    pub acknowledged: u64,
    /// Which of these are known.
    pub known: u32,
    /// Nothing.
    pub reserved: u32,
}
map_value!(Probe, 48);

impl Probe {
    /// [`Self::expected`] is known.
    pub const EXPECTS: u32 = 1;
    /// [`Self::resent`] is known.
    pub const COUNTS: u32 = 2;
    /// [`Self::acknowledged`] is known.
    pub const HEARS: u32 = 4;

    /// So many bytes of the stream came: whether there is a hole before them that was not there.
    #[inline(always)]
    pub const fn arrived(&mut self, sequence: u32, bytes: u32) -> bool {
        if bytes == 0 {
            return false;
        }
        let end = sequence.wrapping_add(bytes);
        let is_first = self.known & Self::EXPECTS == 0;
        let expected = if is_first { sequence } else { self.expected };
        self.known |= Self::EXPECTS;
        if is_first || is_after(end, expected) {
            self.expected = end;
        }
        is_after(sequence, expected)
    }

    /// So many segments of the socket were sent again in all: how many more than before.
    #[inline(always)]
    pub const fn sent_again(&mut self, resent: u32) -> u32 {
        let before = if self.known & Self::COUNTS == 0 {
            resent
        } else {
            self.resent
        };
        self.known |= Self::COUNTS;
        self.resent = resent;
        resent.wrapping_sub(before)
    }

    /// So many bytes of the socket were acknowledged in all: how many more than before.
    #[inline(always)]
    pub const fn heard(&mut self, acknowledged: u64) -> u64 {
        let before = if self.known & Self::HEARS == 0 {
            acknowledged
        } else {
            self.acknowledged
        };
        self.known |= Self::HEARS;
        self.acknowledged = acknowledged;
        acknowledged.wrapping_sub(before)
    }

    /// A packet with this timestamp is sent at `now`, and leaves the machine at `departs`. Of several with the same
    /// timestamp only the first counts: the answer may be to any of them.
    #[inline(always)]
    pub const fn sent(&mut self, value: u32, now: u64, departs: u64) {
        let is_first = value != self.last;
        self.last = value;
        let is_waiting = self.departs != 0 && now < self.departs + LOST;
        if is_first && !is_waiting && now >= self.next {
            self.value = value;
            self.departs = departs;
        }
    }

    /// What came at `now` answers this timestamp: the round trip in nanoseconds if it is the one that is waited for.
    #[inline(always)]
    pub const fn answered(&mut self, echo: u32, now: u64) -> Option<u64> {
        let later = echo.wrapping_sub(self.value);
        // Of an earlier one.
        if self.departs == 0 || later > u32::MAX / 2 {
            return None;
        }
        let departed = self.departs;
        self.departs = 0;
        // A later one's answer says nothing of when this one would have been answered.
        if later != 0 || now <= departed {
            return None;
        }
        self.next = now + PAUSE;
        Some(now - departed)
    }
}

/// Whether a number of the stream is after another (RFC 9293, section 3.4).
#[inline(always)]
const fn is_after(number: u32, other: u32) -> bool {
    let ahead = number.wrapping_sub(other);
    ahead != 0 && ahead <= u32::MAX / 2
}

/// A round trip that was measured.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundTrip {
    /// The flow: its socket's cookie.
    pub flow: u64,
    /// How long it took, in nanoseconds.
    pub nanoseconds: u64,
    /// The device by which the answer came, as [`crate::traffic::device_entry`] tells.
    pub device: u32,
    /// The shortest that TCP knows of this flow, in microseconds, as `tcp_sock.rtt_min` has it; `u32::MAX` before it
    /// knows any.
    pub shortest: u32,
}
map_value!(RoundTrip, 24);

impl RoundTrip {
    /// Reads a record of the ring buffer; nothing if it has another size.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (flow, rest) = bytes.split_first_chunk()?;
        let (nanoseconds, rest) = rest.split_first_chunk()?;
        let (device, rest) = rest.split_first_chunk()?;
        let (shortest, rest) = rest.split_first_chunk()?;
        rest.is_empty().then_some(Self {
            flow: u64::from_ne_bytes(*flow),
            nanoseconds: u64::from_ne_bytes(*nanoseconds),
            device: u32::from_ne_bytes(*device),
            shortest: u32::from_ne_bytes(*shortest),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_round_trip_is_from_departure_to_the_first_answer() {
        let mut probe = Probe::default();
        // Sent at 5 ms, held until 25 ms.
        probe.sent(100, 5 * MS, 25 * MS);
        probe.sent(100, 5 * MS, 45 * MS);
        assert_eq!(probe.answered(99, 30 * MS), None, "an earlier one");
        assert_eq!(probe.answered(100, 65 * MS), Some(40 * MS));
        assert_eq!(probe.answered(100, 70 * MS), None, "once");
    }

    #[test]
    fn an_answer_to_a_later_one_tells_nothing() {
        let mut probe = Probe::default();
        probe.sent(100, MS, MS);
        probe.sent(101, 2 * MS, 2 * MS);
        assert_eq!(probe.answered(101, 40 * MS), None);
        // The next one is measured.
        probe.sent(102, 41 * MS, 41 * MS);
        assert_eq!(probe.answered(102, 61 * MS), Some(20 * MS));
    }

    #[test]
    fn the_second_of_a_timestamp_is_not_measured() {
        let mut probe = Probe::default();
        probe.sent(100, MS, MS);
        assert_eq!(probe.answered(100, 21 * MS), Some(20 * MS));
        // Within the pause.
        probe.sent(130, 30 * MS, 30 * MS);
        // The pause is over, but which of the two is answered nobody can say.
        probe.sent(130, 37 * MS, 37 * MS);
        assert_eq!(probe.answered(130, 50 * MS), None);
        probe.sent(140, 51 * MS, 51 * MS);
        assert_eq!(probe.answered(140, 75 * MS), Some(24 * MS));
    }

    #[test]
    fn a_hole_counts_once() {
        let mut probe = Probe::default();
        let near_end = u32::MAX - 999;
        for (sequence, bytes, is_hole) in [
            (near_end, 1000, false),
            // The handshake's and acknowledgements have no bytes.
            (70, 0, false),
            (0, 1000, false),
            // From 1000 on 500 are missing.
            (1500, 500, true),
            (2000, 500, false),
            (1000, 500, false),
            (2500, 500, false),
            // Sent again though it was there.
            (1000, 3000, false),
            (4100, 10, true),
        ] {
            assert_eq!(probe.arrived(sequence, bytes), is_hole, "{sequence}");
        }
    }

    #[test]
    fn what_was_before_does_not_count() {
        let mut probe = Probe::default();
        let counts = [(70, 0), (70, 0), (73, 3), (73, 0)];
        for (all, more) in counts {
            assert_eq!(probe.sent_again(all), more);
            assert_eq!(probe.heard(all.into()), more.into());
        }
    }

    #[test]
    fn timestamps_turn_over_and_lost_ones_are_given_up() {
        let mut probe = Probe::default();
        probe.sent(u32::MAX, MS, MS);
        assert_eq!(probe.answered(u32::MAX - 1, 10 * MS), None);
        assert_eq!(probe.answered(u32::MAX, 11 * MS), Some(10 * MS));
        probe.sent(30, 100 * MS, 100 * MS);
        probe.sent(31, 500 * MS, 500 * MS);
        assert_eq!(probe.value, 30);
        probe.sent(3000, 3000 * MS, 3000 * MS);
        assert_eq!(probe.answered(3000, 3010 * MS), Some(10 * MS));
    }

    #[test]
    fn an_answer_before_the_departure_is_none() {
        let mut probe = Probe::default();
        probe.sent(7, MS, 50 * MS);
        assert_eq!(probe.answered(7, 40 * MS), None);
    }

    #[test]
    fn timestamps_are_read_where_they_usually_are() {
        let mut header = [0; Timestamps::HEADER];
        header[12] = 8 << 4;
        header[20..24].copy_from_slice(&[1, 1, 8, 10]);
        header[4..8].copy_from_slice(&55u32.to_be_bytes());
        header[24..28].copy_from_slice(&77u32.to_be_bytes());
        header[28..32].copy_from_slice(&99u32.to_be_bytes());
        let there = Timestamps {
            sequence: 55,
            value: 77,
            echo: 99,
        };
        assert_eq!(Timestamps::of(&header), Some(there));
        // Five words: what follows is payload.
        header[12] = 5 << 4;
        assert_eq!(Timestamps::of(&header), None);
        header[12] = 8 << 4;
        header[22] = 5;
        assert_eq!(Timestamps::of(&header), None);
    }

    #[test]
    fn a_record_is_read_field_by_field() {
        let mut bytes = [0; 24];
        for (at, value) in [(0, 7u64), (8, 20_000_000)] {
            bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        }
        bytes[16..20].copy_from_slice(&3u32.to_ne_bytes());
        bytes[20..].copy_from_slice(&19_000u32.to_ne_bytes());
        let read = RoundTrip {
            flow: 7,
            nanoseconds: 20_000_000,
            device: 3,
            shortest: 19_000,
        };
        assert_eq!(RoundTrip::from_bytes(&bytes), Some(read));
        assert_eq!(RoundTrip::from_bytes(&bytes[1..]), None);
    }
}
