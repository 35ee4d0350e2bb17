//! Who is at the other end, as a rule's `source` or `destination` says it.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::block::IpBlock;
use crate::names::Family;
use crate::parse::block;
use crate::parse::calico::rule::Rules;
use crate::parse::calico::selector::Selected;
use crate::parse::calico::sets::Scope;
use crate::parse::calico::{expression, labels};
use crate::parse::node::{Node, Problems};
use crate::parse::policy::all;
use crate::parse::problem::Reason;
use crate::peer::{Namespaces, Peer, PodSet};
use crate::policy;
use crate::selector::{Expression, Requirement, Selector, Test};

/// Who is at the other end.
pub(super) enum Remote {
    /// Anyone.
    Anyone,
    /// Any of these.
    Peers(Vec<Peer>),
    /// Nobody.
    Nobody,
}

impl Rules<'_> {
    /// What a `source` or `destination` says of the other end. `None`: it cannot be read, or not be said.
    pub(super) fn remote(&self, entity: &Node<'_>, version: Option<Family>, problems: &mut Problems) -> Option<Remote> {
        let before = problems.len();
        let namespaces = expression(entity, "namespaceSelector", problems);
        let selector = expression_of_labels(entity, "selector", problems);
        let without = expression_of_labels(entity, "notSelector", problems);
        let account = service_account(entity, problems);
        let nets = nets(entity, "nets", problems);
        let not_nets = nets_without(entity, problems);
        if let Some(services) = entity.field("services") {
            let remedy = "name the pods behind it by their labels";
            problems.add(&services, Reason::Unsupported { what: "a Service's endpoints", remedy });
        }
        if problems.len() > before {
            return None;
        }
        let (namespaces, selector, without, account) = (namespaces?, selector?, without?, account?);
        let (nets, not_nets) = (nets?, not_nets?);
        let selects = selector.is_some() || account.is_some();
        let scope = match (&namespaces, self.own) {
            (Some(Selected::Global), _) => Scope::Global,
            (Some(Selected::Labels(selector)), _) if selector.is_empty() => Scope::AllNamespaces,
            (Some(Selected::Labels(_)), _) => Scope::SomeNamespaces,
            (None, Some(own)) => Scope::Own(own),
            (None, None) => Scope::Anywhere,
        };
        let mut terms: Vec<Expression> = Vec::new();
        terms.extend(selector.map(as_expression));
        terms.extend(account);
        // Whether any term confines it to what has labels: what else there is, is out then.
        let confines = selects || namespaces.is_some() || (without.is_some() && self.own.is_some());
        let mut selected = Vec::new();
        if confines {
            match self.sets.selected(&scope, &flattened(terms.clone())) {
                Ok(nets) => selected = nets,
                Err(set) => {
                    problems.add(entity, Reason::NetworkSet { object: set.to_owned() });
                    return None;
                }
            }
        }
        let mut restriction = Restriction { nets, not_nets, version };
        if let Some(without) = without {
            // It is not confined to the policy's namespace: see `GetEntityRuleSelector` in Calico's rules.go.
            match self.sets.selected(&Scope::Anywhere, &without) {
                Ok(nets) => restriction.not_nets.extend(nets),
                Err(set) => {
                    problems.add_at(entity, "notSelector", Reason::NetworkSet { object: set.to_owned() });
                    return None;
                }
            }
            let unsupported = match (confines, selected.is_empty()) {
                (true, true) => None,
                (true, false) => {
                    let what = "a notSelector beside a selector that also selects networks";
                    Some((what, "name the networks as nets, in a rule of their own"))
                }
                (false, _) => {
                    let what = "all that a notSelector leaves, be it a pod or not,";
                    Some((what, "add a selector, for instance all(), to speak of pods only"))
                }
            };
            if let Some((what, remedy)) = unsupported {
                problems.add_at(entity, "notSelector", Reason::Unsupported { what, remedy });
                return None;
            }
            terms.push(Expression::Not(Box::new(as_expression(without))));
        }
        let namespaces = match (namespaces, self.own) {
            (Some(Selected::Global), _) => None,
            (Some(Selected::Labels(selector)), _) => Some(Namespaces::Selected(selector)),
            (None, Some(own)) => Some(Namespaces::Own(own.to_owned())),
            (None, None) => Some(Namespaces::Selected(Selector::default())),
        };
        if !confines {
            return Some(Remote::of(None, &restriction));
        }
        let set = namespaces.map(|namespaces| PodSet { namespaces, pods: flattened(terms) });
        let pods = match set {
            Some(set) => Remote::of(Some(set), &restriction),
            None => Remote::Nobody,
        };
        Some(pods.or(restriction.block_of(&selected)))
    }
}

/// What a rule says of the other end's address.
#[derive(Default)]
pub(super) struct Restriction {
    /// Empty: all there are.
    nets: Vec<IpNet>,
    not_nets: Vec<IpNet>,
    version: Option<Family>,
}

impl Restriction {
    /// To one family, or to none.
    pub(super) fn to(version: Option<Family>) -> Self {
        Self { version, ..Self::default() }
    }

    /// The addresses; `None`: all there are.
    fn block(&self) -> Option<IpBlock> {
        let all = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
        let is_restricted = !self.nets.is_empty() || !self.not_nets.is_empty() || self.version.is_some();
        is_restricted.then(|| self.without(if self.nets.is_empty() { &all[..] } else { &self.nets }))
    }

    /// Those of the networks that a selector selects.
    fn block_of(&self, selected: &[IpNet]) -> Option<IpBlock> {
        let both = |net: &IpNet| {
            let own = self.nets.iter().filter_map(|own| common(*own, *net));
            let any = self.nets.is_empty().then_some(*net);
            own.chain(any).collect::<Vec<_>>()
        };
        let nets: Vec<IpNet> = selected.iter().flat_map(both).collect();
        Some(self.without(&nets)).filter(|block| !block.cidrs().is_empty())
    }

    fn without(&self, cidrs: &[IpNet]) -> IpBlock {
        let of_version = |net: &&IpNet| self.version.is_none_or(|version| Family::of(net.addr()) == version);
        IpBlock::of(cidrs.iter().filter(of_version).copied(), self.not_nets.iter().copied())
    }
}

/// What lies in both of two blocks: one of them, or nothing.
fn common(a: IpNet, b: IpNet) -> Option<IpNet> {
    if a.contains(&b) { Some(b) } else { b.contains(&a).then_some(a) }
}

impl Remote {
    /// Pods, addresses, or pods by their addresses.
    pub(super) fn of(set: Option<PodSet>, restriction: &Restriction) -> Self {
        match (set, restriction.block()) {
            (None, None) => Self::Anyone,
            (Some(set), None) => Self::Peers(vec![Peer::Pods(set)]),
            (None, Some(block)) => Self::Peers(vec![Peer::Block(block)]),
            (Some(set), Some(block)) => Self::Peers(vec![Peer::PodsIn(set, block)]),
        }
    }

    /// These addresses as well.
    fn or(self, block: Option<IpBlock>) -> Self {
        let Some(block) = block.map(Peer::Block) else { return self };
        match self {
            Self::Anyone => Self::Anyone,
            Self::Peers(mut peers) => {
                peers.push(block);
                Self::Peers(peers)
            }
            Self::Nobody => Self::Peers(vec![block]),
        }
    }
}

fn nets(entity: &Node<'_>, name: &'static str, problems: &mut Problems) -> Option<Vec<IpNet>> {
    let Some(field) = entity.field(name) else { return Some(Vec::new()) };
    all(field.items(problems)?, |item| block::net_or_address(&item, problems))
}

fn nets_without(entity: &Node<'_>, problems: &mut Problems) -> Option<Vec<IpNet>> {
    nets(entity, "notNets", problems)
}

/// `serviceAccounts`: the names as the label that Calico gives pods.
fn service_account(entity: &Node<'_>, problems: &mut Problems) -> Option<Option<Expression>> {
    let Some(field) = entity.field("serviceAccounts") else { return Some(None) };
    field.check_fields(&["names", "selector"], problems)?;
    if let Some(selector) = field.field("selector").filter(|selector| !selector.is_text("")) {
        let remedy = "name them instead";
        problems.add(&selector, Reason::Unsupported { what: "a selector of service accounts", remedy });
        return None;
    }
    let Some(names) = field.field("names") else { return Some(None) };
    let names = all(names.items(problems)?, |item| item.string(problems).map(str::to_owned))?;
    if names.is_empty() {
        return Some(None);
    }
    let key = policy::calico::SERVICE_ACCOUNT.to_owned();
    Some(Some(Expression::Label(Requirement { key, test: Test::In(names.into_iter().collect()) })))
}

/// `Some(None)`: it is absent.
fn expression_of_labels(entity: &Node<'_>, name: &'static str, problems: &mut Problems) -> Option<Option<Selector>> {
    let is_there = entity.field(name).is_some_and(|field| !field.is_text(""));
    labels(entity, name, problems).map(|selector| is_there.then_some(selector))
}

fn as_expression(selector: Selector) -> Expression {
    let requirements = selector.requirements().iter().cloned().map(Expression::Label);
    Expression::And(requirements.chain(selector.expression().cloned()).collect())
}

/// All terms at once, as a list of requirements if they are one.
fn flattened(terms: Vec<Expression>) -> Selector {
    let parts = terms.into_iter().flat_map(|term| match term {
        Expression::And(parts) => parts,
        Expression::Label(_) | Expression::Not(_) | Expression::Or(_) => vec![term],
    });
    let mut parts: Vec<Expression> = parts.collect();
    match parts.len() {
        1 => Selector::of(parts.remove(0)),
        _ => Selector::of(Expression::And(parts)),
    }
}
