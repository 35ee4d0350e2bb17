//! What engine and kernel say of a connection that is asked about.

use std::net::{IpAddr, SocketAddr};

use signalbox_api::{
    flow,
    node::{Cause, Opinion, TraceReport, TraceStep},
};
use signalbox_enforcer_common::{MARK_REPLY, MARK_REPLY_OF_UNKNOWN, flow::Event};
use signalbox_policy::{
    Connection, Family, Party, PodRef, Protocol, Route, Side, Verdict,
    evaluate::{Endpoint, Judgement},
};

use super::super::Core;
use crate::{
    datapath::{Way, rehearsal::Rehearsal},
    error::Error,
    frame,
    group::ip_protocol,
    names::{policy_ref, rule_ref},
};

/// The port that an asked-about connection comes from: one of those that systems give out.
const SOURCE_PORT: u16 = 49_152;

/// Whom a question speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A pod, by `namespace/name`.
    Pod(PodRef),
    /// An address. That of a pod stands for the pod, one of this node's for the node.
    Address(IpAddr),
}

/// A question about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceQuestion {
    /// Who opens it.
    pub from: End,
    /// To whom.
    pub to: End,
    /// The transport.
    pub protocol: Protocol,
    /// The port of the destination, behind a Service's translation.
    pub port: u16,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// There is no such pod.
    #[error(
        "there is no pod {0} with an address, as far as this node's enforcer knows: `kubectl get pods -A -o wide` lists them"
    )]
    NoSuchPod(String),
    /// The ends have no family of addresses in common.
    #[error("{from} and {to} have no family of addresses in common: name them by addresses of one family")]
    NoFamily {
        /// Who opens it.
        from: String,
        /// To whom.
        to: String,
    },
    /// The first lists are not complete.
    #[error(
        "the enforcer does not know the cluster yet: ask again when `signalbox-enforcer status` shows a generation"
    )]
    NotReady,
    /// The kernel could not be asked.
    #[error(transparent)]
    Kernel(#[from] Error),
}

/// An end with all that is known of it.
struct Known {
    party: Party,
    addresses: Vec<IpAddr>,
    /// The interface, where it is a pod of this node that is bound.
    interface: Option<u32>,
    is_node: bool,
    name: String,
}

impl Core {
    /// What engine and kernel say of a connection.
    ///
    /// # Errors
    ///
    /// When the ends are not known, or the kernel cannot be asked.
    pub fn trace(&mut self, question: &TraceQuestion) -> Result<TraceReport, NoAnswer> {
        if !self.store.is_ready() {
            return Err(NoAnswer::NotReady);
        }
        let (from, to) = (self.known(&question.from, None)?, self.known(&question.to, Some(question))?);
        let (source, destination) = between(&from, &to)?;
        let verdict = self.cluster.judge(&Connection {
            from: &from.party,
            to: &to.party,
            protocol: question.protocol,
            port: question.port,
            route: Route::Direct,
            family: Some(Family::of(destination)),
        });
        let mut report = TraceReport {
            from: from.name.clone(),
            to: to.name.clone(),
            source: SocketAddr::new(source, SOURCE_PORT),
            destination: SocketAddr::new(destination, question.port),
            protocol: api_protocol(question.protocol),
            engine: opinion(&verdict),
            kernel: None,
            steps: Vec::new(),
            agree: None,
            notes: Vec::new(),
        };
        if self.store.service_addresses().contains(&destination) {
            report.notes.push(format!(
                "{destination} is the address of a Service: policies are judged behind its translation, so ask for one of its pods and their port"
            ));
        }
        if from.interface.is_some() && from.interface == to.interface {
            report.notes.push("a pod's traffic to its own address never leaves it, and no program sees it".to_owned());
            return Ok(report);
        }
        for (end, side) in [(&from, "egress"), (&to, "ingress")] {
            if matches!(end.party, Party::Pod(_)) && end.interface.is_none() {
                report.notes.push(format!("{} is no bound pod of this node: its {side} is judged elsewhere", end.name));
            }
        }
        let Some(ways) = self.ways(&from, &to)? else {
            report.notes.push("neither end is a bound pod of this node: nothing is judged here".to_owned());
            return Ok(report);
        };
        let Some(packet) = frame::opening(report.source, report.destination, question.protocol) else {
            return Err(NoAnswer::NoFamily { from: from.name, to: to.name });
        };
        let kernel = self.rehearse(&packet, &ways, &mut report.steps, &mut report.notes)?;
        let judged = self.tables.judge(
            if from.is_node { Endpoint::LocalNode } else { Endpoint::Address(source) },
            Endpoint::Address(destination),
            question.protocol,
            question.port,
        );
        report.agree = Some(agree(&verdict, &judged, (&from, &to), &kernel));
        report.kernel = Some(kernel);
        Ok(report)
    }

    /// `at`: the end that is asked for, by the port that is asked for; else the one that sends.
    fn known(&self, end: &End, at: Option<&TraceQuestion>) -> Result<Known, NoAnswer> {
        let of_pod = |pod: &PodRef| {
            let addresses = self.addresses_of(pod);
            let party = Party::Pod(pod.clone());
            Known { party, addresses, interface: self.interface_of(pod), is_node: false, name: pod.to_string() }
        };
        match end {
            End::Pod(pod) => {
                let known = of_pod(pod);
                if known.addresses.is_empty() {
                    return Err(NoAnswer::NoSuchPod(pod.to_string()));
                }
                Ok(known)
            }
            End::Address(address) => {
                if let Some(local) = self.tables.local_pod(*address) {
                    return Ok(Known { addresses: vec![*address], ..of_pod(&local.pod) });
                }
                let (protocol, port) = at.map_or((0, 0), |at| (ip_protocol(at.protocol), at.port));
                let is_node = self.datapath.is_node(*address, protocol, port);
                Ok(Known {
                    party: Party::Address(*address),
                    addresses: vec![*address],
                    interface: None,
                    is_node,
                    name: address.to_string(),
                })
            }
        }
    }

    /// The programs that see the packet, in order; `None`: none of this node's judges it.
    fn ways(&self, from: &Known, to: &Known) -> Result<Option<Vec<Way<'static>>>, NoAnswer> {
        let way = |program, interface, came_by| Way { program, interface, came_by, mark: 0 };
        let uplink = self.datapath.uplink();
        Ok(match (from.interface, to.interface) {
            (Some(sender), Some(receiver)) => {
                Some(vec![way("from_pod", sender, sender), way("to_pod", receiver, sender)])
            }
            // Delivered on the node: no other hook sees it.
            (Some(sender), None) if to.is_node => Some(vec![way("from_pod", sender, sender)]),
            (Some(sender), None) => {
                let mut ways = vec![way("from_pod", sender, sender)];
                ways.extend(uplink.map(|uplink| way("to_uplink", uplink, sender)));
                Some(ways)
            }
            (None, Some(receiver)) if from.is_node => Some(vec![way("to_pod", receiver, 0)]),
            (None, Some(receiver)) => {
                let mut ways: Vec<Way<'_>> =
                    uplink.map(|uplink| way("from_uplink", uplink, uplink)).into_iter().collect();
                // Without an uplink it comes by the loopback interface, which is nobody's.
                ways.push(way("to_pod", receiver, uplink.unwrap_or(1)));
                Some(ways)
            }
            (None, None) => None,
        })
    }

    fn rehearse(
        &mut self,
        packet: &[u8],
        ways: &[Way<'_>],
        steps: &mut Vec<TraceStep>,
        notes: &mut Vec<String>,
    ) -> Result<Opinion, NoAnswer> {
        let mut rehearsal = match self.rehearsal.take() {
            Some(rehearsal) => rehearsal,
            None => Rehearsal::load(&self.datapath)?,
        };
        rehearsal.begin()?;
        let mut mark = 0;
        let mut passes = true;
        for way in ways {
            let way = Way { mark, ..*way };
            let trial = self.datapath.netns().enter(|| rehearsal.run(packet, way))??;
            steps.push(TraceStep { program: way.program.to_owned(), interface: way.interface, passes: trial.passes });
            mark = trial.mark & (MARK_REPLY | MARK_REPLY_OF_UNKNOWN);
            passes = trial.passes;
            if !passes {
                break;
            }
        }
        let events = rehearsal.events();
        self.rehearsal = Some(rehearsal);
        for event in events.iter().filter(|event| event.audit == Event::POLICY_IN_AUDIT) {
            let named = self.datapath.told(&self.node, event);
            let sentence = sentence(false, named.direction, &named.cause);
            notes.push(format!("with the policies in audit it would be {sentence}"));
        }
        let event = events.into_iter().find(|event| event.audit != Event::POLICY_IN_AUDIT);
        if event.is_some_and(|event| event.audit == Event::NODE_IN_AUDIT) {
            notes.push(
                "the node is in audit: what would be denied is let pass, and the kernel's verdict is shown".to_owned(),
            );
            passes = false;
        }
        let named = event.map(|event| self.datapath.told(&self.node, &event));
        let (cause, direction) = named.map(|event| (event.cause, event.direction)).unwrap_or_default();
        let sentence = match (passes, event.is_some()) {
            (true, false) => "allowed: no program of this node has a word on it".to_owned(),
            (_, _) => sentence(passes, direction, &cause),
        };
        Ok(Opinion { allowed: Some(passes), direction, cause, sentence })
    }
}

/// The first family that both have.
fn between(from: &Known, to: &Known) -> Result<(IpAddr, IpAddr), NoAnswer> {
    let pairs = to.addresses.iter().flat_map(|to| from.addresses.iter().map(move |from| (*from, *to)));
    let found = pairs.into_iter().find(|(from, to)| from.is_ipv4() == to.is_ipv4());
    found.ok_or_else(|| NoAnswer::NoFamily { from: from.name.clone(), to: to.name.clone() })
}

fn opinion(verdict: &Verdict) -> Opinion {
    let allowed = verdict.allowed();
    if allowed.is_none() {
        let sentence = format!("it cannot be told: {}", verdict.unknown.join("; "));
        return Opinion { sentence, ..Opinion::default() };
    }
    let sides = [(&verdict.egress, flow::Direction::Egress), (&verdict.ingress, flow::Direction::Ingress)];
    for (side, direction) in sides {
        let cause = match side {
            Some(Side::DeniedBy(rule)) => Cause { rule: Some(rule_ref(rule)), ..Cause::default() },
            Some(Side::Denied { isolated_by, .. }) => {
                Cause { isolated_by: isolated_by.iter().map(policy_ref).collect(), ..Cause::default() }
            }
            Some(Side::NotIsolated(_) | Side::AllowedBy(..) | Side::AlwaysAllowed(..)) | None => continue,
        };
        let sentence = sentence(false, Some(direction), &cause);
        return Opinion { allowed, direction: Some(direction), cause, sentence };
    }
    // Where both sides have a rule, the destination's speaks, as in events.
    let rule = |side: &Option<Side>| match side {
        Some(Side::AllowedBy(rule, _)) => Some(rule_ref(rule)),
        Some(_) | None => None,
    };
    let cause = Cause { rule: rule(&verdict.ingress).or_else(|| rule(&verdict.egress)), ..Cause::default() };
    Opinion { allowed, direction: None, sentence: sentence(true, None, &cause), cause }
}

/// What was decided, in one sentence.
pub fn sentence(allowed: bool, direction: Option<flow::Direction>, cause: &Cause) -> String {
    let word = if allowed { "allowed" } else { "denied" };
    let side = direction.map(|direction| format!(" on {direction}")).unwrap_or_default();
    if let Some(reason) = &cause.reason {
        let rule = cause.rule.as_ref().map(|rule| format!(" ({rule})")).unwrap_or_default();
        return format!("{word}{side}: {reason}{rule}");
    }
    if let Some(rule) = &cause.rule {
        return format!("{word}{side} by {rule}");
    }
    if !cause.isolated_by.is_empty() {
        let policies: Vec<String> = cause.isolated_by.iter().map(ToString::to_string).collect();
        return format!("{word}{side}: isolated by {}, and no rule allows it", policies.join(", "));
    }
    if allowed { "allowed: no policy isolates, no rule is needed".to_owned() } else { format!("{word}{side}") }
}

/// Whether the kernel says what the engine says of the sides that are judged on this node. What the engine cannot tell, the kernel
/// must deny where the tables do: docs/adr/0006.
fn agree(verdict: &Verdict, tables: &Judgement, (from, to): (&Known, &Known), kernel: &Opinion) -> bool {
    let passes = kernel.allowed == Some(true);
    let here = |end: &Known, side: &Option<Side>| end.interface.is_none() || side.as_ref().is_none_or(Side::is_allowed);
    match verdict.allowed() {
        Some(true) => passes,
        Some(false) if !passes => !(here(from, &verdict.egress) && here(to, &verdict.ingress) && tables.is_allowed()),
        Some(false) => here(from, &verdict.egress) && here(to, &verdict.ingress),
        None => passes == tables.is_allowed(),
    }
}

fn api_protocol(protocol: Protocol) -> flow::Protocol {
    match protocol {
        Protocol::Tcp => flow::Protocol::Tcp,
        Protocol::Udp => flow::Protocol::Udp,
        Protocol::Sctp => flow::Protocol::Sctp,
    }
}
