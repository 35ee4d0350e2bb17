//! Rules of one direction, within their policy.

use super::{Rewrite, parts, within};
use crate::policy::Rule;

/// Makes rules fewer or simpler, one step. Gives what was done.
pub(super) fn rules(rules: &mut Vec<Rule>) -> Option<(Rewrite, String)> {
    for at in 0..rules.len() {
        let rule = &mut rules[at];
        if !rule.peers.is_empty()
            && let Some((rewrite, what)) = parts::peers(&mut rule.peers)
        {
            // None left: it matches nobody, and a rule without peers would match anyone.
            if rule.peers.is_empty() {
                rules.remove(at);
            }
            return Some((rewrite, format!("rule {at}: {what}")));
        }
        if let Some(fewer) = parts::ports(&rule.ports) {
            let list: Vec<String> = fewer.iter().map(ToString::to_string).collect();
            rule.ports = fewer;
            return Some((Rewrite::Ports, format!("rule {at}: its ports are {}", list.join(", "))));
        }
    }
    for at in 0..rules.len() {
        for other in at + 1..rules.len() {
            if let Some(merged) = together(&rules[at], &rules[other]) {
                let what = format!("rules {at} and {other} are one");
                rules.remove(other);
                rules[at] = merged;
                return Some((Rewrite::Rules, what));
            }
        }
    }
    None
}

/// Two rules as one, where their peers or their ports are equal.
fn together(one: &Rule, other: &Rule) -> Option<Rule> {
    let same_peers = within::peers(&one.peers, &other.peers) && within::peers(&other.peers, &one.peers);
    if same_peers && !one.ports.is_empty() && !other.ports.is_empty() {
        let ports = one.ports.iter().chain(&other.ports).cloned().collect();
        return Some(Rule { ports, ..one.clone() });
    }
    let same_ports = within::ports(&one.ports, &other.ports) && within::ports(&other.ports, &one.ports);
    if same_ports && !one.peers.is_empty() && !other.peers.is_empty() {
        let peers = one.peers.iter().chain(&other.peers).cloned().collect();
        return Some(Rule { peers, ..one.clone() });
    }
    None
}

/// Takes out of a rule what another one allows as well. Gives what was taken; `None`: nothing. A rule of which nothing is
/// left has no peers and no ports any more, and must go: the flag says so.
pub(super) fn shadow(rule: &mut Rule, other: &Rule) -> Option<(String, bool)> {
    if within::rule(rule, other) {
        return Some(("all of it".to_owned(), true));
    }
    if within::ports(&rule.ports, &other.ports) {
        let is_shadowed = |peer: &_| other.peers.iter().any(|outer| within::peer(peer, outer));
        if let Some(at) = rule.peers.iter().position(is_shadowed) {
            return Some((rule.peers.remove(at).to_string(), false));
        }
    }
    if within::peers(&rule.peers, &other.peers) {
        let is_shadowed = |port: &_| !other.ports.is_empty() && within::port(port, &other.ports);
        if let Some(at) = rule.ports.iter().position(is_shadowed) {
            return Some((rule.ports.remove(at).to_string(), false));
        }
    }
    None
}
