// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! An address of either family.

use core::{
    cmp::Ordering,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An address of either family in 16 bytes: IPv4 as `::ffff:a.b.c.d`. Words hold the bytes as they stand in a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Address {
    words: [u32; 4],
}

/// The third word of an IPv4 address.
const MAPPED: u32 = 0xffff_u32.to_be();

impl Address {
    /// `::`, which stands for "none".
    pub const UNSPECIFIED: Self = Self { words: [0; 4] };

    /// From the four bytes of an IPv4 address, read as a native word.
    #[inline(always)]
    pub const fn from_v4_word(word: u32) -> Self {
        Self { words: [0, 0, MAPPED, word] }
    }

    /// From the sixteen bytes of an IPv6 address, read as native words.
    #[inline(always)]
    pub const fn from_v6_words(words: [u32; 4]) -> Self {
        Self { words }
    }

    /// Whether it is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == MAPPED
    }

    /// Whether it names more than one host: multicast of either family, or IPv4's limited broadcast.
    #[inline(always)]
    pub const fn is_many(&self) -> bool {
        if self.is_v4() {
            let first = self.words[3].to_be() >> 24;
            return first >= 224 && first < 240 || self.words[3] == u32::MAX;
        }
        self.words[0].to_be() >> 24 == 0xff
    }

    /// Whether it is an IPv6 address of link-local scope, fe80::/10.
    #[inline(always)]
    pub const fn is_link_local_v6(&self) -> bool {
        self.words[0].to_be() >> 22 == 0xfe80 >> 6
    }

    /// Compares without the derived traits, whose code the kernel's verifier follows less easily.
    #[inline(always)]
    pub const fn same(&self, other: &Self) -> bool {
        self.words[3] == other.words[3]
            && self.words[2] == other.words[2]
            && self.words[1] == other.words[1]
            && self.words[0] == other.words[0]
    }

    /// An order; which one does not matter, as long as it is the same everywhere.
    #[inline(always)]
    pub const fn below(&self, other: &Self) -> bool {
        if self.words[3] != other.words[3] {
            return self.words[3] < other.words[3];
        }
        if self.words[2] != other.words[2] {
            return self.words[2] < other.words[2];
        }
        if self.words[1] != other.words[1] {
            return self.words[1] < other.words[1];
        }
        self.words[0] < other.words[0]
    }
}

/// As the addresses are written: IPv4 among the IPv6 that is mapped to it.
impl Ord for Address {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.words.map(u32::from_be).cmp(&other.words.map(u32::from_be))
    }
}

impl PartialOrd for Address {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        let bytes = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self { words: [word(0), word(4), word(8), word(12)] }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        if address.is_v4() {
            return Self::V4(Ipv4Addr::from(address.words[3].to_ne_bytes()));
        }
        let mut bytes = [0; 16];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(address.words) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        Self::V6(Ipv6Addr::from(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("a test's address")
    }

    #[test]
    fn survives_the_way_there_and_back() {
        for text in ["10.244.0.7", "0.0.0.0", "255.255.255.255", "2001:db8::1", "::1", "fe80::1"] {
            assert_eq!(IpAddr::from(Address::from(ip(text))), ip(text));
        }
    }

    #[test]
    fn stands_where_its_bytes_do() {
        let sorted = ["::1", "10.0.0.2", "10.0.1.1", "192.0.2.1", "2001:db8::1", "2001:db8::1:0", "fe80::1"].map(ip);
        let mut addresses = sorted.map(Address::from);
        addresses.reverse();
        addresses.sort();
        assert_eq!(addresses.map(IpAddr::from), sorted);
    }

    #[test]
    fn kinds() {
        //           address            v4     many   link-local
        let cases = [
            ("10.0.0.1", true, false, false),
            ("224.0.0.1", true, true, false),
            ("239.255.255.255", true, true, false),
            ("240.0.0.1", true, false, false),
            ("255.255.255.255", true, true, false),
            ("2001:db8::1", false, false, false),
            ("ff02::1", false, true, false),
            ("fe80::1", false, false, true),
            ("febf::1", false, false, true),
            ("fec0::1", false, false, false),
        ];
        for (text, v4, many, link_local) in cases {
            let address = Address::from(ip(text));
            assert_eq!(
                (address.is_v4(), address.is_many(), address.is_link_local_v6()),
                (v4, many, link_local),
                "{text}"
            );
        }
    }

    #[test]
    fn order_is_total() {
        let all =
            ["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2", "2001:db9::1"].map(|text| Address::from(ip(text)));
        for a in all {
            for b in all {
                assert_eq!(a.same(&b), a == b);
                assert_eq!(u8::from(a.below(&b)) + u8::from(b.below(&a)) + u8::from(a.same(&b)), 1);
            }
        }
    }
}
