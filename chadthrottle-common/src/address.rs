//! Which traffic is local: decided by the remote address at the IP header, the same code in the
//! kernel and in host tests.

/// How many prefixes of this machine's own networks are known in the kernel. Of further ones, those addresses are
/// local that are so by themselves.
pub const MAX_PREFIXES: u32 = 1024;

/// A class of traffic, by its remote address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrafficClass {
    /// Everything that is not local.
    Internet,
    /// The local network, and this machine.
    Local,
}

impl TrafficClass {
    /// Both, in the order in which arrays hold them.
    pub const BOTH: [Self; 2] = [Self::Internet, Self::Local];

    /// The position in arrays by class.
    #[inline(always)]
    pub const fn index(self) -> usize {
        match self {
            Self::Internet => 0,
            Self::Local => 1,
        }
    }

    /// The class of what `local` says of an address.
    #[inline(always)]
    pub const fn of(local: bool) -> Self {
        if local { Self::Local } else { Self::Internet }
    }
}

/// Whether `address` begins with the `bits` bits of `prefix`.
#[inline(always)]
const fn within(address: u32, prefix: [u8; 4], bits: u32) -> bool {
    (address ^ u32::from_be_bytes(prefix)) >> (32 - bits) == 0
}

/// Whether an IPv4 address, in host byte order, is local: private (RFC 1918), shared by a carrier's
/// customers (RFC 6598), link-local (RFC 3927), loopback and unspecified (RFC 1122), multicast
/// (RFC 5771) or the limited broadcast (RFC 919).
#[inline(always)]
pub const fn is_local_v4(address: u32) -> bool {
    within(address, [10, 0, 0, 0], 8)
        || within(address, [172, 16, 0, 0], 12)
        || within(address, [192, 168, 0, 0], 16)
        || within(address, [100, 64, 0, 0], 10)
        || within(address, [169, 254, 0, 0], 16)
        || within(address, [127, 0, 0, 0], 8)
        || within(address, [224, 0, 0, 0], 4)
        || within(address, [0, 0, 0, 0], 8)
        || address == u32::MAX
}

/// Whether an IPv6 address, its four words in host byte order, is local: loopback, unspecified and
/// link-local (RFC 4291), unique local (RFC 4193), multicast (RFC 4291), or an IPv4-mapped address
/// (RFC 4291, section 2.5.5.2) of which [`is_local_v4`] says so.
#[inline(always)]
pub const fn is_local_v6(address: [u32; 4]) -> bool {
    let [first, second, third, last] = address;
    if first == 0 && second == 0 {
        return match third {
            0 => last <= 1,
            0xffff => is_local_v4(last),
            _ => false,
        };
    }
    within(first, [0xfc, 0, 0, 0], 7)
        || within(first, [0xfe, 0x80, 0, 0], 10)
        || within(first, [0xff, 0, 0, 0], 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    fn is_local(address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => is_local_v4(address.to_bits()),
            IpAddr::V6(address) => is_local_v6(words(address)),
        }
    }

    fn words(address: Ipv6Addr) -> [u32; 4] {
        [96, 64, 32, 0].map(|shift| (address.to_bits() >> shift) as u32)
    }

    #[test]
    fn the_edges_of_each_range() {
        for (first, last) in [
            ("10.0.0.0", "10.255.255.255"),
            ("172.16.0.0", "172.31.255.255"),
            ("192.168.0.0", "192.168.255.255"),
            ("100.64.0.0", "100.127.255.255"),
            ("169.254.0.0", "169.254.255.255"),
            ("127.0.0.0", "127.255.255.255"),
            ("224.0.0.0", "239.255.255.255"),
            ("0.0.0.0", "0.255.255.255"),
            ("255.255.255.255", "255.255.255.255"),
            ("::", "::1"),
            ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("::ffff:10.0.0.0", "::ffff:10.255.255.255"),
            ("::ffff:192.168.0.0", "::ffff:192.168.255.255"),
        ] {
            for address in [first, last] {
                assert!(is_local(address.parse().unwrap()), "{address}");
            }
        }
        for outside in [
            "9.255.255.255",
            "11.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "223.255.255.255",
            "240.0.0.0",
            "1.0.0.0",
            "255.255.255.254",
            "8.8.8.8",
            "::2",
            "::1:0:0",
            "fbff::",
            "fe00::",
            "fe7f::",
            "fec0::",
            "2001:db8::1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "::fffe:10.0.0.1",
            "64:ff9b::10.0.0.1",
        ] {
            assert!(!is_local(outside.parse().unwrap()), "{outside}");
        }
    }

    proptest! {
        /// The standard library knows most of the ranges, too.
        #[test]
        fn as_the_standard_library_has_it_v4(bits: u32) {
            let a = Ipv4Addr::from_bits(bits);
            let shared = a.octets()[0] == 100 && a.octets()[1] & 0xc0 == 64;
            let local = a.is_private() || a.is_link_local() || a.is_loopback() || a.is_multicast()
                || a.is_broadcast() || a.octets()[0] == 0 || shared;
            prop_assert_eq!(is_local_v4(bits), local);
        }

        #[test]
        fn as_the_standard_library_has_it_v6(bits: u128) {
            let a = Ipv6Addr::from_bits(bits);
            let local = a.is_loopback() || a.is_unspecified() || a.is_multicast()
                || a.is_unique_local() || a.is_unicast_link_local()
                || a.to_ipv4_mapped().is_some_and(|mapped| is_local_v4(mapped.to_bits()));
            prop_assert_eq!(is_local_v6(words(a)), local);
        }

        #[test]
        fn a_mapped_address_is_as_local_as_what_it_maps(bits: u32) {
            prop_assert_eq!(is_local_v6([0, 0, 0xffff, bits]), is_local_v4(bits));
        }
    }
}
