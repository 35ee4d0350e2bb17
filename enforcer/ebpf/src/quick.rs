// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The short way for packets of known flows: those of the usual shape, whose flow is as the generation wants it. It
//! answers what [`conntrack::find`](crate::conntrack::find) would answer, from the packet's own memory and one look into
//! the table, or into what was found there a moment ago, and leaves everything else to the long way.

use core::arch::asm;

use aya_ebpf::programs::TcContext;
use signalbox_enforcer_common::{
    Address,
    flow::{Flow, FlowKey},
};

use crate::{
    conntrack::{ANYONE, Found},
    maps::{FLOWS, Moment, RECENT, RECENT_BITS},
    packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, SCTP, TCP, UDP},
};

/// What the table of flows said of packets of one direction of a flow a moment ago, on this CPU. It answers for the next
/// ones while generation and coarse clock stand as they stood, and [`MOST_USES`] times: see docs/adr/0012.
#[repr(C)]
pub struct Recent {
    /// Family, protocol, and the ports as they stand in the packet.
    way: u64,
    /// The addresses as they stand in the packet, the source first. Those of IPv4 fill the first word.
    ends: [u64; 4],
    /// [`Moment::word`].
    moment: u64,
    /// The interface of the pod that sends such packets, or 0.
    sender: u32,
    /// 1: they are replies.
    is_reply: u32,
    /// Packets that it answered for.
    uses: u32,
    reserved: u32,
}

/// Then the table is asked again: it forgets first what nobody asks for.
const MOST_USES: u32 = 64;

/// Odd numbers whose bits look like chance: products with them spread what differs over the upper bits.
const SPREAD: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f, 0xd6e8_feb8_6659_fd93];

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
            ask::<V4>(header, header.byte::<9>(), moment, sender)
        }
        ETHERTYPE_IPV6 => {
            if !header.has(48) || header.byte::<0>() >> 4 != 6 {
                return Found::Nothing;
            }
            ask::<V6>(header, header.byte::<6>(), moment, sender)
        }
        _ => Found::Nothing,
    }
}

#[inline(always)]
fn ask<F: Family>(header: Bytes, protocol: u8, moment: Moment, sender: u32) -> Found {
    let ports = header.at(F::PORTS);
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
    let way = F::WAY | (protocol as u64) << 32 | ports.word::<0>() as u64;
    let slot = RECENT.get_ptr_mut((F::spread(header, way) >> (64 - RECENT_BITS)) as u32);
    if let Some(recent) = slot {
        // SAFETY: the memory is this CPU's own, as in `scratch`.
        let recent = unsafe { &mut *recent };
        if recent.way == way
            && F::is_between(header, &recent.ends)
            && recent.moment == moment.word()
            && (sender == ANYONE || recent.sender == sender)
            && recent.uses < MOST_USES
        {
            recent.uses += 1;
            return if recent.is_reply == 0 { Found::Forward } else { Found::Reply };
        }
    }
    let found = look_up::<F>(header, protocol, moment, sender);
    if let (Some(recent), Some(found)) = (slot, &found) {
        // SAFETY: as above.
        let recent = unsafe { &mut *recent };
        recent.way = way;
        F::note(header, &mut recent.ends);
        recent.moment = moment.word();
        recent.sender = found.sender;
        recent.is_reply = !found.forward as u32;
        recent.uses = 0;
    }
    match found {
        None => Found::Nothing,
        Some(Flowing { forward: true, .. }) => Found::Forward,
        Some(Flowing { forward: false, .. }) => Found::Reply,
    }
}

/// A live flow that the generation has judged.
struct Flowing {
    /// Whether the packet goes the way of the first one.
    forward: bool,
    /// Whose interface sends such packets.
    sender: u32,
}

#[inline(always)]
fn look_up<F: Family>(header: Bytes, protocol: u8, moment: Moment, sender: u32) -> Option<Flowing> {
    let ports = header.at(F::PORTS);
    let (source, destination) = (header.at(F::SOURCE), header.at(F::DESTINATION));
    let (source_port, destination_port) = (u16::from_be(ports.half::<0>()), u16::from_be(ports.half::<2>()));
    let source_is_low =
        FlowKey::source_is_low(&F::address(source), &F::address(destination), source_port, destination_port);
    // The addresses are read again, each from where it lies: no more than one of them need be in registers.
    let (low, high, low_port, high_port) = if source_is_low {
        (source, destination, source_port, destination_port)
    } else {
        (destination, source, destination_port, source_port)
    };
    let key = FlowKey::ordered(F::address(low), F::address(high), low_port, high_port, protocol);
    let flow = FLOWS.get_ptr_mut(&key)?;
    // SAFETY: as in `conntrack::find`.
    let flow = unsafe { &mut *flow };
    if flow.generation() != moment.generation || flow.has(Flow::CUT) {
        return None;
    }
    let forward = flow.has(Flow::SOURCE_IS_LOW) == source_is_low;
    let expected = if forward { flow.source_interface() } else { flow.destination_interface() };
    if sender != ANYONE && expected != sender {
        return None;
    }
    if flow.last_seen() != moment.now {
        if flow.is_stale(moment.now, protocol) {
            return None;
        }
        flow.touch(moment.now);
    }
    Some(Flowing { forward, sender: expected })
}

/// What differs between the families: where things lie in a header without options.
trait Family {
    const SOURCE: usize;
    const DESTINATION: usize;
    /// Eight bytes from here on are known to be in the packet.
    const PORTS: usize;
    /// Keeps the families apart in [`Recent::way`].
    const WAY: u64;

    fn address(at: Bytes) -> Address;
    /// A number whose upper bits differ where flows do.
    fn spread(header: Bytes, way: u64) -> u64;
    fn is_between(header: Bytes, ends: &[u64; 4]) -> bool;
    fn note(header: Bytes, ends: &mut [u64; 4]);
}

struct V4;

impl Family for V4 {
    const SOURCE: usize = 12;
    const DESTINATION: usize = 16;
    const PORTS: usize = 20;
    const WAY: u64 = 4 << 48;

    #[inline(always)]
    fn address(at: Bytes) -> Address {
        Address::from_v4_word(at.word::<0>())
    }

    #[inline(always)]
    fn spread(header: Bytes, way: u64) -> u64 {
        (header.double::<12>() ^ way.wrapping_mul(SPREAD[0])).wrapping_mul(SPREAD[1])
    }

    #[inline(always)]
    fn is_between(header: Bytes, ends: &[u64; 4]) -> bool {
        header.double::<12>() == ends[0]
    }

    #[inline(always)]
    fn note(header: Bytes, ends: &mut [u64; 4]) {
        ends[0] = header.double::<12>();
    }
}

struct V6;

impl Family for V6 {
    const SOURCE: usize = 8;
    const DESTINATION: usize = 24;
    const PORTS: usize = 40;
    const WAY: u64 = 6 << 48;

    #[inline(always)]
    fn address(at: Bytes) -> Address {
        Address::from_v6_words([at.word::<0>(), at.word::<4>(), at.word::<8>(), at.word::<12>()])
    }

    #[inline(always)]
    fn spread(header: Bytes, way: u64) -> u64 {
        let source = header.double::<16>().wrapping_mul(SPREAD[2]).wrapping_add(header.double::<8>());
        let ends = (source ^ header.double::<32>()).wrapping_add(header.double::<24>());
        (ends ^ way.wrapping_mul(SPREAD[0])).wrapping_mul(SPREAD[1])
    }

    #[inline(always)]
    fn is_between(header: Bytes, ends: &[u64; 4]) -> bool {
        header.double::<16>() == ends[1]
            && header.double::<32>() == ends[3]
            && header.double::<8>() == ends[0]
            && header.double::<24>() == ends[2]
    }

    #[inline(always)]
    fn note(header: Bytes, ends: &mut [u64; 4]) {
        *ends = [header.double::<8>(), header.double::<16>(), header.double::<24>(), header.double::<32>()];
    }
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

    /// As above.
    #[inline(always)]
    fn double<const AT: usize>(&self) -> u64 {
        let value: u64;
        // SAFETY: as above, eight bytes.
        unsafe {
            asm!("{0} = *(u64 *)({1} + {2})", out(reg) value, in(reg) self.start, const AT, options(pure, readonly, nostack));
        }
        value
    }
}
