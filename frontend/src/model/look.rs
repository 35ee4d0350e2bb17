//! One cell as a lamp, a word, and a sentence.

use signalbox_api::cell::{Agreement, Cell, CellKey, Outcome};
use signalbox_api::flow::{Decision, Direction, PolicyRef, RuleRef};

use super::directory::Directory;
use super::time;

/// The lamp over a cell. Each has a shape of its own: colour is never the only sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lamp {
    /// The peer answered.
    Open,
    /// No answer, or the peer's side refused to let it in.
    Shut,
    /// Answered with a reset although somebody listens.
    Refused,
    /// No way there.
    Unreachable,
    /// The name did not resolve.
    Dns,
    /// Nobody listens.
    NoListener,
    /// The probe could not run.
    Broken,
    /// Not tried yet.
    Waiting,
}

impl Lamp {
    /// What the probe's outcome lights.
    pub const fn of(outcome: Option<Outcome>) -> Self {
        match outcome {
            None => Self::Waiting,
            Some(Outcome::Open) => Self::Open,
            Some(Outcome::Dropped) => Self::Shut,
            Some(Outcome::Refused) => Self::Refused,
            Some(Outcome::Unreachable) => Self::Unreachable,
            Some(Outcome::DnsFailed) => Self::Dns,
            Some(Outcome::NoListener) => Self::NoListener,
            Some(Outcome::ProbeBroken) => Self::Broken,
        }
    }

    /// Name in style sheet and icon sprite.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Shut => "shut",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Dns => "dns",
            Self::NoListener => "nolistener",
            Self::Broken => "broken",
            Self::Waiting => "waiting",
        }
    }

    /// The word in the cell.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Shut => "dropped",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Dns => "DNS failed",
            Self::NoListener => "no listener",
            Self::Broken => "probe broken",
            Self::Waiting => "not tried yet",
        }
    }

    /// All of them, for legends.
    pub const ALL: [Self; 8] = [
        Self::Open,
        Self::Shut,
        Self::Refused,
        Self::Unreachable,
        Self::Dns,
        Self::NoListener,
        Self::Broken,
        Self::Waiting,
    ];
}

/// Which side shuts a cell, and by which policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shut {
    /// The side.
    pub direction: Direction,
    /// The policies that isolate the pod there, or the one whose rule denies.
    pub policies: Vec<PolicyRef>,
}

impl Shut {
    /// A rule that denies stands for itself; without one it is the policies that isolate.
    fn new(direction: Direction, rule: Option<&RuleRef>, isolated_by: &[PolicyRef]) -> Self {
        Self { direction, policies: rule.map_or_else(|| isolated_by.to_vec(), |rule| vec![rule.policy.clone()]) }
    }

    /// `egress policy frontend/zero-trust`, `ingress policies a/b, a/c`, `egress`.
    pub fn phrase(&self) -> String {
        let noun = match self.policies.len() {
            0 => return format!("the {} side", self.direction),
            1 => "policy",
            _ => "policies",
        };
        let names: Vec<String> = self.policies.iter().map(ToString::to_string).collect();
        format!("{} {noun} {}", self.direction, names.join(", "))
    }
}

/// Which side shuts a cell: by the kernel's own word where there is one, else by the policies' text. Only what was
/// dropped is shut: an open cell is shut by nobody, and a name that does not resolve says nothing of policies.
pub fn shut(cell: &Cell) -> Option<Shut> {
    if cell.probe.as_ref().is_none_or(|probe| probe.outcome != Outcome::Dropped) {
        return None;
    }
    let kernel = cell.kernel.as_ref().filter(|fact| fact.decision == Decision::Denied);
    if let Some(fact) = kernel
        && let Some(direction) = fact.direction
    {
        return Some(Shut::new(direction, fact.rule.as_ref(), &fact.isolated_by));
    }
    let sides = cell.spec.iter().flat_map(|spec| &spec.sides);
    sides
        .filter(|side| side.decision == Decision::Denied)
        .min_by_key(|side| match side.direction {
            Direction::Egress => 0,
            Direction::Ingress => 1,
        })
        .map(|side| Shut::new(side.direction, side.rule.as_ref(), &side.isolated_by))
}

/// The glyph of a side: out of the source, into the destination.
pub const fn arrow(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "↗",
        Direction::Ingress => "↘",
    }
}

/// The word of a side as the matrix has it.
pub const fn side_word(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "egress",
        Direction::Ingress => "ingress",
    }
}

/// Everything that the matrix draws of one cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// The lamp.
    pub lamp: Lamp,
    /// The second line: latency, or the side that shuts it.
    pub detail: String,
    /// Whether the facts agree.
    pub agreement: Agreement,
    /// The whole as a sentence.
    pub sentence: String,
}

/// Draws a cell.
pub fn look(directory: &Directory, cell: &Cell) -> Look {
    let lamp = Lamp::of(cell.probe.as_ref().map(|probe| probe.outcome));
    let probe = cell.probe.as_ref();
    let detail = match (shut(cell), probe.and_then(|probe| probe.latency_us)) {
        (Some(shut), _) => {
            let by = match shut.policies.as_slice() {
                [] => String::new(),
                [one] => format!(" {}", one.name),
                [one, rest @ ..] => format!(" {} +{}", one.name, rest.len()),
            };
            format!("{} {}{by}", arrow(shut.direction), side_word(shut.direction))
        }
        (None, Some(us)) => time::micros(us),
        (None, None) => probe.and_then(|probe| probe.detail.clone()).unwrap_or_default(),
    };
    Look { lamp, detail, agreement: cell.agreement, sentence: sentence(directory, cell) }
}

/// Who, where to: `frontend/web to backend/dbsvc port 9000 TCP`.
pub fn heading(directory: &Directory, key: &CellKey) -> String {
    format!("{} to {} port {} {}", directory.long(&key.from), directory.long(&key.to), key.port, key.protocol)
}

/// `frontend/web to backend/dbsvc port 9000 TCP: dropped, by egress policy frontend/zero-trust`.
pub fn sentence(directory: &Directory, cell: &Cell) -> String {
    let lamp = Lamp::of(cell.probe.as_ref().map(|probe| probe.outcome));
    let mut text = format!("{}: {}", heading(directory, &cell.key), lamp.word());
    if let Some(shut) = shut(cell) {
        text.push_str(", by ");
        text.push_str(&shut.phrase());
    } else if let Some(us) = cell.probe.as_ref().and_then(|probe| probe.latency_us) {
        text.push_str(&format!(", in {}", time::micros(us)));
    }
    match cell.agreement {
        Agreement::Agree => {}
        Agreement::Disagree => text.push_str("; the facts disagree"),
        Agreement::Unsettled => text.push_str("; not settled"),
    }
    text
}

/// Whether the facts agree, as a sentence that names who says what.
pub fn agreement(cell: &Cell) -> String {
    let word = |decision: Option<Decision>| match decision {
        Some(Decision::Allowed) => Some("allowed"),
        Some(Decision::Denied) => Some("denied"),
        None => None,
    };
    let probe = cell.probe.as_ref().and_then(|probe| word(probe.outcome.decision()));
    let spec = cell.spec.as_ref().and_then(|spec| word(spec.decision));
    let kernel = cell.kernel.as_ref().and_then(|kernel| word(Some(kernel.decision)));
    let known: Vec<String> = [("the policies say", spec), ("the probe saw", probe), ("the kernel decided", kernel)]
        .into_iter()
        .filter_map(|(who, word)| word.map(|word| format!("{who} {word}")))
        .collect();
    match (cell.agreement, known.len()) {
        (Agreement::Agree, 3) => "All three agree.".to_owned(),
        (Agreement::Agree, 2) => "Both known facts agree.".to_owned(),
        (Agreement::Agree, _) => "Nothing contradicts it.".to_owned(),
        (Agreement::Disagree, _) => format!("They disagree: {}.", known.join(", ")),
        (Agreement::Unsettled, 0) => "Too little is known yet.".to_owned(),
        (Agreement::Unsettled, _) => format!("Not settled: {}.", known.join(", ")),
    }
}

/// Where a rule stands in its policy: `spec.ingress[0].from[0]`.
pub fn rule_path(rule: &RuleRef) -> String {
    let peers = match rule.direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let mut path = format!("spec.{}[{}]", rule.direction, rule.rule);
    let parts = [(peers, rule.peer), ("ports", rule.port)];
    let named: Vec<String> = parts.iter().filter_map(|(list, at)| at.map(|at| format!("{list}[{at}]"))).collect();
    if !named.is_empty() {
        path.push('.');
        path.push_str(&named.join(", "));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;
    use std::sync::Arc;

    fn directory() -> Directory {
        Directory::new(Arc::new(sample::wide_open().endpoints))
    }

    #[test]
    fn a_shut_cell_names_side_and_policy() {
        let cell = sample::cell_denied(Direction::Egress, "frontend", "zero-trust");
        assert_eq!(
            sentence(&directory(), &cell),
            "frontend/web to backend/dbsvc port 9000 TCP: dropped, by egress policy frontend/zero-trust"
        );
        assert_eq!(look(&directory(), &cell).detail, "↗ egress zero-trust");
    }

    #[test]
    fn the_kernel_has_the_first_word_on_the_side() {
        let mut cell = sample::cell_denied(Direction::Egress, "frontend", "zero-trust");
        let kernel = cell.kernel.as_mut().expect("the sample is enforced");
        kernel.direction = Some(Direction::Ingress);
        assert_eq!(shut(&cell).map(|shut| shut.direction), Some(Direction::Ingress));
        cell.kernel = None;
        assert_eq!(shut(&cell).map(|shut| shut.direction), Some(Direction::Egress));
    }

    #[test]
    fn a_rule_that_denies_is_named_by_its_policy() {
        let mut cell = sample::cell_denied(Direction::Ingress, "frontend", "zero-trust");
        let policy = PolicyRef { kind: "ClusterNetworkPolicy".to_owned(), namespace: None, name: "admin".to_owned() };
        let kernel = cell.kernel.as_mut().expect("the sample is enforced");
        kernel.direction = Some(Direction::Ingress);
        kernel.rule = Some(RuleRef { policy, direction: Direction::Ingress, rule: 0, peer: Some(0), port: None });
        kernel.isolated_by.clear();
        assert_eq!(shut(&cell).map(|shut| shut.phrase()), Some("ingress policy admin".to_owned()));
    }

    #[test]
    fn an_open_cell_is_shut_by_nobody_whatever_the_policies_say() {
        let mut cell = sample::cell_denied(Direction::Egress, "frontend", "zero-trust");
        cell.kernel = None;
        cell.probe.as_mut().expect("the sample is probed").outcome = Outcome::Open;
        cell.agreement = Agreement::Disagree;
        assert_eq!(shut(&cell), None);
        assert!(sentence(&directory(), &cell).ends_with("; the facts disagree"));
        assert_eq!(agreement(&cell), "They disagree: the policies say denied, the probe saw allowed.");
    }

    #[test]
    fn a_name_that_does_not_resolve_is_never_shown_as_denied() {
        let mut cell = sample::cell_denied(Direction::Egress, "frontend", "zero-trust");
        let probe = cell.probe.as_mut().expect("the sample is probed");
        probe.outcome = Outcome::DnsFailed;
        probe.detail = Some("SERVFAIL".to_owned());
        assert_eq!(shut(&cell), None);
        assert_eq!(look(&directory(), &cell).detail, "SERVFAIL");
        assert_eq!(sentence(&directory(), &cell), "frontend/web to backend/dbsvc port 9000 TCP: DNS failed");
    }

    #[test]
    fn each_outcome_has_a_lamp_of_its_own() {
        let names: std::collections::HashSet<_> = Lamp::ALL.iter().map(|lamp| lamp.name()).collect();
        assert_eq!(names.len(), Lamp::ALL.len());
    }

    #[test]
    fn a_rule_is_named_by_its_path() {
        let policy =
            PolicyRef { kind: "NetworkPolicy".into(), namespace: Some("backend".into()), name: "dbsvc".into() };
        let rule = |peer, port| RuleRef { policy: policy.clone(), direction: Direction::Ingress, rule: 0, peer, port };
        for (peer, port, path) in [
            (None, None, "spec.ingress[0]"),
            (Some(0), None, "spec.ingress[0].from[0]"),
            (None, Some(2), "spec.ingress[0].ports[2]"),
            (Some(1), Some(0), "spec.ingress[0].from[1], ports[0]"),
        ] {
            assert_eq!(rule_path(&rule(peer, port)), path);
        }
    }
}
