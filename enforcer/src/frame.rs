//! The first packet of a connection, as bytes from the Ethernet header on. Nobody sends it.

use std::net::{IpAddr, SocketAddr};

use signalbox_policy::Protocol;

use crate::group::ip_protocol;

/// From whom an empty packet would come, and to whom. Both addresses are of one family, else there is no such packet.
pub fn opening(source: SocketAddr, destination: SocketAddr, protocol: Protocol) -> Option<Vec<u8>> {
    let payload = transport(source.port(), destination.port(), protocol);
    let length = u16::try_from(payload.len()).ok()?;
    // Two made-up addresses of Ethernet, both of the kind that anyone may give out.
    let mut bytes = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [high, low] = (length + 20).to_be_bytes();
            // Version and length, total length, identification, no fragment, time to live, protocol, checksum.
            bytes.extend([0x08, 0x00, 0x45, 0, high, low, 0, 1, 0, 0, 64, ip_protocol(protocol), 0, 0]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let [high, low] = length.to_be_bytes();
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, high, low, ip_protocol(protocol), 64]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    }
    bytes.extend(payload);
    Some(bytes)
}

fn transport(source: u16, destination: u16, protocol: Protocol) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(source.to_be_bytes());
    bytes.extend(destination.to_be_bytes());
    match protocol {
        // Sequence, acknowledgement, offset, SYN, window, checksum, urgent pointer.
        Protocol::Tcp => bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]),
        Protocol::Udp => bytes.extend([0, 12, 0, 0, 0, 0, 0, 0]),
        // Tag, checksum, and an INIT chunk.
        Protocol::Sctp => {
            bytes.extend([0; 8]);
            bytes.extend([1, 0, 0, 20]);
            bytes.extend([0; 16]);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_headers() {
        let end = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        let cases = [
            ("10.0.0.1:1", "10.0.0.2:80", Protocol::Tcp, Some(14 + 20 + 20)),
            ("10.0.0.1:1", "10.0.0.2:80", Protocol::Udp, Some(14 + 20 + 12)),
            ("[fd00::1]:1", "[fd00::2]:80", Protocol::Sctp, Some(14 + 40 + 32)),
            ("[fd00::1]:1", "10.0.0.2:80", Protocol::Tcp, None),
        ];
        for (source, destination, protocol, length) in cases {
            let packet = opening(end(source), end(destination), protocol);
            assert_eq!(packet.map(|bytes| bytes.len()), length, "{source} {destination}");
        }
    }
}
