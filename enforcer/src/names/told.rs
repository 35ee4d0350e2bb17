//! The kernel's events in all their words, and names for those who read the kernel's tables.

use std::{net::SocketAddr, sync::Arc};

use signalbox_api::{
    flow,
    node::{Cause, EventKind, NodeEvent},
};
use signalbox_enforcer_common::{flow::Event, policy::Side, verdict::Reason};

use super::{Names, api_direction, is_policys, now_us, rule_ref};
use crate::group::{Decided, GroupContent};

impl Names {
    /// The event in all its words.
    pub fn told(&self, node: &str, event: &Event) -> NodeEvent {
        let reason = Reason::from_byte(event.reason);
        let side = side_of(event.side);
        let cause = match side {
            Some(side) => self.denial(event, side, reason),
            None => self.allowance(event),
        };
        let word = reason.filter(|reason| !is_policys(*reason)).map(Reason::as_str);
        NodeEvent {
            node: node.to_owned(),
            kind: kind_of(event),
            protocol: protocol_name(event.protocol),
            source: SocketAddr::new(event.source.into(), event.source_port),
            destination: SocketAddr::new(event.destination.into(), event.destination_port),
            source_pod: self.pod(event.source_interface),
            destination_pod: self.pod(event.destination_interface),
            direction: side.map(api_direction),
            cause: Cause {
                rule: cause.rule,
                isolated_by: cause.isolated_by,
                reason: cause.reason.or(word).map(str::to_owned),
            },
            suppressed: event.suppressed,
            generation: event.generation,
            at_us: now_us(),
        }
    }

    /// What a set of policies says; `None` where its number is too old, or of nobody.
    pub fn group(&self, number: u32) -> Option<&Arc<GroupContent>> {
        self.groups.get(&number)
    }

    /// `namespace/name` of the pod behind an interface, also for a while after it has gone.
    pub fn pod_at(&self, interface: u32) -> Option<String> {
        self.pod(interface)
    }

    /// The rule that a decision of a group allows or denies by.
    pub fn rule(&self, group: u32, side: Side, decision: u32) -> Option<flow::RuleRef> {
        match self.groups.get(&group)?.side(side).decisions.get(decision as usize)? {
            Decided::Allow(rule) | Decided::Deny(rule) => Some(rule_ref(rule)),
            Decided::NotUnderstood(rule) => rule.as_ref().map(rule_ref),
            Decided::Rest(_) => None,
        }
    }
}

/// The side that an event's byte stands for.
pub fn side_of(byte: u8) -> Option<Side> {
    match byte {
        side if side == Side::Ingress as u8 => Some(Side::Ingress),
        side if side == Side::Egress as u8 => Some(Side::Egress),
        _ => None,
    }
}

fn kind_of(event: &Event) -> EventKind {
    match (event.reason, event.audit, event.cut) {
        (0, ..) => EventKind::NewFlow,
        (_, 0, 0) => EventKind::Denied,
        (_, 0, _) => EventKind::Cut,
        (..) => EventKind::WouldBeDenied,
    }
}

/// The name of an IP protocol, or its number.
pub fn protocol_name(protocol: u8) -> String {
    flow::IpProtocol::from(protocol).to_string()
}
