//! One side of the matrix: what each class of pods lets in, or lets out. It is what [`crate::judge`] says, for all faces at
//! once; laws in the tests hold the two together.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::matrix::set::Set;
use crate::model::{Model, PodIndex};
use crate::names::{Direction, Protocol};
use crate::policy::{Action, Policy, Tier};
use crate::port::{NamedPorts, Ports};
use crate::turns::{self, Turn};

/// A policy's rules with the faces that they mean.
#[derive(Debug)]
pub(super) struct Rules {
    pub policy: Arc<Policy>,
    /// By direction, as the policy has them.
    sides: [Vec<Row>; 2],
}

/// One rule.
#[derive(Debug)]
struct Row {
    /// Index into [`Sets::list`].
    set: usize,
    /// For each port that is asked about.
    hits: Vec<Hit>,
    action: Action,
    is_doubtful: bool,
    /// It may include anyone besides those of the set.
    may_include_others: bool,
}

/// Whether a rule's ports include one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hit {
    No,
    Yes,
    /// Where the destination calls it by one of these names.
    Named(Arc<[String]>),
}

/// What rules mean, each kept once.
#[derive(Clone, Debug, Default)]
pub(super) struct Sets {
    pub list: Vec<Arc<Peers>>,
    /// The faces that call a port by a name.
    pub named: HashMap<(Protocol, u16, String), Arc<Set>>,
}

/// The faces that a rule's peers mean.
#[derive(Debug)]
pub(super) struct Peers {
    /// Where the peers stand: a policy, a direction, a rule.
    pub of: (Arc<Policy>, Direction, usize),
    pub yes: Set,
    pub maybe: Set,
}

/// Pods that one side treats alike.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub policies: Vec<Arc<Rules>>,
    pub nature: Nature,
    /// What the pods call their ports, where a rule of ingress asks.
    pub names: Option<NamedPorts>,
    /// For each port that is asked about: which of `outcomes`.
    pub at: Vec<usize>,
    pub outcomes: Vec<Arc<Outcome>>,
}

/// What is to be known of a pod besides its policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Nature {
    /// A node's: no policy selects it.
    pub is_host: bool,
    pub is_isolated: bool,
    /// Something that was not understood may take away what policies allow.
    pub is_overridden: bool,
    /// Something that was not understood may allow more.
    pub is_uncertain: bool,
    /// The pod itself was not understood.
    pub is_unread: bool,
}

/// The faces that one side lets pass at one port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub open: Set,
    pub unknown: Set,
}

/// What outcomes are made from.
pub(super) struct Maker<'a> {
    pub ports: &'a [(Protocol, u16)],
    pub sets: &'a Sets,
    /// Faces of pods that were not understood.
    pub unread: &'a Set,
    /// How many words the bits of all faces fill.
    pub words: usize,
    pub shared: HashMap<Vec<usize>, Arc<Outcome>>,
}

impl Nature {
    pub(super) fn of(model: &Model, index: PodIndex, direction: Direction) -> Self {
        let standing = model.standing(index, direction);
        Self {
            is_host: model.pod(index).is_host_network,
            is_isolated: standing.isolates(&model.policies),
            is_overridden: !standing.overriding.is_empty(),
            is_uncertain: !standing.unknowns.is_empty(),
            is_unread: !model.unknowns_of(index).is_empty(),
        }
    }
}

impl Rules {
    pub(super) fn of(
        policy: &Arc<Policy>,
        ports: &[(Protocol, u16)],
        mut set: impl FnMut(Direction, usize) -> usize,
    ) -> Self {
        let sides = Direction::ALL.map(|direction| {
            let rules = policy.rules(direction).unwrap_or_default().iter().enumerate();
            let rows = rules.map(|(at, rule)| Row {
                set: set(direction, at),
                hits: ports.iter().map(|port| hit(&rule.ports, *port)).collect(),
                action: rule.action,
                is_doubtful: rule.is_in_doubt(),
                may_include_others: rule.may_include_others,
            });
            rows.collect()
        });
        Self { policy: policy.clone(), sides }
    }

    /// Whether it asks for the names of the subject's own ports.
    pub(super) fn asks_names(&self) -> bool {
        self.sides[Direction::Ingress as usize].iter().flat_map(|row| &row.hits).any(|hit| matches!(hit, Hit::Named(_)))
    }

    /// The sets that its rules of a direction mean.
    pub(super) fn sets(&self, direction: Direction) -> impl Iterator<Item = usize> {
        self.sides[direction as usize].iter().map(|row| row.set)
    }

    /// Whether its rules of egress ask for names.
    pub(super) fn has_names(&self) -> bool {
        self.sides[Direction::Egress as usize].iter().flat_map(|row| &row.hits).any(|hit| matches!(hit, Hit::Named(_)))
    }

    /// The names that its rules of egress ask for.
    pub(super) fn names(&self) -> impl Iterator<Item = (usize, &String)> {
        let rows = self.sides[Direction::Egress as usize].iter();
        rows.flat_map(|row| row.hits.iter().enumerate()).flat_map(|(port, hit)| match hit {
            Hit::Named(names) => names.iter().map(|name| (port, name)).collect(),
            Hit::No | Hit::Yes => Vec::new(),
        })
    }
}

fn hit(rules: &[crate::port::PortRule], (protocol, port): (Protocol, u16)) -> Hit {
    if rules.is_empty() || rules.iter().any(|rule| rule.matches(protocol, port, None)) {
        return Hit::Yes;
    }
    let names: Vec<String> = rules
        .iter()
        .filter(|rule| rule.protocol.is_none_or(|own| own == protocol))
        .filter_map(|rule| match &rule.ports {
            Ports::Named(name) => Some(name.clone()),
            Ports::All | Ports::Range(_) => None,
        })
        .collect();
    if names.is_empty() { Hit::No } else { Hit::Named(names.into()) }
}

/// A rule at one port, with what its names stand for put in.
struct Active<'a> {
    /// Whose: its place in [`Class::policies`].
    policy: usize,
    row: &'a Row,
    /// Restricts it to destinations that call the port so.
    names: Option<&'a [String]>,
}

impl Maker<'_> {
    /// A class with all that it lets pass.
    pub(super) fn class(
        &mut self,
        direction: Direction,
        policies: Vec<Arc<Rules>>,
        nature: Nature,
        names: Option<NamedPorts>,
    ) -> Class {
        let mut class = Class { policies, nature, names, at: Vec::new(), outcomes: Vec::new() };
        let is_plain = self.is_plain(&class, direction);
        // Plain classes, which are most, have no need of them.
        let turns = OnceCell::new();
        let mut known: Vec<(Vec<(usize, usize)>, usize)> = Vec::new();
        for port in 0..self.ports.len() {
            let active = self.active(&class, direction, port);
            // Rules of names differ from port to port.
            let key: Vec<(usize, usize)> = active
                .iter()
                .enumerate()
                .map(|(at, it)| (it.row as *const Row as usize, if it.names.is_some() { port + 1 + at } else { 0 }))
                .collect();
            if let Some((_, outcome)) = known.iter().find(|(other, _)| *other == key) {
                let outcome = *outcome;
                drop(active);
                class.at.push(outcome);
                continue;
            }
            let outcome = if is_plain && active.iter().all(|it| it.names.is_none()) {
                let mut sets: Vec<usize> = active.iter().map(|it| it.row.set).collect();
                sets.sort_unstable();
                sets.dedup();
                match self.shared.get(&sets) {
                    Some(outcome) => outcome.clone(),
                    None => {
                        let outcome = Arc::new(self.union(&sets));
                        self.shared.insert(sets, outcome.clone());
                        outcome
                    }
                }
            } else {
                let turns = turns.get_or_init(|| class.turns(direction));
                let question = Question { nature: &class.nature, turns, active: &active, port };
                let (open, unknown) = self.decide(&question, 0, self.words);
                Arc::new(Outcome { open: full_or(open, &class.nature), unknown: Set::of_bits(&unknown) })
            };
            drop(active);
            known.push((key, class.outcomes.len()));
            class.at.push(class.outcomes.len());
            class.outcomes.push(outcome);
        }
        class
    }

    /// The same class after some faces have changed, in these words.
    pub(super) fn changed(&self, class: &Class, direction: Direction, words: &[usize]) -> Option<Class> {
        let mut next: Option<Class> = None;
        let turns = class.turns(direction);
        for (number, outcome) in class.outcomes.iter().enumerate() {
            let port = class.at.iter().position(|at| *at == number)?;
            let active = self.active(class, direction, port);
            let question = Question { nature: &class.nature, turns: &turns, active: &active, port };
            for word in words {
                let (open, unknown) = self.decide(&question, *word, *word + 1);
                let (open, unknown) = (open[0], unknown[0]);
                let before = next.as_ref().map_or(outcome, |next| &next.outcomes[number]);
                if before.open.word(*word) != open || before.unknown.word(*word) != unknown {
                    let outcome = Outcome {
                        open: before.open.with_word(*word, open, self.words),
                        unknown: before.unknown.with_word(*word, unknown, self.words),
                    };
                    next.get_or_insert_with(|| class.clone()).outcomes[number] = Arc::new(outcome);
                }
            }
        }
        next
    }

    /// Whether the class has nothing but NetworkPolicies' rules, all understood.
    fn is_plain(&self, class: &Class, direction: Direction) -> bool {
        let Nature { is_host, is_isolated, is_overridden, is_uncertain, is_unread } = class.nature;
        let rows = || class.policies.iter().flat_map(|it| &it.sides[direction as usize]);
        is_isolated
            && !(is_host || is_overridden || is_uncertain || is_unread)
            && self.unread.is_none()
            && class.policies.iter().all(|it| it.policy.rank.tier == Tier::NetworkPolicy)
            && rows().all(|row| row.is_plain() && self.sets.list[row.set].maybe.is_none())
    }

    fn union(&self, sets: &[usize]) -> Outcome {
        let open = match sets {
            [] => Set::NONE(),
            [only] => self.sets.list[*only].yes.clone(),
            more => {
                let sets = more.iter().map(|set| &self.sets.list[*set].yes);
                if sets.clone().any(|set| *set == Set::All) {
                    Set::All
                } else {
                    let mut bits = vec![0; self.words];
                    sets.for_each(|set| set.add_to(&mut bits, 0));
                    Set::of_bits(&bits)
                }
            }
        };
        Outcome { open, unknown: Set::NONE() }
    }

    /// The rules that bear on a port, in order.
    fn active<'c>(&self, class: &'c Class, direction: Direction, port: usize) -> Vec<Active<'c>> {
        let (protocol, number) = self.ports[port];
        let mut active = Vec::new();
        for (policy, rules) in class.policies.iter().enumerate() {
            for row in &rules.sides[direction as usize] {
                match &row.hits[port] {
                    Hit::No => {}
                    Hit::Yes => active.push(Active { policy, row, names: None }),
                    Hit::Named(names) if direction == Direction::Egress => {
                        active.push(Active { policy, row, names: Some(names) });
                    }
                    Hit::Named(names) => {
                        let own = class.names.as_ref();
                        let calls_so =
                            |name: &String| own.is_some_and(|own| own.resolve(protocol, name).any(|it| it == number));
                        if names.iter().any(calls_so) {
                            active.push(Active { policy, row, names: None });
                        }
                    }
                }
            }
        }
        active
    }

    /// The open and the unknown faces, as bits of some words. From the last tier to the first: what may become of each face, and
    /// where that may be both, it is unknown.
    fn decide(&self, question: &Question<'_>, start: usize, end: usize) -> (Vec<u64>, Vec<u64>) {
        let none = || vec![0_u64; end - start];
        let all = || vec![u64::MAX; end - start];
        let nature = question.nature;
        if nature.is_host {
            return (all(), none());
        }
        if nature.is_overridden {
            return (none(), all());
        }
        let mut behind = May { allow: all(), deny: none(), pass: none() };
        for tier in Tier::ALL.into_iter().rev() {
            let is_shut = tier.isolates() && nature.is_isolated;
            let mut turns = question.turns.iter().filter(|turn| turn.tier == tier).peekable();
            if turns.peek().is_none() && !is_shut && !(tier.isolates() && nature.is_uncertain) {
                continue;
            }
            let mut may = May { allow: none(), deny: none(), pass: none() };
            let mut undecided = all();
            for turn in turns {
                if let Some(strand) = turn.only() {
                    self.ask(question, strand, &mut undecided, &mut may, start);
                    continue;
                }
                // Whichever comes first decides; what none of them matches goes on.
                let before = undecided.clone();
                for strand in &turn.strands {
                    let mut left = before.clone();
                    self.ask(question, strand, &mut left, &mut may, start);
                    and(&mut undecided, &left);
                }
            }
            if is_shut {
                or(&mut may.deny, &undecided);
                let mut unread = if nature.is_unread { all() } else { none() };
                if !nature.is_unread && !self.unread.is_none() {
                    self.unread.add_to(&mut unread, start);
                }
                and(&mut unread, &undecided);
                or(&mut may.allow, &unread);
            } else {
                or(&mut may.pass, &undecided);
            }
            and(&mut behind.allow, &may.pass);
            and(&mut behind.deny, &may.pass);
            or(&mut behind.allow, &may.allow);
            or(&mut behind.deny, &may.deny);
            if tier.isolates() && nature.is_uncertain {
                // What was not understood may open whatever is shut from here on.
                let May { allow, deny, .. } = &mut behind;
                or(allow, deny);
            }
        }
        let May { mut allow, deny: mut unknown, .. } = behind;
        and(&mut unknown, &allow);
        and_not(&mut allow, &unknown);
        (allow, unknown)
    }

    /// What policies do with the faces that come to them, one after the other.
    fn ask(&self, question: &Question<'_>, strand: &[usize], left: &mut [u64], may: &mut May, start: usize) {
        let words = left.len();
        let none = || vec![0_u64; words];
        let (first, last) = (strand.first(), strand.last());
        let is_consecutive = strand.is_sorted() && first.zip(last).is_some_and(|(a, b)| b - a + 1 == strand.len());
        let of = |policies: std::ops::RangeInclusive<usize>| {
            let from = question.active.partition_point(|it| it.policy < *policies.start());
            let to = question.active.partition_point(|it| it.policy <= *policies.end());
            &question.active[from..to]
        };
        let lists: Vec<&[Active<'_>]> = match (first, last) {
            (Some(first), Some(last)) if is_consecutive => vec![of(*first..=*last)],
            (_, _) => strand.iter().map(|policy| of(*policy..=*policy)).collect(),
        };
        let (mut hit, mut reach) = (none(), none());
        for rule in lists.into_iter().flatten() {
            let peers = &self.sets.list[rule.row.set];
            reach.copy_from_slice(left);
            if let Some(names) = rule.names {
                let mut named = none();
                for name in names {
                    let (protocol, number) = self.ports[question.port];
                    if let Some(set) = self.sets.named.get(&(protocol, number, name.clone())) {
                        set.add_to(&mut named, start);
                    }
                }
                and(&mut reach, &named);
            }
            hit.fill(0);
            peers.yes.add_to(&mut hit, start);
            if rule.row.is_doubtful {
                peers.maybe.add_to(&mut hit, start);
                and(&mut hit, &reach);
                or(&mut may.allow, &hit);
                or(&mut may.deny, &hit);
                continue;
            }
            and(&mut hit, &reach);
            if rule.row.may_include_others {
                or(may.of(rule.row.action), &reach);
            } else if !peers.maybe.is_none() {
                let mut maybe = none();
                peers.maybe.add_to(&mut maybe, start);
                and(&mut maybe, &reach);
                if rule.row.action == Action::Pass {
                    or(&mut may.allow, &maybe);
                    or(&mut may.deny, &maybe);
                } else {
                    or(may.of(rule.row.action), &maybe);
                }
            }
            and_not(left, &hit);
            or(may.of(rule.row.action), &hit);
        }
    }
}

/// What is asked for a class at one port.
struct Question<'a> {
    nature: &'a Nature,
    /// By places in [`Class::policies`].
    turns: &'a [Turn],
    /// In the order of the policies.
    active: &'a [Active<'a>],
    port: usize,
}

/// The faces of which something may become: more than one of these, where it is not known.
struct May {
    allow: Vec<u64>,
    deny: Vec<u64>,
    /// Goes on to the next tier.
    pass: Vec<u64>,
}

impl May {
    fn of(&mut self, action: Action) -> &mut [u64] {
        match action {
            Action::Allow => &mut self.allow,
            Action::Deny => &mut self.deny,
            Action::Pass => &mut self.pass,
        }
    }
}

impl Class {
    fn turns(&self, direction: Direction) -> Vec<Turn> {
        turns::turns(self.policies.iter().map(|rules| &*rules.policy), direction)
    }
}

impl Row {
    /// Whether it certainly allows, and does so to none besides its set.
    fn is_plain(&self) -> bool {
        self.action == Action::Allow && !self.is_doubtful && !self.may_include_others
    }
}

/// Bits as a set; where nothing at all is shut, as all there is.
fn full_or(open: Vec<u64>, _: &Nature) -> Set {
    if open.iter().all(|word| *word == u64::MAX) { Set::All } else { Set::of_bits(&open) }
}

fn and(bits: &mut [u64], other: &[u64]) {
    bits.iter_mut().zip(other).for_each(|(bits, other)| *bits &= other);
}

fn or(bits: &mut [u64], other: &[u64]) {
    bits.iter_mut().zip(other).for_each(|(bits, other)| *bits |= other);
}

fn and_not(bits: &mut [u64], other: &[u64]) {
    bits.iter_mut().zip(other).for_each(|(bits, other)| *bits &= !other);
}
