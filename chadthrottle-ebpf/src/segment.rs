//! A TCP segment on a device: its header, and the window in it.

use aya_ebpf::{
    bindings::bpf_hdr_start_off::BPF_HDR_START_NET,
    helpers::generated::bpf_skb_load_bytes_relative,
    programs::{TcContext, sk_buff::SkBuff},
};
use chadthrottle_common::window::Header;

const IPPROTO_TCP: u8 = 6;

/// A segment's TCP header.
pub struct Segment {
    /// Where it begins, in bytes from the packet's first one.
    offset: usize,
    /// The version of IP.
    pub version: u8,
    /// What it says of a window.
    pub header: Header,
    /// The source port, in network byte order.
    pub source: u16,
    /// The destination port, in network byte order.
    pub destination: u16,
}

impl Segment {
    /// The segment in a packet. Nothing for fragments, IPv6 with extension headers and packets that
    /// tell no length (BIG TCP): their windows are left alone.
    #[inline(always)]
    pub fn of(skb: &SkBuff) -> Option<Self> {
        // A device may put any header before IP's, and none says how long it is; the lengths do.
        let [first, _, b2, b3, _, _, next, _]: [u8; 8] = network(skb, 0)?;
        let (length, header) = match first >> 4 {
            4 => {
                let [_, _, fragment, offset, _, protocol, _, _]: [u8; 8] = network(skb, 4)?;
                if protocol != IPPROTO_TCP || fragment & 0x3f != 0 || offset != 0 {
                    return None;
                }
                (
                    u32::from(u16::from_be_bytes([b2, b3])),
                    u32::from(first & 0xf) * 4,
                )
            }
            6 if next == IPPROTO_TCP => {
                let [_, _, _, _, b4, b5, _, _]: [u8; 8] = network(skb, 0)?;
                (u32::from(u16::from_be_bytes([b4, b5])) + 40, 40)
            }
            _ => return None,
        };
        let offset = (skb.len().checked_sub(length)? + header) as usize;
        let told: [u8; 16] = network(skb, header)?;
        let [s, t, d, e, _, _, _, _, a, b, c, f, _, flags, w, v] = told;
        let there: [u8; 16] = skb.load(offset).ok()?;
        if there != told {
            return None;
        }
        Some(Self {
            offset,
            version: first >> 4,
            header: Header {
                acknowledged: u32::from_be_bytes([a, b, c, f]),
                flags,
                window: u16::from_be_bytes([w, v]),
            },
            source: u16::from_ne_bytes([s, t]),
            destination: u16::from_ne_bytes([d, e]),
        })
    }

    /// Writes another window into the packet.
    #[inline(always)]
    pub fn set_window(&self, ctx: &TcContext, field: u16) {
        let (old, new) = (self.header.window.to_be(), field.to_be());
        // The checksum first: if it can't be changed, nothing is.
        if ctx
            .l4_csum_replace(self.offset + 16, old.into(), new.into(), 2)
            .is_ok()
        {
            let _ = ctx.store(self.offset + 14, &new, 0);
        }
    }
}

/// Bytes of a packet from its network header on.
#[inline(always)]
pub fn network<const N: usize>(skb: &SkBuff, offset: u32) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: a valid context and a buffer of that length.
    let loaded = unsafe {
        bpf_skb_load_bytes_relative(
            skb.skb.cast(),
            offset,
            bytes.as_mut_ptr().cast(),
            N as u32,
            BPF_HDR_START_NET,
        )
    };
    (loaded == 0).then_some(bytes)
}
