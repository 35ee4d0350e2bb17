// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The short way for packets of known flows: those of the usual shape, whose flow is as the generation wants it. It
//! answers what [`conntrack::find`](crate::conntrack::find) would answer, from the packet's own memory and one look into
//! the table, and leaves everything else to the long way.

use core::arch::asm;

use aya_ebpf::programs::TcContext;
use signalbox_enforcer_common::{
    Address,
    flow::{Flow, FlowKey},
};

use crate::{
    conntrack::{ANYONE, Found},
    maps::{FLOWS, Moment},
    packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, SCTP, TCP, UDP},
};

/// Looks a packet up as `conntrack::find` does. [`Found::Nothing`]: ask there.
#[inline(always)]
pub fn find(context: &TcContext, moment: Moment, sender: u32) -> Found {
    let Some(Seen { key, source_is_low, protocol }) = Seen::of(context) else {
        return Found::Nothing;
    };
    let Some(flow) = FLOWS.get_ptr_mut(&key) else {
        return Found::Nothing;
    };
    // SAFETY: as in `conntrack::find`.
    let flow = unsafe { &mut *flow };
    if flow.generation() != moment.generation || flow.has(Flow::CUT) || flow.is_stale(moment.now, protocol) {
        return Found::Nothing;
    }
    let forward = flow.has(Flow::SOURCE_IS_LOW) == source_is_low;
    if sender != ANYONE {
        let expected = if forward { flow.source_interface() } else { flow.destination_interface() };
        if expected != sender {
            return Found::Nothing;
        }
    }
    flow.touch(moment.now);
    if forward { Found::Forward } else { Found::Reply }
}

/// A packet of the usual shape.
struct Seen {
    key: FlowKey,
    source_is_low: bool,
    protocol: u8,
}

impl Seen {
    /// A whole packet in one piece, without options or extension headers, with ports, that opens no TCP connection.
    #[inline(always)]
    fn of(context: &TcContext) -> Option<Self> {
        // SAFETY: the kernel hands a valid context to the program.
        let ethertype = u16::from_be(unsafe { (*context.skb.skb).protocol } as u16);
        let header = Bytes { start: context.data() + 14, end: context.data_end() };
        match ethertype {
            ETHERTYPE_IPV4 => {
                if !header.has(28) || header.byte::<0>() != 0x45 || u16::from_be(header.half::<6>()) & 0x3fff != 0 {
                    return None;
                }
                let source = Address::from_v4_word(header.word::<12>());
                let destination = Address::from_v4_word(header.word::<16>());
                Self::with::<20>(&header, &source, &destination, header.byte::<9>())
            }
            ETHERTYPE_IPV6 => {
                if !header.has(48) || header.byte::<0>() >> 4 != 6 {
                    return None;
                }
                let source = Address::from_v6_words([
                    header.word::<8>(),
                    header.word::<12>(),
                    header.word::<16>(),
                    header.word::<20>(),
                ]);
                let destination = Address::from_v6_words([
                    header.word::<24>(),
                    header.word::<28>(),
                    header.word::<32>(),
                    header.word::<36>(),
                ]);
                Self::with::<40>(&header, &source, &destination, header.byte::<6>())
            }
            _ => None,
        }
    }

    /// `PORTS`: where they lie; eight bytes from there on are known to be in the packet.
    #[inline(always)]
    fn with<const PORTS: usize>(
        header: &Bytes,
        source: &Address,
        destination: &Address,
        protocol: u8,
    ) -> Option<Self> {
        let ports = Bytes { start: header.start + PORTS, end: header.end };
        match protocol {
            TCP => {
                // SYN without ACK asks for a new connection.
                if !ports.has(14) || ports.byte::<13>() & 0x12 == 0x02 {
                    return None;
                }
            }
            UDP | SCTP => {
                if !ports.has(4) {
                    return None;
                }
            }
            _ => return None,
        }
        let (source_port, destination_port) = (u16::from_be(ports.half::<0>()), u16::from_be(ports.half::<2>()));
        let (key, source_is_low) = FlowKey::new(source, destination, source_port, destination_port, protocol);
        Some(Self { key, source_is_low, protocol })
    }
}

/// Bytes of the packet that lie in one piece.
struct Bytes {
    start: usize,
    end: usize,
}

impl Bytes {
    /// Whether there are so many. What is read must have been asked for: the verifier sees to it.
    #[inline(always)]
    fn has(&self, count: usize) -> bool {
        self.start + count <= self.end
    }

    #[inline(always)]
    fn byte<const AT: usize>(&self) -> u8 {
        let value: u64;
        // SAFETY: reads one byte, within the packet, or the verifier refuses the program.
        unsafe {
            asm!("{0} = *(u8 *)({1} + {2})", out(reg) value, in(reg) self.start, const AT, options(pure, readonly, nostack));
        }
        value as u8
    }

    /// As it lies there, at whatever address: a load in Rust would have to be aligned, or go byte by byte.
    #[inline(always)]
    fn half<const AT: usize>(&self) -> u16 {
        let value: u64;
        // SAFETY: as above, two bytes.
        unsafe {
            asm!("{0} = *(u16 *)({1} + {2})", out(reg) value, in(reg) self.start, const AT, options(pure, readonly, nostack));
        }
        value as u16
    }

    /// As above.
    #[inline(always)]
    fn word<const AT: usize>(&self) -> u32 {
        let value: u64;
        // SAFETY: as above, four bytes.
        unsafe {
            asm!("{0} = *(u32 *)({1} + {2})", out(reg) value, in(reg) self.start, const AT, options(pure, readonly, nostack));
        }
        value as u32
    }
}
