//! How much a packet carries.

use aya_ebpf::{btf_maps::lpm_trie::Key, programs::SkBuffContext};
use chadthrottle_common::{
    address::{TrafficClass, is_local_v4, is_local_v6},
    round_trip::Timestamps,
    tag::SlotState,
    traffic::{Direction, Traffic},
};

use crate::maps::LOCAL_PREFIXES;

const IPPROTO_HOPOPTS: u8 = 0;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const IPPROTO_ROUTING: u8 = 43;
const IPPROTO_FRAGMENT: u8 = 44;
const IPPROTO_AH: u8 = 51;
const IPPROTO_DSTOPTS: u8 = 60;

// TCP flags, RFC 9293, section 3.1.
const SYN: u8 = 0x02;
const RST: u8 = 0x04;

/// IPv6 extension headers that are followed; more than any real packet carries.
const MAX_EXTENSION_HEADERS: usize = 6;

/// Where the upper layer begins after an IPv4 header without options.
const AFTER_IPV4: usize = 20;

/// Where it begins after an IPv6 header without extensions.
const AFTER_IPV6: usize = 40;

/// Where TCP's header has its own length and its flags.
const TCP_LENGTH_AND_FLAGS: usize = 12;

/// A packet, as far as it matters.
pub struct Packet {
    /// What it carries.
    pub amount: Traffic,
    /// Whether delaying it slows down who sends to this socket: TCP's acknowledgements, and
    /// everything of other protocols, whose acknowledgements can't be told. Not a SYN or RST.
    pub clocks_peer: bool,
    /// Whether it is TCP's.
    pub is_tcp: bool,
}

/// Measures a packet: payload above TCP or UDP (for other protocols the whole packet), and what
/// it is on the wire once segmentation offload has cut it up.
#[inline(always)]
pub fn measure(ctx: &SkBuffContext) -> Packet {
    // SAFETY: the kernel hands the program a valid context.
    let (length, segments) = unsafe { ((*ctx.skb.skb).len as u64, (*ctx.skb.skb).gso_segs as u64) };
    let segments = if segments == 0 { 1 } else { segments };
    match headers(ctx) {
        Some((headers, clocks_peer, is_tcp)) => Packet {
            amount: Traffic {
                payload: length.saturating_sub(headers),
                wire: length + (segments - 1) * headers,
                packets: segments,
            },
            clocks_peer,
            is_tcp,
        },
        None => Packet {
            amount: Traffic {
                payload: length,
                wire: length,
                packets: segments,
            },
            clocks_peer: true,
            is_tcp: false,
        },
    }
}

/// Reads at an offset from the IP header. The headers nearly always lie in the linear part, from
/// which a read costs a comparison; a helper call costs several times what all else does. The
/// offset is a constant because the verifiers of Linux 6.1 and older lose track of others.
#[inline(always)]
fn read<const OFFSET: usize, T: Copy>(ctx: &SkBuffContext) -> Option<T> {
    // SAFETY: the kernel hands the program a valid context; what is read was compared with the
    // packet's end, as the verifier demands.
    unsafe {
        let data = (*ctx.skb.skb).data as usize;
        let end = (*ctx.skb.skb).data_end as usize;
        if data + OFFSET + size_of::<T>() <= end {
            return Some(((data + OFFSET) as *const T).read_unaligned());
        }
    }
    ctx.load(OFFSET).ok()
}

/// Bytes of IP and TCP or UDP headers, [`Packet::clocks_peer`] and [`Packet::is_tcp`]; nothing for other
/// protocols.
/// The data of cgroup_skb begins at the IP header.
#[inline(always)]
fn headers(ctx: &SkBuffContext) -> Option<(u64, bool, bool)> {
    // All at once: of a single first byte, the compiler's comparison would prove nothing to the
    // verifier.
    let [first, .., next, _, _, protocol]: [u8; 10] = read::<0, _>(ctx)?;
    match (first >> 4, first & 0xf) {
        (4, 5) => upper_layer(protocol, AFTER_IPV4, || {
            read::<{ AFTER_IPV4 + TCP_LENGTH_AND_FLAGS }, _>(ctx)
        }),
        (6, _) if matches!(next, IPPROTO_TCP | IPPROTO_UDP) => {
            upper_layer(next, AFTER_IPV6, || {
                read::<{ AFTER_IPV6 + TCP_LENGTH_AND_FLAGS }, _>(ctx)
            })
        }
        (version, words) => {
            let (protocol, offset) = match version {
                4 => (protocol, usize::from(words) * 4),
                6 => behind_extensions(ctx, next)?,
                _ => return None,
            };
            upper_layer(protocol, offset, || {
                ctx.load(offset + TCP_LENGTH_AND_FLAGS).ok()
            })
        }
    }
}

/// Bytes of the headers up to the payload of a protocol that begins at `offset`.
#[inline(always)]
fn upper_layer(
    protocol: u8,
    offset: usize,
    tcp_length_and_flags: impl FnOnce() -> Option<[u8; 2]>,
) -> Option<(u64, bool, bool)> {
    match protocol {
        IPPROTO_TCP => {
            let [length, flags] = tcp_length_and_flags()?;
            let length = u64::from(length >> 4) * 4;
            Some((offset as u64 + length, flags & (SYN | RST) == 0, true))
        }
        IPPROTO_UDP => Some((offset as u64 + 8, true, false)),
        _ => None,
    }
}

/// The protocol above IPv6 and its extension headers (RFC 8200, section 4), and where it begins.
#[inline(always)]
fn behind_extensions(ctx: &SkBuffContext, next: u8) -> Option<(u8, usize)> {
    let mut protocol = next;
    let mut offset = AFTER_IPV6;
    for _ in 0..MAX_EXTENSION_HEADERS {
        let units = match protocol {
            IPPROTO_HOPOPTS | IPPROTO_ROUTING | IPPROTO_DSTOPTS => 8,
            // RFC 4302: its length counts 4 bytes, less two of them.
            IPPROTO_AH => 4,
            IPPROTO_FRAGMENT => 0,
            _ => break,
        };
        let [next, length]: [u8; 2] = ctx.load(offset).ok()?;
        let base = if units == 0 { 0 } else { usize::from(length) };
        protocol = next;
        offset += 8 + base * units;
    }
    Some((protocol, offset))
}

/// The class of a packet, by its remote address: the source of what is received, the destination of
/// what is sent. Whether an address is in this machine's own networks is only looked up where it matters.
#[inline(always)]
pub fn class(ctx: &SkBuffContext, direction: Direction, state: &SlotState) -> TrafficClass {
    let remote = match (
        read::<0, [u8; 2]>(ctx).unwrap_or_default()[0] >> 4,
        direction,
    ) {
        (4, Direction::Download) => read::<12, u32>(ctx).map(v4),
        (4, Direction::Upload) => read::<16, u32>(ctx).map(v4),
        (6, Direction::Download) => read::<8, [u32; 4]>(ctx).map(v6),
        (6, Direction::Upload) => read::<24, [u32; 4]>(ctx).map(v6),
        _ => None,
    };
    let Some((local, address)) = remote else {
        return TrafficClass::Internet;
    };
    TrafficClass::of(local || (state.tells_classes() && is_on_link(address[0], address[1]) != 0))
}

/// The timestamps of a TCP segment, where its IP header is of the usual length.
#[inline(always)]
pub fn timestamps(ctx: &SkBuffContext) -> Option<Timestamps> {
    let [first, ..]: [u8; 2] = read::<0, _>(ctx)?;
    let header: [u8; Timestamps::HEADER] = match (first >> 4, first & 0xf) {
        (4, 5) => read::<AFTER_IPV4, _>(ctx)?,
        (6, _) => read::<AFTER_IPV6, _>(ctx)?,
        _ => return None,
    };
    Timestamps::of(&header)
}

/// Whether a queue on the way marked the packet (ECN, RFC 3168, section 5).
#[inline(always)]
pub fn is_marked(ctx: &SkBuffContext) -> bool {
    const CONGESTION_EXPERIENCED: u8 = 3;
    let Some([first, second]) = read::<0, [u8; 2]>(ctx) else {
        return false;
    };
    let class = match first >> 4 {
        6 => second >> 4,
        _ => second,
    };
    class & CONGESTION_EXPERIENCED == CONGESTION_EXPERIENCED
}

/// Whether an address is local by itself, and the address as one of IPv6, in network order.
#[inline(always)]
fn v4(address: u32) -> (bool, [u64; 2]) {
    let mapped = u64::from(u32::from_be(address)) | 0xffff_0000_0000;
    (is_local_v4(u32::from_be(address)), [0, mapped.to_be()])
}

#[inline(always)]
fn v6(address: [u32; 4]) -> (bool, [u64; 2]) {
    let words = address.map(u32::from_be);
    let [a, b, c, d] = words.map(u64::from);
    let halves = [(a << 32 | b).to_be(), (c << 32 | d).to_be()];
    (is_local_v6(words), halves)
}

/// Whether an address is in one of this machine's own networks. A global function, as
/// [`crate::throttle::answer_download`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_on_link(first: u64, last: u64) -> u32 {
    let mut address = [0; 16];
    address[..8].copy_from_slice(&first.to_ne_bytes());
    address[8..].copy_from_slice(&last.to_ne_bytes());
    LOCAL_PREFIXES.get(&Key::new(128, address)).is_some().into()
}
