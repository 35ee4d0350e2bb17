// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! What a packet is.

use aya_ebpf::programs::TcContext;
use signalbox_enforcer_common::{Address, flow::FragmentKey, verdict::Reason};

/// Protocols that have ports at the start of their header.
pub const TCP: u8 = 6;
/// See [`TCP`].
pub const UDP: u8 = 17;
/// See [`TCP`].
pub const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

const ETHERNET_HEADER: u32 = 14;
/// More than the standard lists, each once.
const MOST_EXTENSIONS: u32 = 6;
/// As `skb->protocol` has it.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// See [`ETHERTYPE_IPV4`].
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_ARP: u16 = 0x0806;

/// One direction of a conversation, in host byte order.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Tuple {
    /// Who sent.
    pub source: Address,
    /// For whom.
    pub destination: Address,
    /// Its port; for ICMP echo the identifier; else 0.
    pub source_port: u16,
    /// Its port; for ICMP echo the identifier; else 0.
    pub destination_port: u16,
    /// The IP protocol.
    pub protocol: u8,
}

impl Tuple {
    /// Nothing is known yet.
    #[inline(always)]
    fn forget(&mut self) {
        let words = (&raw mut *self).cast::<u32>();
        for at in 0..size_of::<Self>() / size_of::<u32>() {
            // Volatile, or it would become a loop over bytes.
            // SAFETY: the structure is so many words long, and zeros are values of all its fields.
            unsafe { words.add(at).write_volatile(0) };
        }
    }
}

/// What a packet is, beyond its tuple.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Address resolution and the like: it stays on the link, and nothing works without it.
    Link,
    /// TCP that opens a connection.
    Opening,
    /// TCP that belongs to a connection.
    Continuing,
    /// Anything else that is judged by its tuple.
    Datagram,
    /// An ICMP error. The tuple is the one it complains about.
    Error,
    /// A later fragment: no ports.
    LaterFragment,
}

/// A packet.
pub struct Packet {
    /// Its own tuple.
    pub tuple: Tuple,
    /// For [`Kind::Error`]: the tuple of the packet that it complains about. Else it means nothing.
    pub about: Tuple,
    /// What it is.
    pub kind: Kind,
    /// Identifies the datagram of a fragment.
    pub identification: u32,
    /// Whether more fragments follow, or it is one.
    pub fragmented: bool,
    /// Where the header under the eyes begins.
    offset: u32,
}

impl Packet {
    /// Forgets the packet before.
    #[inline(always)]
    pub fn reset(&mut self) {
        self.tuple.forget();
        self.kind = Kind::Datagram;
        self.identification = 0;
        self.fragmented = false;
        self.offset = ETHERNET_HEADER;
    }

    /// Reads the headers. Whatever it read before it failed is in `self`.
    #[inline(always)]
    pub fn parse(&mut self, context: &TcContext) -> Result<(), Reason> {
        // SAFETY: the kernel hands a valid context to the program.
        let ethertype = u16::from_be(unsafe { (*context.skb.skb).protocol } as u16);
        match ethertype {
            ETHERTYPE_IPV4 => self.parse_v4(context),
            ETHERTYPE_IPV6 => self.parse_v6(context),
            ETHERTYPE_ARP => {
                self.kind = Kind::Link;
                Ok(())
            }
            _ => Err(Reason::Unparsable),
        }
    }

    #[inline(always)]
    fn parse_v4(&mut self, context: &TcContext) -> Result<(), Reason> {
        let (header, length) = v4_header(context, ETHERNET_HEADER)?;
        self.tuple.source = Address::from_v4_word(header[3]);
        self.tuple.destination = Address::from_v4_word(header[4]);
        self.tuple.protocol = (u32::from_be(header[2]) >> 16) as u8;
        let fragment = u32::from_be(header[1]) as u16;
        self.identification = u32::from_be(header[1]) >> 16;
        self.fragmented = fragment & 0x3fff != 0;
        if fragment & 0x1fff != 0 {
            self.kind = Kind::LaterFragment;
            return Ok(());
        }
        self.parse_transport(context, ETHERNET_HEADER + length)
    }

    #[inline(always)]
    fn parse_v6(&mut self, context: &TcContext) -> Result<(), Reason> {
        let header: [u32; 10] = load(context, ETHERNET_HEADER)?;
        if u32::from_be(header[0]) >> 28 != 6 {
            return Err(Reason::Unparsable);
        }
        self.tuple.source = Address::from_v6_words([header[2], header[3], header[4], header[5]]);
        self.tuple.destination = Address::from_v6_words([header[6], header[7], header[8], header[9]]);
        self.tuple.protocol = (u32::from_be(header[1]) >> 8) as u8;
        self.offset = ETHERNET_HEADER + 40;
        self.walk_extensions(context)?;
        if self.kind == Kind::LaterFragment {
            return Ok(());
        }
        self.parse_transport(context, self.offset)
    }

    /// Walks IPv6 extension headers. Its state lies in the packet: the verifier then need not follow every way through it.
    #[inline(always)]
    fn walk_extensions(&mut self, context: &TcContext) -> Result<(), Reason> {
        for _ in 0..MOST_EXTENSIONS {
            match self.tuple.protocol {
                // Hop-by-hop options, routing, destination options: length in units of eight, less one.
                0 | 43 | 60 => {
                    let head: [u8; 2] = load(context, self.offset)?;
                    self.tuple.protocol = head[0];
                    self.offset += (u32::from(head[1]) + 1) * 8;
                }
                // Authentication: length in units of four, less two.
                51 => {
                    let head: [u8; 2] = load(context, self.offset)?;
                    self.tuple.protocol = head[0];
                    self.offset += (u32::from(head[1]) + 2) * 4;
                }
                44 => {
                    let head: [u32; 2] = load(context, self.offset)?;
                    self.tuple.protocol = (u32::from_be(head[0]) >> 24) as u8;
                    self.fragmented = true;
                    self.identification = u32::from_be(head[1]);
                    self.offset += 8;
                    if u32::from_be(head[0]) & 0xfff8 != 0 {
                        self.kind = Kind::LaterFragment;
                        return Ok(());
                    }
                }
                _ => return Ok(()),
            }
        }
        Err(Reason::TooManyHeaders)
    }

    #[inline(always)]
    fn parse_transport(&mut self, context: &TcContext, offset: u32) -> Result<(), Reason> {
        match self.tuple.protocol {
            TCP => {
                let head: [u16; 7] = load(context, offset)?;
                self.tuple.source_port = u16::from_be(head[0]);
                self.tuple.destination_port = u16::from_be(head[1]);
                // SYN without ACK: whoever sends that asks for a new connection, whatever the tables remember.
                self.kind = if u16::from_be(head[6]) & 0x12 == 0x02 { Kind::Opening } else { Kind::Continuing };
                Ok(())
            }
            UDP | SCTP => {
                let ports: [u16; 2] = load(context, offset)?;
                self.tuple.source_port = u16::from_be(ports[0]);
                self.tuple.destination_port = u16::from_be(ports[1]);
                Ok(())
            }
            ICMP if self.tuple.source.is_v4() => self.parse_icmp(context, offset),
            ICMPV6 if !self.tuple.source.is_v4() => self.parse_icmpv6(context, offset),
            _ => Ok(()),
        }
    }

    #[inline(always)]
    fn parse_icmp(&mut self, context: &TcContext, offset: u32) -> Result<(), Reason> {
        let head: [u16; 4] = load(context, offset)?;
        match u16::from_be(head[0]) >> 8 {
            // Echo request and reply.
            0 | 8 => {
                self.tuple.source_port = u16::from_be(head[2]);
                self.tuple.destination_port = u16::from_be(head[2]);
                Ok(())
            }
            // Unreachable, source quench, time exceeded, parameter problem.
            3 | 4 | 11 | 12 => {
                let (header, length) = v4_header(context, offset + 8)?;
                self.about.source = Address::from_v4_word(header[3]);
                self.about.destination = Address::from_v4_word(header[4]);
                self.about.protocol = (u32::from_be(header[2]) >> 16) as u8;
                self.kind = Kind::Error;
                if u32::from_be(header[1]) & 0x1fff != 0 {
                    return Err(Reason::Unparsable);
                }
                self.parse_about(context, offset + 8 + length)
            }
            _ => Ok(()),
        }
    }

    #[inline(always)]
    fn parse_icmpv6(&mut self, context: &TcContext, offset: u32) -> Result<(), Reason> {
        let head: [u16; 4] = load(context, offset)?;
        match u16::from_be(head[0]) >> 8 {
            // Unreachable, too big, time exceeded, parameter problem.
            1..=4 => {
                let header: [u32; 10] = load(context, offset + 8)?;
                self.about.source = Address::from_v6_words([header[2], header[3], header[4], header[5]]);
                self.about.destination = Address::from_v6_words([header[6], header[7], header[8], header[9]]);
                self.about.protocol = (u32::from_be(header[1]) >> 8) as u8;
                self.kind = Kind::Error;
                self.parse_about(context, offset + 48)
            }
            128 | 129 => {
                self.tuple.source_port = u16::from_be(head[2]);
                self.tuple.destination_port = u16::from_be(head[2]);
                Ok(())
            }
            // Neighbour discovery, and the listener reports that keep its multicast groups alive.
            130..=137 | 143 => {
                self.kind = Kind::Link;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    #[inline(always)]
    fn parse_about(&mut self, context: &TcContext, offset: u32) -> Result<(), Reason> {
        (self.about.source_port, self.about.destination_port) = (0, 0);
        match self.about.protocol {
            TCP | UDP | SCTP => {
                let ports: [u16; 2] = load(context, offset)?;
                self.about.source_port = u16::from_be(ports[0]);
                self.about.destination_port = u16::from_be(ports[1]);
            }
            ICMP | ICMPV6 => {
                let head: [u16; 3] = load(context, offset)?;
                self.about.source_port = u16::from_be(head[2]);
                self.about.destination_port = u16::from_be(head[2]);
            }
            _ => {}
        }
        Ok(())
    }

    /// The datagram that a fragment belongs to.
    #[inline(always)]
    pub fn datagram(&self) -> FragmentKey {
        FragmentKey::new(&self.tuple.source, &self.tuple.destination, self.identification, self.tuple.protocol)
    }
}

/// An IPv4 header and its length with options.
#[inline(always)]
fn v4_header(context: &TcContext, offset: u32) -> Result<([u32; 5], u32), Reason> {
    let header: [u32; 5] = load(context, offset)?;
    let first = u32::from_be(header[0]) >> 24;
    let length = (first & 0x0f) * 4;
    if first >> 4 != 4 || length < 20 {
        return Err(Reason::Unparsable);
    }
    Ok((header, length))
}

/// The one accessor to packet bytes: bounds are the kernel's to check, also in packets that lie in pieces.
#[inline(always)]
fn load<T>(context: &TcContext, offset: u32) -> Result<T, Reason> {
    context.load(offset as usize).map_err(|_| Reason::Unparsable)
}
