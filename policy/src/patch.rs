//! What would open a connection that is shut: the smallest patch, and all that it opens besides.
//!
//! Several ways are tried on a copy of the cluster, and what each opens is measured there. The one that opens least else
//! is taken: now, and as far as one side goes, should the other one open later. Among equals it is the one with the fewest
//! lines. That it opens the connection is measured as well, so
//! that a remedy is never a guess.

mod candidate;
mod opening;
mod tier;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::analyze::{AddressRange, Place};
use crate::cluster::{Connection, Party};
use crate::judge::{self, End};
use crate::manifest;
use crate::model::Model;
use crate::names::{Direction, PolicyRef};
use crate::policy::Policy;
use crate::traffic::{PortSet, Traffic};
use crate::verdict::{Side, Verdict};
use candidate::{Candidate, Edit, Question};

/// How to open a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remedy {
    /// What to apply: one for each side that is shut, or one for both where they change the same policy.
    pub patches: Vec<Patch>,
    /// All that the patches open together, apart from the connection itself; sorted by source and destination. The
    /// outside in ranges, as [`crate::analyze`] has it. A pod to itself is listed where it is opened by a Service's
    /// address.
    pub also_opens: Vec<Opening>,
    /// Why the connection stays shut, or cannot be judged, in spite of the patches. Empty: they open it.
    pub obstacles: Vec<String>,
}

/// One object to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The policy that is new or changed.
    pub object: PolicyRef,
    /// Which of the two.
    pub change: Change,
    /// The whole policy, as `kubectl apply` takes it.
    pub yaml: String,
    /// What it changes, in one sentence.
    pub summary: String,
}

/// What a patch does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// There is no policy of that name yet.
    Create,
    /// Replaces the one there is. Labels and annotations of its manifest are not repeated in the patch.
    Replace,
}

/// Something that was shut and is open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opening {
    /// Who may connect now.
    pub from: Place,
    /// To whom.
    pub to: Place,
    /// By which ports.
    pub traffic: Traffic,
}

impl Remedy {
    /// Whether applying the patches opens the connection.
    pub fn is_complete(&self) -> bool {
        self.obstacles.is_empty()
    }

    /// All patches as one text for `kubectl apply -f -`, each with its sentence as a comment.
    pub fn yaml(&self) -> String {
        manifest::documents(self.patches.iter().map(|patch| (patch.summary.as_str(), patch.yaml.as_str())))
    }
}

/// `None`: the connection is not shut for certain.
pub(crate) fn remedy(model: &Model, connection: &Connection<'_>) -> Option<Remedy> {
    let verdict = judge::judge(model, connection);
    if verdict.allowed() != Some(false) {
        return None;
    }
    let (from, to) = (
        judge::end(model, connection.from, connection.to).ok()?,
        judge::end(model, connection.to, connection.from).ok()?,
    );
    let family = judge::family_between(&from, &to, judge::family(connection));
    let (from_address, to_address) = judge::addresses(&from, &to, family);
    let mut obstacles = Vec::new();
    let mut sides: Vec<Vec<Candidate>> = Vec::new();
    let ends = [
        (&verdict.egress, Direction::Egress, &from, &to, to_address),
        (&verdict.ingress, Direction::Ingress, &to, &from, from_address),
    ];
    for (side, direction, subject, other, address) in ends {
        let (Some(side), End::Pod(index, _)) = (side, subject) else { continue };
        if side.is_allowed() {
            continue;
        }
        let question = Question { model, direction, subject: *index, other, address, family, to: &to, connection };
        let found = match side {
            Side::DeniedBy(rule) => tier::candidates(&question, rule),
            _ => question.candidates(),
        };
        match found {
            Ok(candidates) => sides.push(candidates),
            Err(obstacle) => obstacles.push(obstacle),
        }
    }
    let asked = asked(connection, [(&from, from_address), (&to, to_address)]);
    let outside = |end: &End<'_>, address: Option<IpAddr>| address.filter(|_| end.pod().is_none());
    let cut = [outside(&from, from_address), outside(&to, to_address)];
    let trial = Trial { model, connection, asked: &asked, cut };
    let outcome = trial.best(&sides);
    if let Some(verdict) = &outcome.verdict {
        obstacles.extend(still_shut(verdict));
    }
    let also_opens = outcome.openings.into_iter().map(|((from, to), traffic)| Opening { from, to, traffic }).collect();
    Some(Remedy { patches: outcome.patches, also_opens, obstacles })
}

/// The connection itself, as a place to a place.
type Asked = (Option<(Place, Place)>, Traffic);

fn asked(connection: &Connection<'_>, [from, to]: [(&End<'_>, Option<IpAddr>); 2]) -> Asked {
    let place = |party: &Party, (end, address): (&End<'_>, Option<IpAddr>)| match (party, end) {
        (_, End::Pod(_, pod)) => Some(Place::Pod(pod.id.clone())),
        (Party::Pod(id), _) => Some(Place::Pod(id.clone())),
        (Party::Address(_) | Party::LocalNode, _) => {
            address.and_then(|address| AddressRange::new(address, address)).map(Place::Range)
        }
    };
    let places = place(connection.from, from).zip(place(connection.to, to));
    (places, Traffic::of(connection.protocol, PortSet::range(connection.port, connection.port)))
}

/// Why a connection is not open.
fn still_shut(verdict: &Verdict) -> Vec<String> {
    match verdict.allowed() {
        Some(true) => Vec::new(),
        None => verdict.unknown.clone(),
        Some(false) => {
            let sides = [(&verdict.egress, "egress"), (&verdict.ingress, "ingress")];
            let shut = sides.into_iter().filter(|(side, _)| side.as_ref().is_some_and(|side| !side.is_allowed()));
            shut.map(|(_, side)| format!("its {side} stays shut")).collect()
        }
    }
}

/// Tries candidates on copies of the cluster.
struct Trial<'a> {
    model: &'a Model,
    connection: &'a Connection<'a>,
    asked: &'a Asked,
    /// Addresses that ranges are cut at, so that what was asked for stands by itself.
    cut: [Option<IpAddr>; 2],
}

/// What came of some edits.
#[derive(Default)]
struct Outcome {
    patches: Vec<Patch>,
    openings: BTreeMap<(Place, Place), Traffic>,
    /// What the sides let pass that are changed.
    breadth: u128,
    lines: usize,
    /// Absent where nothing could be tried.
    verdict: Option<Verdict>,
}

impl Outcome {
    /// What is better is less: it opens the connection; it opens least else; it has the fewest lines.
    fn cost(&self) -> (bool, usize, u128, usize) {
        let opens = self.verdict.as_ref().is_some_and(|verdict| verdict.allowed() == Some(true));
        let ports = |traffic: &Traffic| traffic.protocols().map(|(_, ports)| ports.len()).sum::<usize>();
        (!opens, self.openings.values().map(ports).sum(), self.breadth, self.lines)
    }
}

impl Trial<'_> {
    /// Side by side: each takes its best, given the other's. The first candidate of a side is the most precise one.
    fn best(&self, sides: &[Vec<Candidate>]) -> Outcome {
        let mut chosen: Vec<&Candidate> = sides.iter().filter_map(|side| side.first()).collect();
        if chosen.is_empty() {
            return Outcome::default();
        }
        let mut best = self.run(&chosen);
        for (at, side) in sides.iter().enumerate() {
            for candidate in side.iter().skip(1) {
                let mut others = chosen.clone();
                others[at] = candidate;
                // Where nothing else is opened, only what is as narrow can be better.
                if best.openings.is_empty() && self.breadth(&others) > best.breadth {
                    continue;
                }
                let outcome = self.run(&others);
                if outcome.cost() < best.cost() {
                    (best, chosen) = (outcome, others);
                }
            }
        }
        best
    }

    fn edited(&self, candidates: &[&Candidate]) -> Vec<Arc<Policy>> {
        let mut policies = self.model.policies.clone();
        for candidate in candidates {
            candidate.edit.apply(&mut policies);
        }
        policies
    }

    fn breadth(&self, candidates: &[&Candidate]) -> u128 {
        let edited = self.edited(candidates);
        let each = candidates.iter().map(|it| opening::breadth(self.model, &edited, &it.edit));
        each.fold(0, u128::saturating_add)
    }

    fn run(&self, candidates: &[&Candidate]) -> Outcome {
        let edits: Vec<&Edit> = candidates.iter().map(|candidate| &candidate.edit).collect();
        let after = self.model.with_policies(self.edited(candidates));
        let mut openings = opening::openings(self.model, &after, &edits, self.cut);
        if let (Some(places), traffic) = self.asked
            && let Some(open) = openings.get_mut(places)
        {
            *open = open.difference(traffic);
        }
        openings.retain(|_, traffic| !traffic.is_empty());
        Outcome {
            patches: patches(self.model, &after, candidates),
            openings,
            breadth: self.breadth(candidates),
            lines: candidates.iter().map(|candidate| candidate.lines).sum(),
            verdict: Some(judge::judge(&after, self.connection)),
        }
    }
}

/// One patch for each object, whatever is changed in it.
fn patches(before: &Model, after: &Model, candidates: &[&Candidate]) -> Vec<Patch> {
    let mut patches: Vec<Patch> = Vec::new();
    for candidate in candidates {
        let object = candidate.edit.object();
        if let Some(patch) = patches.iter_mut().find(|patch| patch.object == *object) {
            patch.summary = format!("{}\n{}", patch.summary, candidate.summary);
            continue;
        }
        let Some(yaml) = after.policies.iter().find(|it| it.id == *object).and_then(|it| manifest::yaml(it)) else {
            continue;
        };
        let is_there = before.policies.iter().any(|it| it.id == *object);
        let change = if is_there { Change::Replace } else { Change::Create };
        patches.push(Patch { object: object.clone(), change, yaml, summary: candidate.summary.clone() });
    }
    patches
}
