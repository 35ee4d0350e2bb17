//! One line for people: whom a policy selects and what it allows.

use crate::names::Direction;
use crate::policy::{Action, Policy, Rule};

/// Says what a policy means.
pub(crate) fn summary(policy: &Policy, selected: usize) -> String {
    let whom = &policy.subject;
    let sides = [Direction::Ingress, Direction::Egress].map(|direction| {
        let (way, preposition) = match direction {
            Direction::Ingress => ("in", "from"),
            Direction::Egress => ("out", "to"),
        };
        match policy.rules(direction) {
            None => format!("{way}: not judged"),
            Some([]) => format!("{way}: nothing"),
            Some(rules) => {
                let parts: Vec<String> = rules.iter().map(|rule| part(rule, preposition)).collect();
                format!("{way}: {}", parts.join("; or "))
            }
        }
    });
    format!("selects {whom} ({selected} now). {}. {}", sides[0], sides[1])
}

fn part(rule: &Rule, preposition: &str) -> String {
    let does = match rule.action {
        Action::Allow => "",
        Action::Deny => "nothing ",
        Action::Pass => "left to the next tier: ",
    };
    if rule.is_never() {
        return format!("{does}no connection of TCP, UDP or SCTP");
    }
    let peers: Vec<String> = rule.peers.iter().map(ToString::to_string).collect();
    let ports: Vec<String> = rule.ports.iter().map(ToString::to_string).collect();
    let who = if peers.is_empty() { "anyone".to_owned() } else { peers.join(" or ") };
    let what = if ports.is_empty() { String::new() } else { format!(" on {}", ports.join(", ")) };
    format!("{does}{preposition} {who}{what}")
}
