//! What the kernels concerned make of a cell together: its source's node judges egress, its destination's node ingress.
//!
//! One denial decides. That a connection is allowed is said only where every node that judges it has said so; what a node said of
//! which nothing is heard any more counts for nothing.

use std::collections::{BTreeMap, BTreeSet};

use signalbox_api::cell::{CellKey, KernelFact, NodeGeneration};
use signalbox_api::flow::{Decision, Direction};
use signalbox_api::kernel::FlowEvent;

use super::enforcers::Voice;

/// Which nodes judge a cell's connections.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judges<'a> {
    /// Those that surely do.
    sure: BTreeSet<&'a str>,
    /// Those of which one does: the pod behind the Service is not known, and pods of all of these may be it.
    one_of: BTreeSet<&'a str>,
}

/// What they make of it.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    /// Absent: not known, or not entirely.
    pub fact: Option<KernelFact>,
    /// A node that judges it and should have said so has not, or is not heard of any more.
    pub is_missing: bool,
}

impl<'a> Judges<'a> {
    /// `nodes`: the node of each pod. `behind`: the pods behind a Service, `backend`: the one of them that a connection went to.
    pub fn of(key: &CellKey, nodes: &'a BTreeMap<String, String>, behind: &'a [String], backend: Option<&str>) -> Self {
        let mut judges = Self::default();
        if key.from == key.to || backend == Some(key.from.as_str()) {
            // A pod reaches itself by its own address without leaving its namespace: no hook sees that. Through its own Service it comes
            // back from the node's address wherever the node masquerades it, and what is judged then bears no pod's name.
            return judges;
        }
        let node = |pod: &str| nodes.get(pod).map(String::as_str);
        judges.sure.extend(node(&key.from));
        if !key.to.starts_with("service:") {
            judges.sure.extend(node(&key.to));
            return judges;
        }
        if let Some(backend) = backend {
            judges.sure.extend(node(backend));
            return judges;
        }
        let all: BTreeSet<&str> = behind.iter().map(String::as_str).collect();
        match all.len() {
            0 => {}
            1 => judges.sure.extend(all),
            _ => judges.one_of = all,
        }
        judges
    }

    /// `words`: what each node said of one connection.
    pub fn combine<'w>(&self, words: impl Iterator<Item = &'w FlowEvent>, voices: &BTreeMap<String, Voice>) -> Verdict {
        let words: BTreeMap<&str, &FlowEvent> = words
            .filter(|word| voices.get(&word.node) != Some(&Voice::Lost))
            .map(|word| (word.node.as_str(), word))
            .collect();
        if let Some(denial) = words.values().find(|word| word.decision == Decision::Denied) {
            return Verdict { fact: Some(fact(denial, [*denial])), is_missing: false };
        }
        let silent = |node: &&&str| !words.contains_key(**node) && voices.contains_key(**node);
        let is_missing =
            self.sure.iter().any(|node| silent(&node)) || self.one_of.iter().any(|node| voices.contains_key(*node));
        let is_complete = self.one_of.is_empty() && self.sure.iter().all(|node| words.contains_key(node));
        // Where both sides have a rule, the destination's speaks: it is the one that a reader looks for.
        let of = |direction| {
            let by = move |word: &&&FlowEvent| word.rule.as_ref().is_some_and(|rule| rule.direction == direction);
            words.values().find(by)
        };
        let speaker = of(Direction::Ingress).or_else(|| of(Direction::Egress)).or(words.values().next());
        let fact = speaker.filter(|_| is_complete).map(|speaker| fact(speaker, words.values().copied()));
        Verdict { fact, is_missing }
    }
}

fn fact<'w>(speaker: &FlowEvent, words: impl IntoIterator<Item = &'w FlowEvent>) -> KernelFact {
    let node = |word: &FlowEvent| NodeGeneration { node: word.node.clone(), generation: word.generation };
    let mut nodes = vec![node(speaker)];
    nodes.extend(words.into_iter().filter(|word| word.node != speaker.node).map(node));
    KernelFact {
        decision: speaker.decision,
        direction: speaker.direction,
        rule: speaker.rule.clone(),
        isolated_by: speaker.isolated_by.clone(),
        generation: speaker.generation,
        at_ms: speaker.at_us / 1_000,
        nodes,
    }
}

#[cfg(test)]
mod tests {
    use signalbox_api::flow::Protocol;

    use super::*;

    fn word(node: &str, decision: Decision) -> FlowEvent {
        let address = std::net::SocketAddr::from(([10, 244, 0, 5], 40_000));
        FlowEvent {
            node: node.to_owned(),
            decision,
            direction: None,
            protocol: Protocol::Tcp.into(),
            source: address,
            destination: address,
            source_pod: None,
            destination_pod: None,
            rule: None,
            isolated_by: Vec::new(),
            reason: None,
            generation: 1,
            at_us: 0,
        }
    }

    fn nodes() -> BTreeMap<String, String> {
        let pods = [("pod:x/a", "n1"), ("pod:x/b", "n2"), ("pod:x/c", "n2")];
        pods.map(|(pod, node)| (pod.to_owned(), node.to_owned())).into()
    }

    fn key(from: &str, to: &str) -> CellKey {
        CellKey { from: from.to_owned(), to: to.to_owned(), port: 1, protocol: Protocol::Tcp }
    }

    /// From, to, the nodes behind a Service, the pod that it went to; who surely judges, and of whom one does.
    type Case<'a> = (&'a str, &'a str, &'a [String], Option<&'a str>, &'a [&'a str], &'a [&'a str]);

    #[test]
    fn whose_word_is_needed() {
        let nodes = nodes();
        let both = ["n1".to_owned(), "n2".to_owned()];
        let behind_b = ["n2".to_owned()];
        let cases: [Case; 9] = [
            ("pod:x/a", "pod:x/b", &[], None, &["n1", "n2"], &[]),
            ("pod:x/b", "pod:x/c", &[], None, &["n2"], &[]),
            ("pod:x/a", "pod:x/a", &[], None, &[], &[]),
            ("pod:x/a", "outside:db", &[], None, &["n1"], &[]),
            ("outside:users", "pod:x/b", &[], None, &["n2"], &[]),
            ("pod:x/a", "service:x/s", &behind_b, None, &["n1", "n2"], &[]),
            ("pod:x/a", "service:x/s", &both, None, &["n1"], &["n1", "n2"]),
            ("pod:x/b", "service:x/s", &both, Some("pod:x/c"), &["n2"], &[]),
            ("pod:x/a", "service:x/s", &both, Some("pod:x/a"), &[], &[]),
        ];
        for (from, to, behind, backend, sure, one_of) in cases {
            let judges = Judges::of(&key(from, to), &nodes, behind, backend);
            assert_eq!(judges.sure.iter().copied().collect::<Vec<_>>(), sure, "{from} {to} {backend:?}");
            assert_eq!(judges.one_of.iter().copied().collect::<Vec<_>>(), one_of, "{from} {to} {backend:?}");
        }
    }

    #[test]
    fn one_denial_decides_and_allowed_is_said_by_all_or_not_at_all() {
        use Decision::{Allowed, Denied};
        use Voice::{Heard, Lost};
        let nodes = nodes();
        let key = key("pod:x/a", "pod:x/b");
        // What n1 and n2 said, how each is heard, what follows, and whether a word is missing.
        let cases = [
            (Some(Allowed), Some(Allowed), Some(Heard), Some(Heard), Some(Allowed), false),
            (Some(Allowed), Some(Denied), Some(Heard), Some(Heard), Some(Denied), false),
            (Some(Denied), None, Some(Heard), Some(Heard), Some(Denied), false),
            (Some(Allowed), None, Some(Heard), Some(Heard), None, true),
            (Some(Allowed), Some(Allowed), Some(Heard), Some(Lost), None, true),
            (Some(Allowed), Some(Denied), Some(Heard), Some(Lost), None, true),
            (Some(Denied), Some(Allowed), Some(Heard), Some(Lost), Some(Denied), false),
            (Some(Allowed), None, Some(Heard), None, None, false),
            (Some(Denied), None, Some(Heard), None, Some(Denied), false),
            (None, None, None, None, None, false),
        ];
        for (n1, n2, voice1, voice2, expected, is_missing) in cases {
            let words: Vec<FlowEvent> =
                [("n1", n1), ("n2", n2)].into_iter().filter_map(|(node, word_)| Some(word(node, word_?))).collect();
            let voices: BTreeMap<String, Voice> = [("n1", voice1), ("n2", voice2)]
                .into_iter()
                .filter_map(|(node, voice)| Some((node.to_owned(), voice?)))
                .collect();
            let verdict = Judges::of(&key, &nodes, &[], None).combine(words.iter(), &voices);
            let decision = verdict.fact.as_ref().map(|fact| fact.decision);
            assert_eq!((decision, verdict.is_missing), (expected, is_missing), "{n1:?} {n2:?} {voice1:?} {voice2:?}");
        }
    }

    #[test]
    fn generations_are_each_nodes_own() {
        let nodes = nodes();
        let words = [word("n1", Decision::Allowed), FlowEvent { generation: 9, ..word("n2", Decision::Allowed) }];
        let verdict = Judges::of(&key("pod:x/a", "pod:x/b"), &nodes, &[], None).combine(words.iter(), &BTreeMap::new());
        let of = |node: &str, generation| NodeGeneration { node: node.to_owned(), generation };
        assert_eq!(verdict.fact.expect("both allow").nodes, [of("n1", 1), of("n2", 9)]);
    }
}
