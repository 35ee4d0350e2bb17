// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! What the policies say.

use signalbox_enforcer_common::{
    policy::{Judgement, NO_DECISION, PodState, PolicyKey, Shapes, Side},
    verdict::Reason,
};

use crate::{
    endpoint::Endpoint,
    maps::{POLICY, RANGES, range_key},
    packet::{SCTP, TCP, UDP},
};

/// What both sides say of a connection.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Verdict {
    /// What the source's group decided, or nothing.
    pub egress_decision: u32,
    /// What the destination's group decided, or nothing.
    pub ingress_decision: u32,
    /// 0: allowed; else a [`Reason`].
    pub reason: u8,
    /// Which [`Side`] denied, or 0.
    pub side: u8,
}

impl Verdict {
    /// Nothing was judged, nothing stands against it.
    pub const ALLOWED: Self = Self { egress_decision: NO_DECISION, ingress_decision: NO_DECISION, reason: 0, side: 0 };

    /// Whether both sides allow.
    #[inline(always)]
    pub fn is_allowed(&self) -> bool {
        self.reason == 0
    }

    #[inline(always)]
    fn deny(&mut self, side: Side, reason: Reason) {
        self.reason = reason as u8;
        self.side = side as u8;
    }
}

/// Judges a connection from `source` to `port` of `destination`: the source's egress first, then the destination's
/// ingress. Its node always reaches a pod.
#[inline(never)]
pub fn judge(source: &Endpoint, destination: &Endpoint, protocol: u8, port: u16, verdict: &mut Verdict) {
    *verdict = Verdict::ALLOWED;
    if source.has(PodState::EGRESS_JUDGED) {
        if source.has(PodState::UNFIT) {
            verdict.deny(Side::Egress, Reason::MapFull);
            return;
        }
        let shapes = PodState::shapes(source.flags, Side::Egress);
        let found = earliest(source.group, Side::Egress, destination.identity, protocol, port, shapes);
        verdict.egress_decision = found.decision();
        if found.is_some() {
            if found.denies() {
                verdict.deny(Side::Egress, Reason::Denied);
                return;
            }
        } else if source.has(PodState::EGRESS_SHUT) {
            verdict.deny(Side::Egress, Reason::Isolated);
            return;
        }
    }
    if destination.has(PodState::INGRESS_JUDGED) && !source.has(Endpoint::NODE) {
        if destination.has(PodState::UNFIT) {
            verdict.deny(Side::Ingress, Reason::MapFull);
            return;
        }
        let shapes = PodState::shapes(destination.flags, Side::Ingress);
        let found = earliest(destination.group, Side::Ingress, source.identity, protocol, port, shapes);
        verdict.ingress_decision = found.decision();
        if found.is_some() {
            if found.denies() {
                verdict.deny(Side::Ingress, Reason::Denied);
            }
        } else if destination.has(PodState::INGRESS_SHUT) {
            verdict.deny(Side::Ingress, Reason::Isolated);
        }
    }
}

/// The earliest decision of the group on this, or [`Judgement::NONE`].
#[inline(always)]
fn earliest(group: u32, side: Side, identity: u32, protocol: u8, port: u16, shapes: Shapes) -> Judgement {
    let mut found = Judgement::NONE;
    let mut ask = |shape: Shapes, identity: Option<u32>, protocol: Option<u8>, port: Option<u16>| {
        if shapes.has(shape) {
            take(&mut found, PolicyKey::new(group, side, identity, protocol, port));
        }
    };
    ask(Shapes::IDENTITY, Some(identity), None, None);
    ask(Shapes::ALL, None, None, None);
    if protocol != TCP && protocol != UDP && protocol != SCTP {
        return found;
    }
    ask(Shapes::IDENTITY_PROTOCOL, Some(identity), Some(protocol), None);
    ask(Shapes::PROTOCOL, None, Some(protocol), None);
    // Port 0 is nobody's: in the table it stands for any port, and must not be asked for by a packet.
    if port != 0 {
        ask(Shapes::IDENTITY_PORT, Some(identity), Some(protocol), Some(port));
        ask(Shapes::PORT, None, Some(protocol), Some(port));
    }
    if shapes.has(Shapes::IDENTITY_RANGE) {
        take_range(&mut found, group, side, identity, protocol, port);
    }
    if shapes.has(Shapes::RANGE) {
        take_range(&mut found, group, side, u32::MAX, protocol, port);
    }
    found
}

#[inline(always)]
fn take(earliest: &mut Judgement, key: PolicyKey) {
    // SAFETY: an entry is written before anybody asks for it and removed when nobody does; the word is read at once.
    if let Some(found) = unsafe { POLICY.get(&key) } {
        *earliest = earliest.or_earlier(*found);
    }
}

#[inline(always)]
fn take_range(earliest: &mut Judgement, group: u32, side: Side, identity: u32, protocol: u8, port: u16) {
    if let Some(found) = RANGES.get(range_key(group, identity, protocol, side as u8, port)) {
        *earliest = earliest.or_earlier(*found);
    }
}
