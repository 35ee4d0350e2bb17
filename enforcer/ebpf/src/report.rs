// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Events and counts. Each of the functions that make a key is one of its own, and none is inlined: the stack of a packet's
//! program is 512 bytes, all its callers' frames included, and what returns gives its keys' room back.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::bpf_ktime_get_ns,
};
use signalbox_enforcer_common::{
    Address, STATISTIC_LOST_EVENTS, STATISTIC_SUPPRESSED_EVENTS, STATISTIC_UNCOUNTED,
    flow::{CountKey, Counts, Event, Limit, LimitKey, Outcome, VerdictKey},
    policy::{NO_DECISION, Side},
};

use crate::{
    conntrack::Case,
    endpoint::Endpoint,
    maps::{COUNTS, EVENTS, LIMITS, VERDICTS, WOKEN, count},
    packet::{SCTP, TCP, UDP},
};

/// A new flow was allowed.
#[inline(never)]
pub fn allowed(case: &Case, generation: u32) {
    count_connection(case, Outcome::Allowed);
    let verdict = &case.verdict;
    if verdict.egress_decision != NO_DECISION {
        let side = Side::Egress as u8;
        tally(&VerdictKey::new(case.source.group, side, verdict.egress_decision, 0, Outcome::Allowed));
    }
    if verdict.ingress_decision != NO_DECISION {
        let side = Side::Ingress as u8;
        tally(&VerdictKey::new(case.destination.group, side, verdict.ingress_decision, 0, Outcome::Allowed));
    }
    emit(case, generation, false, 0, 0);
}

/// A packet was denied; `cut`: of a flow that had been allowed.
#[inline(never)]
pub fn denied(case: &Case, generation: u32, cut: bool) {
    count_connection(case, Outcome::Denied);
    tally(&denial(case, Outcome::Denied));
    tell(case, generation, cut, 0);
}

/// A packet was let pass that would be denied. `audit`: as in [`Event::audit`].
#[inline(never)]
pub fn would_be_denied(case: &Case, generation: u32, audit: u32) {
    if audit == Event::NODE_IN_AUDIT {
        count_connection(case, Outcome::Allowed);
    }
    tally(&denial(case, Outcome::WouldBeDenied));
    tell(case, generation, false, audit);
}

/// What denied.
#[inline(always)]
fn denial(case: &Case, outcome: Outcome) -> VerdictKey {
    let verdict = &case.verdict;
    let (group, decision) = if verdict.side == Side::Egress as u8 {
        (case.source.group, verdict.egress_decision)
    } else if verdict.side == Side::Ingress as u8 {
        (case.destination.group, verdict.ingress_decision)
    } else {
        (0, NO_DECISION)
    };
    VerdictKey::new(group, verdict.side, decision, verdict.reason, outcome)
}

/// Counts a verdict under what decided.
#[inline(never)]
fn tally(key: &VerdictKey) {
    if let Some(cell) = VERDICTS.get_ptr_mut(key) {
        // SAFETY: the cell is this CPU's own, and programs on one CPU do not interrupt each other.
        unsafe { *cell = (*cell).wrapping_add(1) };
        return;
    }
    // This CPU has counted none yet: an entry that another one makes meanwhile keeps the other's count.
    if VERDICTS.insert(key, &1, 0).is_err() {
        count(STATISTIC_UNCOUNTED);
    }
}

/// Tells of a denial, unless one of the same flow was told a moment ago.
#[inline(always)]
fn tell(case: &Case, generation: u32, cut: bool, audit: u32) {
    let mut suppressed = 0;
    if is_due(case, generation, &mut suppressed) {
        emit(case, generation, cut, audit, suppressed);
    }
}

/// Whether this denial is to be told. `suppressed`: how many of the flow were not.
#[inline(never)]
fn is_due(case: &Case, generation: u32, suppressed: &mut u32) -> bool {
    let tuple = &case.tuple;
    let key =
        LimitKey::new(&tuple.source, &tuple.destination, tuple.source_port, tuple.destination_port, tuple.protocol);
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(limit) = LIMITS.get_ptr_mut(&key) {
        // SAFETY: the entry's memory stays mapped while the program runs; a lost count between CPUs is only a report.
        let limit = unsafe { &mut *limit };
        let Some(left_out) = limit.due(now, generation) else {
            limit.suppress();
            count(STATISTIC_SUPPRESSED_EVENTS);
            return false;
        };
        *suppressed = left_out;
    }
    // Where the table has no room the denial is told too often, which is the better error.
    let _told_again = LIMITS.insert(&key, &Limit::new(now, generation), 0);
    true
}

/// Writes what a pointer points to field by field: written as a whole, it would be built on the stack first. The list of fields is a pattern,
/// too, which does not compile unless it names each of them: none is sent unwritten. That there is nothing between them is checked where `Plain`
/// is implemented.
macro_rules! write_all {
    ($to:ident: $name:ident { $($field:ident: $value:expr),+ $(,)? }) => {
        const _: fn($name) = |$name { $($field: _),+ }| ();
        $((&raw mut (*$to).$field).write($value);)+
    };
}

#[inline(never)]
fn emit(case: &Case, generation: u32, cut: bool, audit: u32, suppressed: u32) {
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        count(STATISTIC_LOST_EVENTS);
        return;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: the reserved memory is an `Event`'s, aligned to eight bytes, and every field of it is written.
    unsafe {
        write_all!(event: Event {
            source: case.tuple.source,
            destination: case.tuple.destination,
            source_port: case.tuple.source_port,
            destination_port: case.tuple.destination_port,
            protocol: case.tuple.protocol,
            reason: case.verdict.reason,
            side: case.verdict.side,
            cut: cut as u8,
            generation: generation,
            source_interface: case.source.interface,
            destination_interface: case.destination.interface,
            egress_group: case.source.group,
            egress_decision: case.verdict.egress_decision,
            ingress_group: case.destination.group,
            ingress_decision: case.verdict.ingress_decision,
            suppressed: suppressed,
            audit: audit,
            reserved: 0,
        });
    }
    entry.submit(waking(case.verdict.reason != 0));
}

/// Whether an event wakes the reader: the flags for the helper. To wake it, and to be interrupted for that, may cost as much as the
/// connection itself. See docs/adr/0013.
#[inline(always)]
fn waking(is_denial: bool) -> u64 {
    let is_urgent = is_denial || EVENTS.query(BPF_RB_AVAIL_DATA as u64) > Event::MANY_BYTES;
    let (cell, pause) = if is_urgent { (1, Event::URGENT_PAUSE_NS) } else { (0, Event::PAUSE_NS) };
    let Some(woken) = WOKEN.get_ptr_mut(cell) else {
        return BPF_RB_FORCE_WAKEUP as u64;
    };
    // SAFETY: the helper has no preconditions. The memory stays mapped while the program runs; where two CPUs write the word at once,
    // both wake the reader.
    unsafe {
        let now = bpf_ktime_get_ns();
        if now.wrapping_sub(woken.read_volatile()) < pause {
            return BPF_RB_NO_WAKEUP as u64;
        }
        woken.write_volatile(now);
    }
    BPF_RB_FORCE_WAKEUP as u64
}

/// Counts one more connection, or packet that is no more than one, under its ends.
#[inline(never)]
fn count_connection(case: &Case, outcome: Outcome) {
    // What has no ports is one row: an echo's identifier is another with each of its senders.
    let port = match case.tuple.protocol {
        TCP | UDP | SCTP => case.tuple.destination_port,
        _ => 0,
    };
    let key = CountKey::new(
        *own_address(&case.source, &case.tuple.source),
        *own_address(&case.destination, &case.tuple.destination),
        case.source.interface,
        case.destination.interface,
        case.tuple.protocol,
        port,
    );
    let mut counts = COUNTS.get_ptr_mut(&key);
    if counts.is_none() {
        // Two CPUs may try at once: the second finds the first's entry, which is as good.
        let _lost_race = COUNTS.insert(&key, &Counts { allowed: 0, denied: 0 }, 1);
        counts = COUNTS.get_ptr_mut(&key);
    }
    let Some(counts) = counts else {
        return;
    };
    // SAFETY: the entry's memory stays mapped while the program runs; the addition is atomic.
    unsafe {
        match outcome {
            Outcome::Allowed => add_one(&raw mut (*counts).allowed),
            _ => add_one(&raw mut (*counts).denied),
        }
    }
}

/// A local pod stands under its own address, also where a masquerade has replaced it.
#[inline(always)]
fn own_address<'a>(endpoint: &'a Endpoint, seen: &'a Address) -> &'a Address {
    if endpoint.interface == 0 || endpoint.own.same(&Address::UNSPECIFIED) { seen } else { &endpoint.own }
}

/// # Safety
///
/// The pointer is that of a word in a map's value.
#[inline(always)]
unsafe fn add_one(word: *mut u64) {
    // The library's atomic types lack read-modify-write on this target; the instruction itself is there.
    // SAFETY: the caller's; values of maps are aligned to eight bytes.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(word, 1) };
}
