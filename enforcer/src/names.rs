//! The kernel's numbers back to names, of the same generation.

pub mod told;

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
    policy::Side,
    verdict::Reason,
};
use signalbox_policy::{Direction, PodRef, PolicyRef, RuleRef, tables::Rest};

use crate::group::{Decided, GroupContent, SideContent};

/// How many generations back a number still has a name: events may be read that much later.
const KEPT_GENERATIONS: usize = 16;
/// How many pods that are gone still have a name, for the counts that the kernel keeps of them.
const KEPT_PODS: usize = 4096;
/// The reason where the engine could not tell, so that the kernel denies: docs/adr/0006.
const NOT_UNDERSTOOD: &str = "not-understood";

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

    /// The event in words; `None` where another has told it already.
    pub fn event(&self, node: &str, event: &Event) -> Option<FlowEvent> {
        if event.audit == Event::POLICY_IN_AUDIT {
            // It was told already that the flow is let pass.
            return None;
        }
        let is_let_pass = event.reason == 0 || event.audit != 0;
        let reason = Reason::from_byte(event.reason).filter(|_| !is_let_pass);
        let direction = match event.side {
            _ if is_let_pass => None,
            side if side == Side::Ingress as u8 => Some(Side::Ingress),
            side if side == Side::Egress as u8 => Some(Side::Egress),
            _ => None,
        };
        let cause = match direction {
            Some(side) => self.denial(event, side, reason),
            None => self.allowance(event),
        };
        Some(FlowEvent {
            node: node.to_owned(),
            decision: if is_let_pass { flow::Decision::Allowed } else { flow::Decision::Denied },
            direction: direction.map(api_direction),
            protocol: event.protocol.into(),
            source: SocketAddr::new(event.source.into(), event.source_port),
            destination: SocketAddr::new(event.destination.into(), event.destination_port),
            source_pod: self.pod(event.source_interface),
            destination_pod: self.pod(event.destination_interface),
            rule: cause.rule,
            isolated_by: cause.isolated_by,
            reason: cause
                .reason
                .or(reason.filter(|reason| !is_policys(*reason)).map(Reason::as_str))
                .map(str::to_owned),
            generation: event.generation,
            at_us: now_us(),
        })
    }

    /// A count in words.
    pub fn count(&self, key: &CountKey, counts: &Counts) -> VerdictCount {
        let name = |(interface, address): (u32, Address)| {
            self.pod(interface).unwrap_or_else(|| std::net::IpAddr::from(address).to_string())
        };
        VerdictCount {
            source: name(key.source()),
            destination: name(key.destination()),
            protocol: key.protocol().into(),
            port: key.port(),
            allowed: counts.allowed,
            denied: counts.denied,
        }
    }

    fn pod(&self, interface: u32) -> Option<String> {
        let pod = self.pods.get(&interface)?;
        Some(format!("{}/{}", pod.namespace, pod.name))
    }

    /// What let it pass. Where both sides have a rule, the destination's speaks: it is the one that a reader looks for.
    fn allowance(&self, event: &Event) -> Cause {
        let rule = |side| match self.decided(event, side)? {
            Decided::Allow(rule) => Some(rule_ref(rule)),
            Decided::Deny(_) | Decided::Rest(_) | Decided::NotUnderstood(_) => None,
        };
        Cause { rule: rule(Side::Ingress).or_else(|| rule(Side::Egress)), ..Cause::default() }
    }

    /// What one side denied it by.
    fn denial(&self, event: &Event, side: Side, reason: Option<Reason>) -> Cause {
        let Some(content) = self.side(event, side) else { return Cause::default() };
        let isolated = |rest| match rest {
            Rest::NotUnderstood => Cause { reason: Some(NOT_UNDERSTOOD), ..Cause::default() },
            Rest::Shut | Rest::Open => {
                Cause { isolated_by: content.isolated_by.iter().map(policy_ref).collect(), ..Cause::default() }
            }
        };
        match self.decided(event, side) {
            Some(Decided::Deny(rule)) => Cause { rule: Some(rule_ref(rule)), ..Cause::default() },
            Some(Decided::NotUnderstood(rule)) => {
                Cause { rule: rule.as_ref().map(rule_ref), reason: Some(NOT_UNDERSTOOD), ..Cause::default() }
            }
            Some(Decided::Rest(rest)) => isolated(*rest),
            Some(Decided::Allow(_)) => Cause::default(),
            None if reason == Some(Reason::Isolated) => isolated(content.rest),
            // Its tables are not in the kernel: who would have had a word is known all the same.
            None => isolated(Rest::Shut),
        }
    }

    fn side(&self, event: &Event, side: Side) -> Option<&SideContent> {
        let group = match side {
            Side::Ingress => event.ingress_group,
            Side::Egress => event.egress_group,
        };
        Some(self.groups.get(&group)?.side(side))
    }

    fn decided(&self, event: &Event, side: Side) -> Option<&Decided> {
        let decision = match side {
            Side::Ingress => event.ingress_decision,
            Side::Egress => event.egress_decision,
        };
        // No decision is larger than the index of any.
        self.side(event, side)?.decisions.get(decision as usize)
    }
}

/// What decided, in words.
#[derive(Default)]
struct Cause {
    rule: Option<flow::RuleRef>,
    isolated_by: Vec<flow::PolicyRef>,
    reason: Option<&'static str>,
}

/// Whether the event says more of it than the word.
fn is_policys(reason: Reason) -> bool {
    matches!(reason, Reason::Isolated | Reason::Denied)
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn api_direction(side: Side) -> flow::Direction {
    match side {
        Side::Ingress => flow::Direction::Ingress,
        Side::Egress => flow::Direction::Egress,
    }
}

pub(crate) fn policy_ref(policy: &PolicyRef) -> flow::PolicyRef {
    flow::PolicyRef { kind: policy.kind.to_owned(), namespace: policy.namespace.clone(), name: policy.name.clone() }
}

pub(crate) fn rule_ref(rule: &RuleRef) -> flow::RuleRef {
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
