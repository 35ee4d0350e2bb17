// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! What the programs do with a packet. Why there are two hooks and a mark: docs/adr/0001.

use aya_ebpf::programs::TcContext;
use signalbox_enforcer_common::{
    MARK_REPLY, MARK_REPLY_OF_UNKNOWN,
    flow::Event,
    policy::{NodePortKey, PodState, TranslatedKey},
    verdict::{Action, Reason},
};

use crate::{
    audit,
    conntrack::{self, ANYONE, Case, Found},
    endpoint::{Endpoint, local_interface},
    lane,
    maps::{FRAGMENTS, Moment, NODE_ADDRESSES, NODE_PORTS, Scratch, TRANSLATED, is_audit, scratch},
    newcomer::{self, Fate},
    packet::{Kind, Packet},
    programs::{DROP, NEXT},
    quick, report,
};

/// Which interface a program stands at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The host interface of a pod.
    Pod,
    /// An interface that leads out of the node.
    Uplink,
}

/// Packets that come in: replies are told from the rest while they still have the addresses that were judged.
#[inline(always)]
pub fn ingress(context: &TcContext, place: Place) -> i32 {
    let Some(moment) = Moment::read() else {
        return NEXT;
    };
    if moment.generation == 0 && !newcomer::is_shut() {
        return NEXT;
    }
    // SAFETY: the kernel hands a valid context to the program.
    let interface = unsafe { (*context.skb.skb).ifindex };
    let sender = if place == Place::Pod { interface } else { 0 };
    if place == Place::Pod {
        lane::number(context, interface);
    }
    match quick::find(context, moment, sender) {
        Found::Forward => return NEXT,
        Found::Reply => return marked(context, MARK_REPLY),
        Found::Nothing | Found::Cut => {}
    }
    let Some(Scratch { packet, case }) = scratch() else {
        return NEXT;
    };
    packet.reset();
    let parsed = packet.parse(context);
    case.begin(&packet.tuple);
    if let Err(reason) = parsed {
        if place == Place::Uplink {
            // Nothing is delivered from here: the egress hook refuses it where somebody asked for judgement.
            return NEXT;
        }
        if !case.source.of_interface(moment.generation, interface, &case.tuple.source) {
            return from_newcomer(context, None, case, moment, interface);
        }
        let judged = case.source.has(PodState::EGRESS_JUDGED);
        return refuse(case, moment, reason, judged);
    }
    if packet.kind == Kind::Link {
        return NEXT;
    }
    if packet.kind == Kind::Continuing || packet.kind == Kind::Datagram {
        match conntrack::find(case, moment, sender) {
            Found::Nothing => {}
            Found::Forward => return NEXT,
            Found::Reply => {
                pass_fragments(packet, moment);
                return marked(context, MARK_REPLY);
            }
            Found::Cut => return drop_cut(case, moment),
        }
    }
    match place {
        Place::Pod => from_pod(context, packet, case, moment, interface),
        Place::Uplink => from_uplink(context, packet, case, moment),
    }
}

/// A pod's packet that no flow covers.
#[inline(always)]
fn from_pod(context: &TcContext, packet: &Packet, case: &mut Case, moment: Moment, interface: u32) -> i32 {
    if !case.source.of_interface(moment.generation, interface, &case.tuple.source) {
        return from_newcomer(context, Some(packet), case, moment, interface);
    }
    if !is_own(packet, &case.source) {
        return refuse(case, moment, Reason::SpoofedSource, true);
    }
    if packet.kind == Kind::Error && conntrack::is_live(&packet.about, moment) {
        return marked(context, MARK_REPLY);
    }
    let here = is_for_node(packet, &case.source);
    if packet.kind == Kind::LaterFragment {
        if here && !is_passed(packet) {
            let judged = case.source.has(PodState::EGRESS_JUDGED);
            return refuse(case, moment, Reason::Fragment, judged);
        }
        return NEXT;
    }
    if !here {
        if packet.kind == Kind::Continuing {
            // Perhaps a reply of a connection that is older than the enforcer.
            case.destination.of_address(moment.generation, &packet.tuple.destination);
            case.turn();
            if case.judge() {
                return marked(context, MARK_REPLY_OF_UNKNOWN);
            }
        }
        return NEXT;
    }
    // Delivered on the node itself: no egress hook will see it.
    case.destination.of_address(moment.generation, &packet.tuple.destination);
    if case.judge() {
        conntrack::remember(case, moment, packet.kind);
        report::allowed(case, moment.generation);
        audit::consider(case, moment);
        pass_fragments(packet, moment);
        return NEXT;
    }
    if packet.kind == Kind::Continuing {
        // Its node always reaches a pod, and so the pod may go on answering.
        return NEXT;
    }
    drop_denied(packet, case, moment)
}

/// A packet of a pod whose tables are not in yet. `packet`: if it could be read.
#[inline(always)]
fn from_newcomer(context: &TcContext, packet: Option<&Packet>, case: &mut Case, moment: Moment, interface: u32) -> i32 {
    if !newcomer::is_shut() || !newcomer::is_unknown(moment.generation, interface) {
        newcomer::note(interface, Fate::Passed);
        return NEXT;
    }
    if let Some(packet) = packet
        && (packet.kind == Kind::Continuing || packet.kind == Kind::Datagram)
        // Of all that goes to such a pod only what its node sends passes, and is remembered, without an interface.
        && conntrack::find(case, moment, 0) == Found::Reply
    {
        return marked(context, MARK_REPLY);
    }
    newcomer::note(interface, Fate::Dropped);
    refuse(case, moment, Reason::NotYetKnown, true)
}

/// A packet from outside that no flow covers.
#[inline(always)]
fn from_uplink(context: &TcContext, packet: &Packet, case: &mut Case, moment: Moment) -> i32 {
    if local_interface(moment.generation, &packet.tuple.source) != 0 {
        return refuse(case, moment, Reason::SpoofedSource, true);
    }
    if packet.kind == Kind::Error && conntrack::is_live(&packet.about, moment) {
        return marked(context, MARK_REPLY);
    }
    if packet.kind == Kind::Continuing {
        let receiver = local_interface(moment.generation, &packet.tuple.destination);
        if receiver != 0 && case.destination.of_interface(moment.generation, receiver, &case.tuple.destination) {
            case.source.of_address(moment.generation, &packet.tuple.source);
            case.turn();
            if case.judge() {
                return marked(context, MARK_REPLY_OF_UNKNOWN);
            }
        }
    }
    NEXT
}

/// Packets that go out, to a pod or out of the node: after the Service's translation.
#[inline(always)]
pub fn egress(context: &TcContext, place: Place) -> i32 {
    // SAFETY: the kernel hands a valid context to the program.
    let (mark, interface, came_by) =
        unsafe { ((*context.skb.skb).mark, (*context.skb.skb).ifindex, (*context.skb.skb).ingress_ifindex) };
    if mark & (MARK_REPLY | MARK_REPLY_OF_UNKNOWN) != 0 {
        context.set_mark(mark & !(MARK_REPLY | MARK_REPLY_OF_UNKNOWN));
    }
    if mark & MARK_REPLY != 0 {
        return NEXT;
    }
    if place == Place::Uplink && came_by == 0 {
        // The node's own business.
        return NEXT;
    }
    let Some(moment) = Moment::read() else {
        return NEXT;
    };
    if moment.generation == 0 && !newcomer::is_shut() {
        return NEXT;
    }
    match quick::find(context, moment, ANYONE) {
        Found::Forward | Found::Reply => return NEXT,
        Found::Nothing | Found::Cut => {}
    }
    let Some(Scratch { packet, case }) = scratch() else {
        return NEXT;
    };
    packet.reset();
    let parsed = packet.parse(context);
    case.begin(&packet.tuple);
    if parsed.is_ok() {
        if packet.kind == Kind::Link {
            return NEXT;
        }
        if packet.kind == Kind::LaterFragment && is_passed(packet) {
            return NEXT;
        }
        if packet.kind == Kind::Error && conntrack::is_live(&packet.about, moment) {
            return NEXT;
        }
        if packet.kind == Kind::Continuing || packet.kind == Kind::Datagram {
            match conntrack::find(case, moment, ANYONE) {
                Found::Nothing => {}
                Found::Forward | Found::Reply => {
                    pass_fragments(packet, moment);
                    return NEXT;
                }
                Found::Cut => return drop_cut(case, moment),
            }
        }
    }
    who(context, packet, case, moment, place, interface, came_by);
    if place == Place::Pod && is_anothers(packet, case, moment, interface) {
        // A bridge floods what it does not know the place of: the one that it is for gets a packet of its own, and is judged there.
        let is_shut = case.destination.has(PodState::INGRESS_JUDGED) && !is_audit();
        return if is_shut { DROP } else { NEXT };
    }
    if let Some(newcomer) = newcomer(case, place, interface, came_by) {
        if newcomer::is_shut() {
            newcomer::note(newcomer, Fate::Dropped);
            return refuse(case, moment, Reason::NotYetKnown, true);
        }
        newcomer::note(newcomer, Fate::Passed);
    }
    if place == Place::Uplink && case.source.interface == 0 {
        // No pod of this node sent it: nothing to judge.
        return NEXT;
    }
    let refusal = match parsed {
        Err(reason) => Some(reason),
        Ok(()) if packet.kind == Kind::LaterFragment => Some(Reason::Fragment),
        Ok(()) => None,
    };
    if let Some(reason) = refusal {
        let judged = case.source.has(PodState::EGRESS_JUDGED)
            || case.destination.has(PodState::INGRESS_JUDGED) && !case.source.has(Endpoint::NODE);
        return refuse(case, moment, reason, judged);
    }
    if case.judge() {
        conntrack::remember(case, moment, packet.kind);
        report::allowed(case, moment.generation);
        audit::consider(case, moment);
        pass_fragments(packet, moment);
        return NEXT;
    }
    if mark & MARK_REPLY_OF_UNKNOWN != 0 {
        return NEXT;
    }
    drop_denied(packet, case, moment)
}

/// Who is at the ends, at an egress hook.
#[inline(always)]
fn who(
    context: &TcContext,
    packet: &Packet,
    case: &mut Case,
    moment: Moment,
    place: Place,
    interface: u32,
    came_by: u32,
) {
    if came_by == 0 {
        case.source = Endpoint::LOCAL_NODE;
    } else if !case.source.of_interface(moment.generation, came_by, &packet.tuple.source) {
        let sender = lane::sender(context, came_by);
        if sender == 0 || !case.source.of_interface(moment.generation, sender, &packet.tuple.source) {
            case.source.of_address(moment.generation, &packet.tuple.source);
        }
    }
    if place == Place::Uplink || !case.destination.of_interface(moment.generation, interface, &packet.tuple.destination)
    {
        case.destination.of_address(moment.generation, &packet.tuple.destination);
    }
}

/// Whether a packet at a pod's interface is for another pod of this node.
#[inline(always)]
fn is_anothers(packet: &Packet, case: &Case, moment: Moment, interface: u32) -> bool {
    if case.destination.interface != interface {
        return false;
    }
    let owner = local_interface(moment.generation, &packet.tuple.destination);
    owner != 0 && owner != interface
}

/// The interface of a pod that is not known yet, where one sends this or gets it. What the node itself sends does not count:
/// it always reaches a pod.
#[inline(always)]
fn newcomer(case: &Case, place: Place, interface: u32, came_by: u32) -> Option<u32> {
    if came_by == 0 {
        return None;
    }
    // `who` has looked for pods there already: without one it went by the address, and found none of this node's.
    if case.source.interface == 0 && !newcomer::is_foreign(came_by) {
        return Some(came_by);
    }
    let is_settled = place == Place::Uplink || case.destination.interface != 0;
    (!is_settled && !newcomer::is_foreign(interface)).then_some(interface)
}

/// Whether the pod that sends may send from this address.
#[inline(always)]
fn is_own(packet: &Packet, sender: &Endpoint) -> bool {
    if sender.own.same(&packet.tuple.source) {
        return true;
    }
    // Link-local talk stays on the link.
    packet.tuple.source.is_link_local_v6()
        && (packet.tuple.destination.is_link_local_v6() || packet.tuple.destination.is_many())
}

/// Whether a pod's packet is delivered on the node itself, without translation.
#[inline(always)]
fn is_for_node(packet: &Packet, sender: &Endpoint) -> bool {
    if packet.tuple.destination.is_many() {
        return sender.has(PodState::EGRESS_JUDGED);
    }
    if NODE_ADDRESSES.get_ptr(&packet.tuple.destination).is_none() {
        return false;
    }
    let (protocol, port) = (packet.tuple.protocol, packet.tuple.destination_port);
    NODE_PORTS.get_ptr(&NodePortKey::new(protocol, port)).is_none()
        && TRANSLATED.get_ptr(&TranslatedKey::new(packet.tuple.destination, protocol, port)).is_none()
}

/// Remembers a datagram whose first fragment passes.
#[inline(always)]
fn pass_fragments(packet: &Packet, moment: Moment) {
    if packet.fragmented {
        // Without room the later fragments are denied where a policy judges: on the safe side.
        let _no_room = FRAGMENTS.insert(&packet.datagram(), &moment.generation, 0);
    }
}

/// Whether the first fragment of this datagram was let pass.
#[inline(always)]
fn is_passed(packet: &Packet) -> bool {
    FRAGMENTS.get_ptr(&packet.datagram()).is_some()
}

#[inline(always)]
fn marked(context: &TcContext, bit: u32) -> i32 {
    // SAFETY: the kernel hands a valid context to the program.
    let mark = unsafe { (*context.skb.skb).mark };
    context.set_mark(mark | bit);
    NEXT
}

/// The policies deny: the packet ends here, unless the node is in audit.
#[inline(always)]
fn drop_denied(packet: &Packet, case: &Case, moment: Moment) -> i32 {
    if is_audit() {
        // Remembered, so that neither its replies nor its next packets are told as well.
        conntrack::remember(case, moment, packet.kind);
        report::would_be_denied(case, moment.generation, Event::NODE_IN_AUDIT);
        pass_fragments(packet, moment);
        return NEXT;
    }
    report::denied(case, moment.generation, false);
    DROP
}

/// The policies do not allow any more.
#[inline(always)]
fn drop_cut(case: &Case, moment: Moment) -> i32 {
    report::denied(case, moment.generation, true);
    DROP
}

/// Something else stands against the packet: the table decides what becomes of it.
#[inline(always)]
fn refuse(case: &mut Case, moment: Moment, reason: Reason, judged: bool) -> i32 {
    match reason.action(judged) {
        Action::Pass => NEXT,
        Action::Drop => {
            case.verdict.reason = reason as u8;
            if is_audit() {
                report::would_be_denied(case, moment.generation, Event::NODE_IN_AUDIT);
                return NEXT;
            }
            report::denied(case, moment.generation, false);
            DROP
        }
    }
}
