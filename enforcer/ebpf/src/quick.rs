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
    // SAFETY: the kernel hands a valid context to the program.
    let ethertype = u16::from_be(unsafe { (*context.skb.skb).protocol } as u16);
    let header = Bytes { start: context.data() + 14, end: context.data_end() };
    // One arm per family, down to the table: joined, the compiler would carry ten words through memory.
    match ethertype {
        ETHERTYPE_IPV4 => {
            // Neither options nor a fragment.
            if !header.has(28) || header.byte::<0>() != 0x45 || u16::from_be(header.half::<6>()) & 0x3fff != 0 {
                return Found::Nothing;
            }
            let address = |at: Bytes| Address::from_v4_word(at.word::<0>());
            ask::<12, 16, 20>(&header, address, header.byte::<9>(), moment, sender)
        }
        ETHERTYPE_IPV6 => {
            if !header.has(48) || header.byte::<0>() >> 4 != 6 {
                return Found::Nothing;
            }
            let address =
                |at: Bytes| Address::from_v6_words([at.word::<0>(), at.word::<4>(), at.word::<8>(), at.word::<12>()]);
            ask::<8, 24, 40>(&header, address, header.byte::<6>(), moment, sender)
        }
        _ => Found::Nothing,
    }
}

/// Where source, destination and ports lie; eight bytes from the ports on are known to be in the packet.
#[inline(always)]
fn ask<const SOURCE: usize, const DESTINATION: usize, const PORTS: usize>(
    header: &Bytes,
    address: impl Fn(Bytes) -> Address,
    protocol: u8,
    moment: Moment,
    sender: u32,
) -> Found {
    let ports = header.at(PORTS);
    match protocol {
        TCP => {
            // SYN without ACK asks for a new connection.
            if !ports.has(14) || ports.byte::<13>() & 0x12 == 0x02 {
                return Found::Nothing;
            }
        }
        UDP | SCTP => {}
        _ => return Found::Nothing,
    }
    let (source, destination) = (header.at(SOURCE), header.at(DESTINATION));
    let (source_port, destination_port) = (u16::from_be(ports.half::<0>()), u16::from_be(ports.half::<2>()));
    let source_is_low = FlowKey::source_is_low(&address(source), &address(destination), source_port, destination_port);
    // The addresses are read again, each from where it lies: no more than one of them need be in registers.
    let (low, high, low_port, high_port) = if source_is_low {
        (source, destination, source_port, destination_port)
    } else {
        (destination, source, destination_port, source_port)
    };
    let key = FlowKey::ordered(address(low), address(high), low_port, high_port, protocol);
    let Some(flow) = FLOWS.get_ptr_mut(&key) else {
        return Found::Nothing;
    };
    // SAFETY: as in `conntrack::find`.
    let flow = unsafe { &mut *flow };
    if flow.generation() != moment.generation || flow.has(Flow::CUT) {
        return Found::Nothing;
    }
    let forward = flow.has(Flow::SOURCE_IS_LOW) == source_is_low;
    if sender != ANYONE {
        let expected = if forward { flow.source_interface() } else { flow.destination_interface() };
        if expected != sender {
            return Found::Nothing;
        }
    }
    if flow.last_seen() != moment.now {
        if flow.is_stale(moment.now, protocol) {
            return Found::Nothing;
        }
        flow.touch(moment.now);
    }
    if forward { Found::Forward } else { Found::Reply }
}

/// Bytes of the packet that lie in one piece.
#[derive(Clone, Copy)]
struct Bytes {
    start: usize,
    end: usize,
}

impl Bytes {
    #[inline(always)]
    fn at(&self, offset: usize) -> Self {
        Self { start: self.start + offset, end: self.end }
    }

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
