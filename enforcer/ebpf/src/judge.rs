// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! What the policies say.

use signalbox_enforcer_common::{
    policy::{NO_RULE, PodState, PolicyKey, Side},
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
    /// The rule of the source's group, or none.
    pub egress_rule: u32,
    /// The rule of the destination's group, or none.
    pub ingress_rule: u32,
    /// 0: allowed; else a [`Reason`].
    pub reason: u8,
    /// Which [`Side`] denied, or 0.
    pub side: u8,
}

impl Verdict {
    /// Nothing was judged, nothing stands against it.
    pub const ALLOWED: Self = Self { egress_rule: NO_RULE, ingress_rule: NO_RULE, reason: 0, side: 0 };

    /// Whether both sides allow.
    #[inline(always)]
    pub fn is_allowed(&self) -> bool {
        self.reason == 0
    }

    #[inline(always)]
    fn deny(&mut self, side: Side, unfit: bool) {
        self.reason = if unfit { Reason::MapFull } else { Reason::Isolated } as u8;
        self.side = side as u8;
    }
}

/// Judges a connection from `source` to `port` of `destination`: the source's egress first, then the destination's
/// ingress. Its node always reaches a pod.
#[inline(never)]
pub fn judge(source: &Endpoint, destination: &Endpoint, protocol: u8, port: u16, verdict: &mut Verdict) {
    *verdict = Verdict::ALLOWED;
    if source.has(PodState::EGRESS_ISOLATED) {
        let unfit = source.has(PodState::UNFIT);
        if !unfit {
            let ranges = source.has(PodState::EGRESS_RANGES);
            verdict.egress_rule = smallest(source.group, Side::Egress, destination.identity, protocol, port, ranges);
        }
        if verdict.egress_rule == NO_RULE {
            verdict.deny(Side::Egress, unfit);
            return;
        }
    }
    if destination.has(PodState::INGRESS_ISOLATED) && !source.has(Endpoint::NODE) {
        let unfit = destination.has(PodState::UNFIT);
        if !unfit {
            let ranges = destination.has(PodState::INGRESS_RANGES);
            verdict.ingress_rule = smallest(destination.group, Side::Ingress, source.identity, protocol, port, ranges);
        }
        if verdict.ingress_rule == NO_RULE {
            verdict.deny(Side::Ingress, unfit);
        }
    }
}

/// The smallest rule of the group that allows, or [`NO_RULE`].
#[inline(always)]
fn smallest(group: u32, side: Side, identity: u32, protocol: u8, port: u16, ranges: bool) -> u32 {
    let mut rule = NO_RULE;
    take(&mut rule, PolicyKey::new(group, side, Some(identity), None, None));
    take(&mut rule, PolicyKey::new(group, side, None, None, None));
    if protocol != TCP && protocol != UDP && protocol != SCTP {
        return rule;
    }
    take(&mut rule, PolicyKey::new(group, side, Some(identity), Some(protocol), None));
    take(&mut rule, PolicyKey::new(group, side, None, Some(protocol), None));
    // Port 0 is nobody's: in the table it stands for any port, and must not be asked for by a packet.
    if port != 0 {
        take(&mut rule, PolicyKey::new(group, side, Some(identity), Some(protocol), Some(port)));
        take(&mut rule, PolicyKey::new(group, side, None, Some(protocol), Some(port)));
    }
    if ranges {
        take_range(&mut rule, group, side, identity, protocol, port);
        take_range(&mut rule, group, side, u32::MAX, protocol, port);
    }
    rule
}

#[inline(always)]
fn take(rule: &mut u32, key: PolicyKey) {
    // SAFETY: entries of a group are written before the group is used and removed after it; the word is read at once.
    if let Some(found) = unsafe { POLICY.get(&key) } {
        if *found < *rule {
            *rule = *found;
        }
    }
}

#[inline(always)]
fn take_range(rule: &mut u32, group: u32, side: Side, identity: u32, protocol: u8, port: u16) {
    if let Some(found) = RANGES.get(range_key(group, identity, protocol, side as u8, port)) {
        if *found < *rule {
            *rule = *found;
        }
    }
}
