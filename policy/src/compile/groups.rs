//! Groups: what the policies that bear on a pod say, as lists.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::list::{Condition, Decided, Effect, List, RuleKey, Strand};
use super::peers::{Peers, named_ports};
use crate::model::{Model, PodIndex, Standing};
use crate::names::{Direction, PolicyRef, Protocol, RuleRef};
use crate::peer::Peer;
use crate::policy::{Action, Tier};
use crate::port::{PortRule, Ports};
use crate::tables::{Decision, DecisionId, Entry, Group, GroupId, GroupSide, Identity, Rest, RuleId};

pub(super) struct Groups<'m, 'p> {
    model: &'m Model,
    peers: &'p Peers<'m>,
    side_index: HashMap<SideKey<'m>, usize>,
    sides: Vec<Side>,
    index: HashMap<[usize; 2], GroupId>,
    /// Ingress and egress of each group: indices into `sides`.
    groups: Vec<[usize; 2]>,
}

/// What tells one side from another.
#[derive(Clone, PartialEq, Eq, Hash)]
struct SideKey<'m> {
    direction: Direction,
    standing: &'m Standing,
    /// For ingress: the pod's own numbers for the names in its rules.
    named: BTreeMap<(Protocol, &'m str), Vec<u16>>,
}

struct Side {
    isolated_by: Vec<PolicyRef>,
    list: List,
}

impl<'m, 'p> Groups<'m, 'p> {
    pub fn new(model: &'m Model, peers: &'p Peers<'m>) -> Self {
        Self { model, peers, side_index: HashMap::new(), sides: Vec::new(), index: HashMap::new(), groups: Vec::new() }
    }

    /// The group of a pod of this node.
    pub fn of(&mut self, index: PodIndex) -> GroupId {
        let sides = Direction::ALL.map(|direction| self.side_of(index, direction));
        let next = GroupId(u32::try_from(self.groups.len()).expect("a node has fewer than 2^32 pods"));
        *self.index.entry(sides).or_insert_with(|| {
            self.groups.push(sides);
            next
        })
    }

    /// The tables' groups, and the rules that they name.
    pub fn finish(self) -> (Vec<Group>, Vec<RuleRef>) {
        let decided = self.sides.iter().flat_map(|side| &side.list.entries).map(|(_, decided)| *decided);
        let used: BTreeSet<RuleKey> = decided.filter_map(Decided::rule).collect();
        let number =
            |(at, key): (usize, &RuleKey)| (*key, RuleId(u32::try_from(at).expect("a node has fewer than 2^32 rules")));
        let ids: HashMap<RuleKey, RuleId> = used.iter().enumerate().map(number).collect();
        let rules = used
            .iter()
            .map(|(policy, direction, rule, peer, port)| {
                self.model.policies[*policy].rule_ref(*direction, *rule, *peer, *port)
            })
            .collect();
        let mut sides: Vec<GroupSide> = self.sides.iter().map(|side| side.table(&ids)).collect();
        let mut left = vec![0; sides.len()];
        self.groups.iter().flatten().for_each(|at| left[*at] += 1);
        let mut side = |at: usize| {
            left[at] -= 1;
            // The last that has it may keep it.
            if left[at] == 0 { std::mem::take(&mut sides[at]) } else { sides[at].clone() }
        };
        let groups =
            self.groups.iter().map(|[ingress, egress]| Group { ingress: side(*ingress), egress: side(*egress) });
        (groups.collect(), rules)
    }

    fn side_of(&mut self, index: PodIndex, direction: Direction) -> usize {
        let pod = self.model.pod(index);
        let standing = self.model.standing(index, direction);
        let mut named = BTreeMap::new();
        if direction == Direction::Ingress {
            let policies = standing.policies.iter().map(|at| &self.model.policies[*at]);
            let ports =
                policies.flat_map(|policy| policy.rules(direction).unwrap_or_default()).flat_map(|it| &it.ports);
            for (protocol, name) in ports.flat_map(named_ports) {
                named.entry((protocol, name)).or_insert_with(|| pod.ports.resolve(protocol, name).collect());
            }
        }
        let key = SideKey { direction, standing, named };
        if let Some(side) = self.side_index.get(&key) {
            return *side;
        }
        let side = self.side(standing, direction, &key.named);
        self.side_index.insert(key, self.sides.len());
        self.sides.push(side);
        self.sides.len() - 1
    }

    fn side(&self, standing: &Standing, direction: Direction, named: &OwnPorts<'_>) -> Side {
        let isolated_by = standing.isolated_by(&self.model.policies);
        if !standing.overriding.is_empty() {
            // What was not understood may come before all else.
            return Side { isolated_by, list: List::resting(Rest::NotUnderstood) };
        }
        // From the last tier to the first, since a rule that passes is replaced by what stands behind its tier.
        let turns = self.model.turns(standing, direction);
        let mut behind = List::resting(Rest::Open);
        for tier in Tier::ALL.into_iter().rev() {
            let mut list = List::default();
            for turn in turns.iter().filter(|turn| turn.tier == tier) {
                if let Some(strand) = turn.only() {
                    for at in strand {
                        self.add_policy(&mut list, standing.policies[*at], direction, named, &behind);
                    }
                    continue;
                }
                let strands = turn.strands.iter().map(|strand| {
                    let mut own = Strand::default();
                    for at in strand {
                        self.add_policy(&mut own.list, standing.policies[*at], direction, named, &behind);
                        own.policies.resize(own.list.entries.len(), *at);
                    }
                    own
                });
                list.append_any_of(strands);
            }
            if tier.isolates() && !isolated_by.is_empty() {
                list.rest = Rest::Shut;
            } else {
                list.append(behind);
            }
            behind = list;
        }
        let mut list = behind;
        if let Some(identity) = self.peers.contradicted
            && (!list.entries.is_empty() || list.rest.denies())
        {
            let mut strict = List::default();
            strict.push(Condition { peer: Some(identity), ..Condition::ANY }, Decided::NotUnderstood(None));
            strict.append(list);
            list = strict;
        }
        Side { isolated_by, list }
    }

    fn add_policy(&self, list: &mut List, policy: usize, direction: Direction, named: &OwnPorts<'_>, behind: &List) {
        let rules = self.model.policies[policy].rules(direction).unwrap_or_default();
        for (index, rule) in rules.iter().enumerate() {
            // Whom else a rule may include is of no concern: such a rule only allows, and what may be allowed only is not.
            let effect = if rule.is_in_doubt() { Effect::NotUnderstood } else { Effect::Rule(rule.action) };
            let mut add = |effect, (peer, port): (Option<usize>, Option<usize>), conditions: &[Condition]| {
                let key = (policy, direction, index, peer, port);
                let decided = match effect {
                    Effect::Rule(Action::Allow) => Decided::Allow(key),
                    Effect::Rule(Action::Deny) => Decided::Deny(key),
                    Effect::Rule(Action::Pass) => return list.push_passed(conditions, behind),
                    Effect::NotUnderstood => Decided::NotUnderstood(Some(key)),
                };
                conditions.iter().for_each(|condition| list.push(*condition, decided));
            };
            for (peer_index, peer) in rule.peer_slots() {
                let whom = self.certain(peer);
                for (port_index, port) in rule.port_slots() {
                    add(effect, (peer_index, port_index), &self.conditions(&whom, port, direction, named));
                }
            }
            // Whom the rule includes perhaps: behind those that another of its peers includes for certain. What may be
            // allowed only is not.
            if effect == Effect::Rule(Action::Allow) {
                continue;
            }
            for (peer_index, peer) in rule.peer_slots() {
                let whom = self.possible(peer);
                for (port_index, port) in rule.port_slots() {
                    let conditions = self.conditions(&whom, port, direction, named);
                    add(Effect::NotUnderstood, (peer_index, port_index), &conditions);
                }
            }
        }
    }

    /// The identities that a peer includes for certain; `None` is "any".
    fn certain(&self, peer: Option<&Peer>) -> Vec<Option<Identity>> {
        peer.map_or_else(|| vec![None], |peer| self.peers.certain(peer).iter().copied().map(Some).collect())
    }

    /// Those that it includes perhaps.
    fn possible(&self, peer: Option<&Peer>) -> Vec<Option<Identity>> {
        peer.map_or_else(Vec::new, |peer| self.peers.possible(peer).iter().copied().map(Some).collect())
    }

    /// The conditions that one peer and one port of a rule come down to.
    fn conditions(
        &self,
        whom: &[Option<Identity>],
        port: Option<&'m PortRule>,
        direction: Direction,
        named: &OwnPorts<'_>,
    ) -> Vec<Condition> {
        let Some(port) = port else {
            return whom.iter().map(|peer| Condition { peer: *peer, ..Condition::ANY }).collect();
        };
        let mut conditions = Vec::new();
        for protocol in port.protocols() {
            let at = |peer: Option<Identity>, ports| Condition { peer, protocol: Some(protocol), ports };
            match (&port.ports, direction) {
                (Ports::All, _) => conditions.extend(whom.iter().map(|peer| at(*peer, None))),
                (Ports::Range(range), _) => {
                    conditions.extend(whom.iter().map(|peer| at(*peer, Some(range.bounds()))));
                }
                (Ports::Named(name), Direction::Ingress) => {
                    for number in named.get(&(protocol, name.as_str())).into_iter().flatten() {
                        conditions.extend(whom.iter().map(|peer| at(*peer, Some((*number, *number)))));
                    }
                }
                (Ports::Named(name), Direction::Egress) => {
                    let Some(known) = self.peers.named(protocol, name) else { continue };
                    for peer in whom {
                        let of_one = peer.and_then(|peer| known.get_key_value(&peer));
                        let of_all = if peer.is_none() { Some(known) } else { None };
                        for (identity, numbers) in of_one.into_iter().chain(of_all.into_iter().flatten()) {
                            let numbers = numbers.iter().map(|number| at(Some(*identity), Some((*number, *number))));
                            conditions.extend(numbers);
                        }
                    }
                }
            }
        }
        conditions
    }
}

/// A pod's own numbers for the names of ports.
type OwnPorts<'m> = BTreeMap<(Protocol, &'m str), Vec<u16>>;

impl Side {
    fn table(&self, ids: &HashMap<RuleKey, RuleId>) -> GroupSide {
        let mut decisions: Vec<Decision> = Vec::new();
        let entries = self.list.entries.iter().map(|(condition, decided)| {
            let decision = match decided {
                Decided::Allow(key) => Decision::Allow(ids[key]),
                Decided::Deny(key) => Decision::Deny(ids[key]),
                Decided::Rest(rest) => Decision::Rest(*rest),
                Decided::NotUnderstood(key) => Decision::NotUnderstood(key.map(|key| ids[&key])),
            };
            // What comes to the same in a row may have one number: which of them matches first does not matter.
            if decisions.last() != Some(&decision) {
                decisions.push(decision);
            }
            let last = u32::try_from(decisions.len() - 1).expect("a side has fewer than 2^31 decisions");
            let Condition { peer, protocol, ports } = *condition;
            Entry { peer, protocol, ports, decision: DecisionId(last) }
        });
        let mut entries: Vec<Entry> = entries.collect();
        entries.sort_unstable_by_key(|entry| (entry.decision, entry.peer, entry.protocol, entry.ports));
        GroupSide { isolated_by: self.isolated_by.clone(), decisions, entries, rest: self.list.rest }
    }
}
