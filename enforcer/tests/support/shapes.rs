//! Packets of every shape as bytes, headers and all, sound or not.

use std::net::IpAddr;

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn ethernet(kind: u16) -> Vec<u8> {
    let mut bytes = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
    bytes.extend(kind.to_be_bytes());
    bytes
}

/// A header of either family, without Ethernet, and what follows it.
pub fn network(from: &str, to: &str, protocol: u8, rest: &[u8]) -> Vec<u8> {
    let length = |more: usize| u16::try_from(rest.len() + more).expect("packets are small").to_be_bytes();
    let mut bytes = Vec::new();
    match (ip(from), ip(to)) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [high, low] = length(20);
            bytes.extend([0x45, 0, high, low, 0x12, 0x34, 0, 0, 64, protocol, 0, 0]);
            bytes.extend(from.octets());
            bytes.extend(to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            bytes.extend([0x60, 0, 0, 0]);
            bytes.extend(length(0));
            bytes.extend([protocol, 64]);
            bytes.extend(from.octets());
            bytes.extend(to.octets());
        }
        _ => panic!("one family: {from} {to}"),
    }
    bytes.extend(rest);
    bytes
}

/// The same on the wire.
pub fn packet(from: &str, to: &str, protocol: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = ethernet(if from.contains(':') { 0x86dd } else { 0x0800 });
    bytes.extend(network(from, to, protocol, rest));
    bytes
}

/// An IPv4 packet whose header has other bytes at places counted from its start.
pub fn packet_with(from: &str, to: &str, protocol: u8, rest: &[u8], changes: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = packet(from, to, protocol, rest);
    for (at, byte) in changes {
        bytes[14 + at] = *byte;
    }
    bytes
}

pub fn ports(from: u16, to: u16) -> Vec<u8> {
    [from.to_be_bytes(), to.to_be_bytes()].concat()
}

pub fn tcp(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut bytes = ports(from, to);
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes
}

pub fn udp(from: u16, to: u16) -> Vec<u8> {
    let mut bytes = ports(from, to);
    bytes.extend([0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    bytes
}

/// An INIT chunk.
pub fn sctp(from: u16, to: u16) -> Vec<u8> {
    let mut bytes = ports(from, to);
    bytes.extend([0; 8]);
    bytes.extend([1, 0, 0, 20]);
    bytes.extend([0; 16]);
    bytes
}

/// An ICMP error about a packet.
pub fn error(kind: u8, about: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(about);
    bytes
}

/// IPv6 destination options, so many times, before a header of `protocol`.
pub fn options(count: usize, protocol: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for left in (0..count).rev() {
        bytes.extend([if left == 0 { protocol } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
    }
    bytes.extend(rest);
    bytes
}

/// IPv6's fragment header: offset in bytes, and whether more follow.
pub fn fragment(protocol: u8, offset: u16, more: bool, rest: &[u8]) -> Vec<u8> {
    let [high, low] = (offset | u16::from(more)).to_be_bytes();
    let mut bytes = vec![protocol, 0, high, low, 0, 0, 0, 7];
    bytes.extend(rest);
    bytes
}
