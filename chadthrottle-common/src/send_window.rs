//! How much a limited process may have on its way: the send window of its TCP sockets (SND.WND in RFC
//! 9293, section 3.3.1), made smaller in the acknowledgements that reach it.
//!
//! What TCP may not send it keeps, and the program that wrote it waits: nothing leaves that would have
//! to be held for long or dropped. How large the windows are is found as for downloads, see
//! [`crate::window::Control`]; the queue is here what waits for its departure.

use crate::{clock::Ticks, map_value, window::Header};

/// How long a grant holds beyond two round trips, in nanoseconds. An acknowledgement that comes later
/// says what the peer said.
const HOLDS: u64 = 200_000_000;

/// It holds no longer, in nanoseconds: then a limit has no effect on acknowledgements of what was sent
/// before it was removed.
const HOLDS_AT_MOST: u64 = 1_000_000_000;

/// A grant younger than this is as good as a new one, in nanoseconds.
const FRESH: u64 = 1_000_000;

/// A socket is granted no less than so many segments.
const LEAST_SEGMENTS: u32 = 2;

// TCP flags, RFC 9293, section 3.1.
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// When a socket was last granted a window, in nanoseconds of `CLOCK_MONOTONIC`, and [`SendGrant::holds`] in the
/// lowest bit. It is where a packet's socket is looked up anyway, because a packet that finds it fresh needs
/// nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted(pub u64);

impl Granted {
    /// A window is granted now.
    #[inline(always)]
    pub const fn now(ktime: u64, holds: bool) -> Self {
        Self(ktime & !1 | holds as u64)
    }

    /// Whether windows reach the socket; nothing if it needs another by now.
    #[inline(always)]
    pub const fn fresh(self, ktime: u64) -> Option<bool> {
        if ktime.wrapping_sub(self.0 & !1) < FRESH {
            Some(self.0 & 1 != 0)
        } else {
            None
        }
    }
}

/// The window that a socket may be told of.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendGrant {
    /// Until when this holds, in nanoseconds of `CLOCK_MONOTONIC`.
    pub until: u64,
    /// [`crate::window::Control::since`] when the flow was last counted.
    pub counted: Ticks,
    /// How many bytes from the acknowledged one on.
    pub window: u32,
    /// By how many bits the peer scales its windows.
    pub scale: u32,
    /// 1 once an acknowledgement was found to say no more than was granted.
    pub holds: u32,
    /// Unused.
    pub padding: u32,
}
map_value!(SendGrant, 32);

impl SendGrant {
    /// Grants a window at that time, to a socket with this usual round trip in microseconds.
    #[inline(always)]
    pub const fn renew(&mut self, window: u32, segment: u32, round_trip: u32, ktime: u64) {
        let least = LEAST_SEGMENTS * segment;
        self.window = if window > least { window } else { least };
        let holds = 2 * round_trip as u64 * 1000 + HOLDS;
        self.until = ktime
            + if holds < HOLDS_AT_MOST {
                holds
            } else {
                HOLDS_AT_MOST
            };
    }

    /// The window field that is to take the place of the one in an acknowledgement, if any.
    #[inline(always)]
    pub const fn narrowed(&self, header: Header, ktime: u64) -> Option<u16> {
        if header.flags & ACK == 0 || header.flags & (SYN | RST) != 0 || ktime > self.until {
            return None;
        }
        // Rounded up, so that it is never nothing.
        let granted = (self.window + (1 << self.scale) - 1) >> self.scale;
        if granted < header.window as u32 {
            Some(granted as u16)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 5_000_000_000;

    fn granted(window: u32, scale: u32) -> SendGrant {
        let mut grant = SendGrant {
            scale,
            ..SendGrant::default()
        };
        grant.renew(window, 1448, 20_000, NOW);
        grant
    }

    fn header(window: u16, flags: u8) -> Header {
        Header {
            acknowledged: 1,
            flags,
            window,
        }
    }

    #[test]
    fn windows_are_made_smaller_and_never_larger_or_nothing() {
        for (grant, told, narrowed) in [
            (granted(14_480, 7), 500, Some(114)),
            (granted(14_480, 7), 100, None),
            (granted(14_480, 0), 65_535, Some(14_480)),
            (granted(14_480, 0), 14_480, None),
            // At the least two segments, and a unit of the scale.
            (granted(1, 7), 500, Some(23)),
            (granted(1, 14), 500, Some(1)),
            // The peer's own zero stays zero.
            (granted(1, 14), 0, None),
        ] {
            assert_eq!(
                grant.narrowed(header(told, ACK), NOW),
                narrowed,
                "{grant:?}"
            );
        }
    }

    #[test]
    fn connections_that_begin_or_end_are_left_alone() {
        let grant = granted(14_480, 0);
        for flags in [SYN, SYN | ACK, RST, RST | ACK, 0] {
            assert_eq!(grant.narrowed(header(65_535, flags), NOW), None);
        }
    }

    #[test]
    fn a_grant_ends_soon_after_the_limit() {
        let grant = granted(14_480, 0);
        assert!(
            grant
                .narrowed(header(65_535, ACK), NOW + 240_000_000)
                .is_some()
        );
        assert_eq!(grant.narrowed(header(65_535, ACK), NOW + 241_000_000), None);
        let mut far = grant;
        far.renew(14_480, 1448, 1_000_000, NOW);
        assert_eq!(far.until, NOW + HOLDS_AT_MOST);
        assert_eq!(
            SendGrant::default().narrowed(header(65_535, ACK), NOW),
            None
        );
    }

    #[test]
    fn a_fresh_grant_is_not_granted_again() {
        for holds in [false, true] {
            let granted = Granted::now(NOW, holds);
            assert_eq!(granted.fresh(NOW + 999_999), Some(holds));
            assert_eq!(granted.fresh(NOW + 1_000_000), None);
        }
        assert_eq!(Granted(0).fresh(NOW), None);
    }
}
