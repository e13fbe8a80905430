//! Prefixes of networks.

use std::net::{IpAddr, Ipv6Addr};

/// The addresses that begin with the same bits. IPv4 ones are as IPv4-mapped IPv6 (RFC 4291, section 2.5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    address: Ipv6Addr,
    length: u8,
}

impl Prefix {
    /// Those that begin as `address` does, with that many bits of it.
    pub fn new(address: IpAddr, length: u8) -> Self {
        let (address, length) = match address {
            IpAddr::V4(address) => (address.to_ipv6_mapped(), length.min(32) + 96),
            IpAddr::V6(address) => (address, length.min(128)),
        };
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        Self {
            address: Ipv6Addr::from_bits(address.to_bits() & mask),
            length,
        }
    }

    /// The first address, in network order.
    pub fn octets(self) -> [u8; 16] {
        self.address.octets()
    }

    /// How many bits count; of IPv4 with the 96 before it.
    pub fn length(self) -> u8 {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_is_how_addresses_begin() {
        let prefix = |address: &str, length| Prefix::new(address.parse().unwrap(), length);
        assert_eq!(prefix("192.0.2.7", 24), prefix("192.0.2.200", 24));
        assert_ne!(prefix("192.0.2.7", 24), prefix("192.0.2.7", 25));
        assert_eq!(prefix("192.0.2.7", 24).length(), 120);
        assert_eq!(prefix("2001:db8:1::5", 64), prefix("2001:db8:1::", 64));
        assert_eq!(prefix("2001:db8::1", 0), prefix("::", 0));
        assert_eq!(prefix("192.0.2.7", 32), prefix("::ffff:192.0.2.7", 128));
    }
}
