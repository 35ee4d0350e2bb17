//! Packets as bytes, from the Ethernet header on.

use std::net::IpAddr;

use signalbox_policy::Protocol;

/// The first packet of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Address and port. Both addresses are of one family.
    pub source: (IpAddr, u16),
    /// Address and port.
    pub destination: (IpAddr, u16),
    pub protocol: Protocol,
    /// With options in the IPv4 header, or an extension header of IPv6.
    pub with_options: bool,
}

impl Frame {
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
        let transport = self.transport();
        let length = |more: usize| u16::try_from(transport.len() + more).expect("packets are small").to_be_bytes();
        match (self.source.0, self.destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let options: &[u8] = if self.with_options { &[1, 1, 1, 0] } else { &[] };
                bytes.extend([0x08, 0x00]);
                let words = 5 + u8::try_from(options.len() / 4).expect("one word at most");
                let [high, low] = length(usize::from(words) * 4);
                bytes.extend([0x40 | words, 0, high, low, 0, 1, 0, 0, 64, self.number(), 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(options);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                // Hop-by-hop options: six bytes of padding.
                let extension: &[u8] = if self.with_options { &[self.number(), 0, 1, 4, 0, 0, 0, 0] } else { &[] };
                bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                bytes.extend(length(extension.len()));
                bytes.extend([if self.with_options { 0 } else { self.number() }, 64]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(extension);
            }
            (_, _) => panic!("both addresses are of one family: {self:?}"),
        }
        bytes.extend(transport);
        bytes
    }

    fn number(&self) -> u8 {
        match self.protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    fn transport(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.source.1.to_be_bytes());
        bytes.extend(self.destination.1.to_be_bytes());
        match self.protocol {
            // Sequence, acknowledgement, offset, SYN, window, checksum, urgent pointer.
            Protocol::Tcp => bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]),
            Protocol::Udp => bytes.extend([0, 12, 0, 0, b'p', b'i', b'n', b'g']),
            // Tag, checksum, and an INIT chunk.
            Protocol::Sctp => {
                bytes.extend([0; 8]);
                bytes.extend([1, 0, 0, 20]);
                bytes.extend([0; 16]);
            }
        }
        bytes
    }
}
