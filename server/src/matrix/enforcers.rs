//! The enforcers, one per node: what each said last, whether it is still heard of, and what may be concluded from that.

use std::collections::{BTreeMap, VecDeque};

use signalbox_api::kernel::{EnforcerStatus, NodeLink};

use super::Now;
use super::rounds::Catch;

/// Generations of each node that are remembered.
const KEPT_GENERATIONS: usize = 64;

/// What a node's kernel tells of connections, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// An enforcer enforces there and tells: each connection gets its word.
    Heard,
    /// One did, and nothing is heard of it now: what its kernel decides is unknown.
    Lost,
}

/// All that are known, by node.
#[derive(Debug, Default)]
pub struct Enforcers {
    nodes: BTreeMap<String, Node>,
}

#[derive(Debug)]
struct Node {
    status: EnforcerStatus,
    link: NodeLink,
    /// By when which generation came, the newest last.
    generations: VecDeque<(u64, u32)>,
}

impl Enforcers {
    /// Somebody connected who speaks for the node. Until it has told its condition nothing more is known than before.
    pub fn connected(&mut self, node: &str, version: &str, now: Now) {
        let link = NodeLink {
            version: version.to_owned(),
            since_ms: now.wall_ms,
            lost: None,
            behind_since_ms: None,
            round_trip_us: None,
            left_out: 0,
        };
        match self.nodes.get_mut(node) {
            Some(known) => {
                let lost = Some("it has connected, and not told its condition yet".to_owned());
                known.link = NodeLink { lost, left_out: known.link.left_out, ..link };
                known.generations.clear();
            }
            None => {
                let status = EnforcerStatus { node: node.to_owned(), ..EnforcerStatus::default() };
                self.nodes.insert(node.to_owned(), Node { status, link, generations: VecDeque::new() });
            }
        }
    }

    /// What an enforcer says of itself. One that has not connected is in this process. Gives back whether that is news.
    pub fn told(&mut self, status: EnforcerStatus, now: Now) -> bool {
        let name = status.node.clone();
        if !self.nodes.contains_key(&name) {
            self.connected(&name, env!("CARGO_PKG_VERSION"), now);
        }
        let Some(node) = self.nodes.get_mut(&name) else { return false };
        if node.generations.back().map(|(_, known)| *known) != Some(status.generation) {
            node.generations.push_back((now.tick, status.generation));
            if node.generations.len() > KEPT_GENERATIONS {
                node.generations.pop_front();
            }
        }
        // Whatever it says of the link: the server knows better.
        let status = EnforcerStatus { link: None, ..status };
        let was_lost = node.link.lost.take().is_some();
        let is_news = was_lost || node.status != status;
        node.status = status;
        is_news
    }

    /// What is known of the stream. Gives back whether that is news.
    pub fn measured(&mut self, node: &str, round_trip_us: Option<u64>, left_out: u64) -> bool {
        let Some(node) = self.nodes.get_mut(node) else { return false };
        node.link.round_trip_us = round_trip_us.or(node.link.round_trip_us);
        node.link.left_out += left_out;
        round_trip_us.is_some() || left_out > 0
    }

    /// Nothing is heard of it any more.
    pub fn lost(&mut self, node: &str, why: String, now: Now) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        if node.link.lost.is_none() {
            node.link.since_ms = now.wall_ms;
            node.link.behind_since_ms = None;
            node.link.round_trip_us = None;
        }
        node.link.lost = Some(why);
    }

    /// It has ended, and enforces no more.
    pub fn ended(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// Forgets lost ones whose node the cluster no longer has. Gives back whether there were any.
    pub fn keep(&mut self, is_node: impl Fn(&str) -> bool) -> bool {
        let before = self.nodes.len();
        self.nodes.retain(|name, node| node.link.lost.is_none() || is_node(name));
        self.nodes.len() != before
    }

    /// Notes who lacks a change of policies. Gives back whether that is news.
    pub fn compare(&mut self, policies_version: u64, now: Now) -> bool {
        let mut is_news = false;
        for node in self.nodes.values_mut() {
            let is_behind =
                node.link.lost.is_none() && node.status.enforcing && node.status.policies_version < policies_version;
            let since = is_behind.then(|| node.link.behind_since_ms.unwrap_or(now.wall_ms));
            is_news |= since != node.link.behind_since_ms;
            node.link.behind_since_ms = since;
        }
        is_news
    }

    /// As browsers are told. One that is lost enforces nothing that is known.
    pub fn list(&self) -> Vec<EnforcerStatus> {
        let shown = |node: &Node| {
            let mut status = EnforcerStatus { link: Some(node.link.clone()), ..node.status.clone() };
            if let Some(why) = &node.link.lost {
                status.enforcing = false;
                status.problems = vec![format!("nothing is heard of this node's enforcer: {why}")];
            }
            status
        };
        self.nodes.values().map(shown).collect()
    }

    /// What each node's kernel tells. Nodes that are not there have no enforcer, or one that does not enforce yet.
    pub fn voices(&self) -> BTreeMap<String, Voice> {
        let voice = |node: &Node| match (&node.link.lost, node.status.enforcing) {
            (Some(_), _) => Some(Voice::Lost),
            (None, true) => Some(Voice::Heard),
            (None, false) => None,
        };
        self.nodes.iter().filter_map(|(name, node)| Some((name.clone(), voice(node)?))).collect()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether every one that is connected enforces.
    pub fn all_enforce(&self) -> bool {
        self.connected_ones().all(|status| status.enforcing)
    }

    /// Whether each one that enforces has taken as many pods in charge as its node has.
    pub fn have_all_pods(&self, enforceable: &BTreeMap<String, u32>) -> bool {
        self.connected_ones()
            .filter(|status| status.enforcing)
            .all(|status| enforceable.get(&status.node).is_none_or(|pods| status.pods >= *pods))
    }

    /// Whether each one that enforces on a node that has pods has caught up. `has_pods` without any node: all are meant.
    pub fn caught_up(&self, catch: &Catch, has_pods: &BTreeMap<String, u32>) -> bool {
        let concerned = |status: &&EnforcerStatus| has_pods.is_empty() || has_pods.contains_key(&status.node);
        self.connected_ones().filter(|status| status.enforcing).filter(concerned).all(|status| match catch {
            Catch::Version(version) => status.policies_version >= *version,
            Catch::Gone(version, before) => {
                status.policies_version >= *version
                    || before.get(&status.node).is_none_or(|generation| status.generation != *generation)
            }
        })
    }

    /// Each node's generation at a moment, or the oldest one that is known.
    pub fn generations_at(&self, tick: u64) -> BTreeMap<String, u32> {
        let at = |node: &Node| {
            let older = node.generations.iter().rev().find(|(at, _)| *at <= tick);
            older.or(node.generations.front()).map_or(0, |(_, generation)| *generation)
        };
        self.nodes.iter().map(|(name, node)| (name.clone(), at(node))).collect()
    }

    fn connected_ones(&self) -> impl Iterator<Item = &EnforcerStatus> {
        self.nodes.values().filter(|node| node.link.lost.is_none()).map(|node| &node.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tick: u64) -> Now {
        Now { tick, wall_ms: 1_000 + tick }
    }

    fn status(node: &str, version: u64, generation: u32) -> EnforcerStatus {
        EnforcerStatus {
            node: node.to_owned(),
            enforcing: true,
            policies_version: version,
            generation,
            ..EnforcerStatus::default()
        }
    }

    fn two() -> Enforcers {
        let mut enforcers = Enforcers::default();
        enforcers.told(status("a", 7, 1), at(0));
        enforcers.told(status("b", 6, 1), at(0));
        enforcers
    }

    #[test]
    fn all_that_are_concerned_have_to_catch_up() {
        let pods = |nodes: &[&str]| nodes.iter().map(|node| ((*node).to_owned(), 1)).collect::<BTreeMap<_, _>>();
        let mut enforcers = two();
        for (nodes, expected) in [(&["a", "b"][..], false), (&["a"], true), (&["b"], false), (&[], false)] {
            assert_eq!(enforcers.caught_up(&Catch::Version(7), &pods(nodes)), expected, "{nodes:?}");
        }
        enforcers.lost("b", "gone".to_owned(), at(1));
        assert!(enforcers.caught_up(&Catch::Version(7), &pods(&["a", "b"])), "nobody waits for one that is lost");
    }

    #[test]
    fn a_policy_that_is_gone_is_known_by_version_or_by_each_nodes_generation() {
        let mut enforcers = two();
        let gone = Catch::Gone(9, enforcers.generations_at(5));
        assert!(!enforcers.caught_up(&gone, &BTreeMap::new()));
        enforcers.told(status("a", 7, 2), at(10));
        assert!(!enforcers.caught_up(&gone, &BTreeMap::new()), "b has not moved");
        enforcers.told(status("b", 9, 1), at(11));
        assert!(enforcers.caught_up(&gone, &BTreeMap::new()));
    }

    #[test]
    fn one_that_is_lost_enforces_nothing_that_is_known_and_its_return_starts_anew() {
        let mut enforcers = two();
        enforcers.lost("b", "the connection ended".to_owned(), at(5));
        let b = enforcers.list().remove(1);
        let link = b.link.expect("the server tells how it hears of it");
        assert!(!b.enforcing && b.problems[0].contains("the connection ended"));
        assert_eq!((link.since_ms, link.lost.as_deref()), (1_005, Some("the connection ended")));
        assert_eq!(enforcers.voices(), BTreeMap::from([("a".to_owned(), Voice::Heard), ("b".to_owned(), Voice::Lost)]));
        enforcers.connected("b", "2", at(9));
        assert_eq!(enforcers.voices().get("b"), Some(&Voice::Lost), "connected, and has not told its condition yet");
        enforcers.told(status("b", 7, 3), at(10));
        assert_eq!(enforcers.voices().get("b"), Some(&Voice::Heard));
    }

    #[test]
    fn who_lags_is_told_since_when() {
        let mut enforcers = two();
        let behind = |enforcers: &Enforcers| {
            enforcers
                .list()
                .iter()
                .map(|one| one.link.as_ref().and_then(|link| link.behind_since_ms))
                .collect::<Vec<_>>()
        };
        assert!(enforcers.compare(7, at(3)));
        assert!(!enforcers.compare(7, at(4)));
        assert_eq!(behind(&enforcers), [None, Some(1_003)]);
        enforcers.told(status("b", 7, 2), at(5));
        assert!(enforcers.compare(7, at(6)));
        assert_eq!(behind(&enforcers), [None, None]);
    }

    #[test]
    fn an_enforcer_cannot_say_how_it_is_heard_and_goes_with_its_node() {
        let mut enforcers = two();
        let link = NodeLink {
            version: "forged".to_owned(),
            since_ms: 0,
            lost: None,
            behind_since_ms: None,
            round_trip_us: None,
            left_out: 0,
        };
        enforcers.told(EnforcerStatus { link: Some(link), ..status("a", 7, 1) }, at(2));
        assert_eq!(enforcers.list()[0].link.as_ref().map(|link| link.since_ms), Some(1_000));
        enforcers.lost("b", "gone".to_owned(), at(3));
        assert!(!enforcers.keep(|_| true));
        assert!(enforcers.keep(|node| node == "a"));
        assert_eq!(enforcers.list().len(), 1);
    }
}
