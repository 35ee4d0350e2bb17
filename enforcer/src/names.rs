//! The kernel's numbers back to names, of the same generation.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use signalbox_api::{
    flow,
    kernel::{FlowEvent, VerdictCount},
};
use signalbox_enforcer_common::{
    Address,
    flow::{CountKey, Counts, Event},
    policy::{NO_RULE, Side},
    verdict::Reason,
};
use signalbox_policy::{Direction, PodRef, PolicyRef, RuleRef};

use crate::group::GroupContent;

/// How many generations back a number still has a name: events may be read that much later.
const KEPT_GENERATIONS: usize = 16;
/// How many pods that are gone still have a name, for the counts that the kernel keeps of them.
const KEPT_PODS: usize = 4096;

/// What the numbers mean.
#[derive(Debug, Default)]
pub struct Names {
    groups: HashMap<u32, Arc<GroupContent>>,
    /// Groups that went out of use, oldest first, one list for each generation.
    retired: VecDeque<Vec<u32>>,
    pods: HashMap<u32, PodRef>,
    /// Interfaces of pods that are gone, oldest first.
    gone: VecDeque<u32>,
}

impl Names {
    /// The groups of a new generation.
    pub fn set_groups(&mut self, current: &HashMap<u32, Arc<GroupContent>>) {
        let pending: Vec<u32> = self.retired.iter().flatten().copied().collect();
        let leaving: Vec<u32> = self
            .groups
            .keys()
            .filter(|number| !current.contains_key(number) && !pending.contains(number))
            .copied()
            .collect();
        self.retired.push_back(leaving);
        while self.retired.len() > KEPT_GENERATIONS {
            for number in self.retired.pop_front().into_iter().flatten() {
                self.groups.remove(&number);
            }
        }
        self.groups.extend(current.iter().map(|(number, content)| (*number, Arc::clone(content))));
    }

    /// A pod behind an interface.
    pub fn set_pod(&mut self, interface: u32, pod: PodRef) {
        self.gone.retain(|other| *other != interface);
        self.pods.insert(interface, pod);
    }

    /// The pod is gone; its name stays for a while.
    pub fn retire_pod(&mut self, interface: u32) {
        self.gone.push_back(interface);
        while self.gone.len() > KEPT_PODS {
            if let Some(oldest) = self.gone.pop_front() {
                self.pods.remove(&oldest);
            }
        }
    }

    /// The event in words; `None` for protocols that have no word there.
    pub fn event(&self, node: &str, event: &Event) -> Option<FlowEvent> {
        let reason = Reason::from_byte(event.reason);
        let direction = match event.side {
            side if side == Side::Ingress as u8 => Some(Side::Ingress),
            side if side == Side::Egress as u8 => Some(Side::Egress),
            _ => None,
        };
        let isolated_by = direction.map_or_else(Vec::new, |side| {
            let group = match side {
                Side::Ingress => event.ingress_group,
                Side::Egress => event.egress_group,
            };
            let content = self.groups.get(&group);
            content.map_or_else(Vec::new, |content| content.side(side).isolated_by.iter().map(policy_ref).collect())
        });
        let ingress = self.rule(event.ingress_group, Side::Ingress, event.ingress_rule);
        let egress = self.rule(event.egress_group, Side::Egress, event.egress_rule);
        Some(FlowEvent {
            node: node.to_owned(),
            decision: if event.reason == 0 { flow::Decision::Allowed } else { flow::Decision::Denied },
            direction: direction.map(api_direction),
            protocol: api_protocol(event.protocol)?,
            source: SocketAddr::new(event.source.into(), event.source_port),
            destination: SocketAddr::new(event.destination.into(), event.destination_port),
            source_pod: self.pod(event.source_interface),
            destination_pod: self.pod(event.destination_interface),
            // Where both sides have a rule, the destination's speaks: it is the one that a reader looks for.
            rule: if event.reason == 0 { ingress.or(egress) } else { None },
            isolated_by,
            reason: reason.filter(|reason| *reason != Reason::Isolated).map(|reason| reason.as_str().to_owned()),
            generation: event.generation,
            at_us: now_us(),
        })
    }

    /// A count in words; `None` for protocols that have no word there.
    pub fn count(&self, key: &CountKey, counts: &Counts) -> Option<VerdictCount> {
        let name = |(interface, address): (u32, Address)| {
            self.pod(interface).unwrap_or_else(|| std::net::IpAddr::from(address).to_string())
        };
        Some(VerdictCount {
            source: name(key.source()),
            destination: name(key.destination()),
            protocol: api_protocol(key.protocol())?,
            port: key.port(),
            allowed: counts.allowed,
            denied: counts.denied,
        })
    }

    fn pod(&self, interface: u32) -> Option<String> {
        let pod = self.pods.get(&interface)?;
        Some(format!("{}/{}", pod.namespace, pod.name))
    }

    fn rule(&self, group: u32, side: Side, rule: u32) -> Option<flow::RuleRef> {
        if rule == NO_RULE {
            return None;
        }
        self.groups.get(&group)?.side(side).rules.get(rule as usize).map(rule_ref)
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn api_protocol(protocol: u8) -> Option<flow::Protocol> {
    match protocol {
        6 => Some(flow::Protocol::Tcp),
        17 => Some(flow::Protocol::Udp),
        132 => Some(flow::Protocol::Sctp),
        _ => None,
    }
}

fn api_direction(side: Side) -> flow::Direction {
    match side {
        Side::Ingress => flow::Direction::Ingress,
        Side::Egress => flow::Direction::Egress,
    }
}

fn policy_ref(policy: &PolicyRef) -> flow::PolicyRef {
    flow::PolicyRef { kind: policy.kind.to_owned(), namespace: policy.namespace.clone(), name: policy.name.clone() }
}

fn rule_ref(rule: &RuleRef) -> flow::RuleRef {
    flow::RuleRef {
        policy: policy_ref(&rule.policy),
        direction: match rule.direction {
            Direction::Ingress => flow::Direction::Ingress,
            Direction::Egress => flow::Direction::Egress,
        },
        rule: rule.rule,
        peer: rule.peer,
        port: rule.port,
    }
}
