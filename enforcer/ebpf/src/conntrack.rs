// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Flows that were judged before.

use signalbox_enforcer_common::{
    STATISTIC_FLOW_INSERT_FAILED,
    flow::{Event, Flow, FlowKey},
};

use crate::{
    endpoint::Endpoint,
    judge::{Verdict, judge},
    maps::{FLOWS, Moment, count, is_audit},
    packet::{Kind, TCP, Tuple},
    report,
};

/// A connection on its way through judgement: who opens it, to whom, and what was found.
#[repr(C)]
pub struct Case {
    /// As the one who opened it sends.
    pub tuple: Tuple,
    /// Who opens it.
    pub source: Endpoint,
    /// To whom.
    pub destination: Endpoint,
    /// What was found.
    pub verdict: Verdict,
    /// See [`Aside`].
    pub aside: Aside,
}

/// What was found for real, while the audit judges the same connection otherwise. In the case, since the stack is small.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Aside {
    /// Group and flags of who opens it.
    pub source: (u32, u32),
    /// Group and flags of the other end.
    pub destination: (u32, u32),
    /// What was found.
    pub verdict: Verdict,
}

impl Case {
    /// Begins with the tuple of a packet.
    #[inline(always)]
    pub fn begin(&mut self, tuple: &Tuple) {
        self.tuple = *tuple;
        self.source.forget();
        self.destination.forget();
        self.verdict = Verdict::ALLOWED;
    }

    /// Judges it.
    #[inline(always)]
    pub fn judge(&mut self) -> bool {
        judge(&self.source, &self.destination, self.tuple.protocol, self.tuple.destination_port, &mut self.verdict);
        self.verdict.is_allowed()
    }

    /// Turns it round: the connection that this packet would be a reply of.
    #[inline(always)]
    pub fn turn(&mut self) {
        core::mem::swap(&mut self.tuple.source, &mut self.tuple.destination);
        core::mem::swap(&mut self.tuple.source_port, &mut self.tuple.destination_port);
        core::mem::swap(&mut self.source, &mut self.destination);
    }
}

/// What the table says of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// No flow, or one that says nothing any more.
    Nothing,
    /// A live flow; the packet goes the way of the first one.
    Forward,
    /// A live flow; the packet is a reply.
    Reply,
    /// A flow that is not allowed any more. The case tells by what.
    Cut,
}

/// Whoever sends: its interface does not matter.
pub const ANYONE: u32 = u32::MAX;

/// Looks a packet up, and judges its flow again where the generation has changed. `sender` is the interface of the pod
/// that sent it, 0 for an uplink, or [`ANYONE`]: a tuple that comes in by another way than its flow is no part of it.
/// The case holds the packet's tuple; where the answer is [`Found::Cut`], it then holds the flow's.
#[inline(never)]
pub fn find(case: &mut Case, moment: Moment, sender: u32) -> Found {
    let tuple = &case.tuple;
    let (key, source_is_low) =
        FlowKey::new(&tuple.source, &tuple.destination, tuple.source_port, tuple.destination_port, tuple.protocol);
    let Some(flow) = FLOWS.get_ptr_mut(&key) else {
        return Found::Nothing;
    };
    // SAFETY: the kernel keeps the entry's memory while the program runs; at worst another flow takes its place, and
    // then this packet of it is judged by a neighbour's second: fields are words, written one by one.
    let flow = unsafe { &mut *flow };
    if flow.is_stale(moment.now, tuple.protocol) {
        return Found::Nothing;
    }
    let forward = flow.has(Flow::SOURCE_IS_LOW) == source_is_low;
    if sender != ANYONE {
        let expected = if forward { flow.source_interface() } else { flow.destination_interface() };
        if expected != sender {
            return Found::Nothing;
        }
    }
    if flow.generation() != moment.generation || flow.has(Flow::CUT) {
        if !forward {
            case.turn();
        }
        resolve(case, moment.generation, flow);
        let is_allowed = case.judge();
        if !is_allowed && !is_audit() {
            if flow.has(Flow::GUESSED) {
                // The other end may have opened it: the packet is judged as one of a connection that nobody saw being opened.
                let _gone = FLOWS.remove(&key);
                if !forward {
                    case.turn();
                }
                case.source.forget();
                case.destination.forget();
                case.verdict = Verdict::ALLOWED;
                return Found::Nothing;
            }
            if case.tuple.protocol == TCP {
                // Remembered, so that no later packet of it passes for a reply of something allowed.
                flow.cut(moment.generation);
            } else {
                // A failure means that it is gone already.
                let _gone = FLOWS.remove(&key);
            }
            return Found::Cut;
        }
        flow.keep(
            moment.generation,
            (case.source.interface, case.destination.interface),
            (case.verdict.egress_decision, case.verdict.ingress_decision),
        );
        if !is_allowed {
            flow.mark_audited();
            report::would_be_denied(case, moment.generation, Event::NODE_IN_AUDIT);
        }
        if !forward {
            case.turn();
        }
    }
    flow.touch(moment.now);
    if forward { Found::Forward } else { Found::Reply }
}

/// Who is at the ends of a known flow: a masquerade may have replaced the address, the interface still tells.
#[inline(always)]
fn resolve(case: &mut Case, generation: u32, flow: &Flow) {
    if flow.has(Flow::FROM_NODE) {
        case.source = Endpoint::LOCAL_NODE;
    } else if flow.source_interface() == 0
        || !case.source.of_interface(generation, flow.source_interface(), &case.tuple.source)
    {
        case.source.of_address(generation, &case.tuple.source);
    }
    if flow.destination_interface() == 0
        || !case.destination.of_interface(generation, flow.destination_interface(), &case.tuple.destination)
    {
        case.destination.of_address(generation, &case.tuple.destination);
    }
}

/// Whether a live flow has this tuple, in either direction.
#[inline(never)]
pub fn is_live(tuple: &Tuple, moment: Moment) -> bool {
    let (key, _) =
        FlowKey::new(&tuple.source, &tuple.destination, tuple.source_port, tuple.destination_port, tuple.protocol);
    // SAFETY: as in `find`; only words are read.
    match unsafe { FLOWS.get(&key) } {
        Some(flow) => !flow.has(Flow::CUT) && !flow.is_stale(moment.now, tuple.protocol),
        None => false,
    }
}

/// Remembers a flow that was allowed, or let pass by audit.
#[inline(never)]
pub fn remember(case: &Case, moment: Moment, kind: Kind) {
    let tuple = &case.tuple;
    let (key, source_is_low) =
        FlowKey::new(&tuple.source, &tuple.destination, tuple.source_port, tuple.destination_port, tuple.protocol);
    let mut flags = if source_is_low { Flow::SOURCE_IS_LOW } else { 0 };
    if case.source.has(Endpoint::NODE) {
        flags |= Flow::FROM_NODE;
    }
    if !case.verdict.is_allowed() {
        flags |= Flow::AUDITED;
    }
    if kind == Kind::Continuing {
        flags |= Flow::GUESSED;
    }
    let flow = Flow::new(
        moment.generation,
        moment.now,
        (case.source.interface, case.destination.interface),
        (case.verdict.egress_decision, case.verdict.ingress_decision),
        flags,
    );
    if FLOWS.insert(&key, &flow, 0).is_err() {
        count(STATISTIC_FLOW_INSERT_FAILED);
    }
}
