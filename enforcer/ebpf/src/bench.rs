// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Only with the feature `bench`, and never in the object that is shipped: what the hooks are measured against, and the
//! hooks behind a step that makes another packet of the test's each time.
//!
//! `BPF_PROG_TEST_RUN` with many repeats runs a program on one packet again and again. To meet many flows in one such
//! run, [`vary`] writes four bytes of an address and a port of the packet itself, and the hook then parses it as any other.
//! [`many_empty`] does only that: it is the floor of these scenarios.

use aya_ebpf::{
    macros::{classifier, map},
    maps::{Array, PerCpuArray},
    programs::TcContext,
};

use crate::{
    hook::{self, Place},
    programs::NEXT,
};

/// How packets are varied: see [`vary`]. User space writes it before each run.
#[map]
static VARY: Array<Vary> = Array::with_max_entries(1, 0);

/// Where each CPU's sequence stands.
#[map]
static SEQUENCE: PerCpuArray<Sequence> = PerCpuArray::with_max_entries(1, 0);

/// Where a sequence stands.
#[repr(C)]
#[derive(Clone, Copy)]
struct Sequence {
    random: u64,
    count: u64,
}

/// Which packets, and where in them lies what varies. A number is drawn at random for each packet.
#[repr(C)]
#[derive(Clone, Copy)]
struct Vary {
    /// Numbers are below this.
    numbers: u32,
    /// Where the last four bytes of the address lie.
    address: u32,
    /// What is added to the number's upper bits to make them.
    address_base: u32,
    /// Where the port lies.
    port: u32,
    /// What is added to the number's lower bits to make it.
    port_base: u32,
    /// How many bits these are.
    port_bits: u32,
    /// 1: the port is one more than that of the packet before, instead of drawn.
    counts_up: u32,
}

/// Whatever else is on the interface.
#[classifier]
pub fn empty(_context: TcContext) -> i32 {
    NEXT
}

/// Another packet, and nothing done with it.
#[classifier]
pub fn many_empty(context: TcContext) -> i32 {
    let _no_room = vary(&context);
    NEXT
}

/// `from_pod` on another packet.
#[classifier]
pub fn many_from_pod(context: TcContext) -> i32 {
    let _no_room = vary(&context);
    hook::ingress(&context, Place::Pod)
}

/// `to_pod` on another packet.
#[classifier]
pub fn many_to_pod(context: TcContext) -> i32 {
    let _no_room = vary(&context);
    hook::egress(&context, Place::Pod)
}

/// Writes the next number into the packet.
#[inline(always)]
fn vary(context: &TcContext) -> Option<()> {
    let how = VARY.get_ptr(0)?;
    let sequence = SEQUENCE.get_ptr_mut(0)?;
    // SAFETY: values of array maps stay mapped; the second is this CPU's own; user space writes the first between runs.
    let (how, sequence) = unsafe { (&*how, &mut *sequence) };
    // A linear congruential sequence; its upper half is random enough, and scaled instead of divided.
    sequence.random = sequence.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    sequence.count = sequence.count.wrapping_add(1);
    let number = (((sequence.random >> 32) * how.numbers as u64) >> 32) as u32;
    let bits = how.port_bits & 31;
    let low = if how.counts_up == 1 { sequence.count as u32 } else { number & ((1 << bits) - 1) };
    let port = how.port_base.wrapping_add(low) as u16;
    let address = how.address_base.wrapping_add(number >> bits);
    let (at, end) = (context.data() + (how.port & 127) as usize, context.data_end());
    if at + 2 > end {
        return None;
    }
    // SAFETY: the two bytes lie in the packet, as was just checked.
    unsafe { (at as *mut u16).write_unaligned(port.to_be()) };
    let at = context.data() + (how.address & 127) as usize;
    if at + 4 > end {
        return None;
    }
    // SAFETY: so do these four.
    unsafe { (at as *mut u32).write_unaligned(address.to_be()) };
    Some(())
}
