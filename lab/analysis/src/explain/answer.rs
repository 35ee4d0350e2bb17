//! What the engine says, with the places in the manifests.

use serde::Serialize;
use signalbox_policy::patch;
use signalbox_policy::verdict::NearestMiss;
use signalbox_policy::{
    Cluster, Connection, Direction, Family, Party, PolicyRef, Protocol, Route, RuleRef, Side, Verdict,
};

use super::ends::{Ends, Target};
use super::service::Backend;
use crate::analyze::Ports;
use crate::source::{Location, Places};

/// The engine's answer for all families, or for one.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Answer {
    /// The pod behind the Service that was asked about, and its port.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub backend: Option<At>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<&'static str>,
    pub verdict: Word,
    pub egress: Option<SideAnswer>,
    pub ingress: Option<SideAnswer>,
    pub unknown: Vec<String>,
    /// How to open it, where it is denied for certain.
    pub remedy: Option<Remedy>,
    /// What it holds for; empty: whatever there is.
    #[serde(skip)]
    pub over: Vec<Family>,
}

impl Answer {
    pub(super) fn is_over(&self, family: Family) -> bool {
        self.over.is_empty() || self.over.contains(&family)
    }
}

/// A pod behind a Service, and its port.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct At {
    pub to: String,
    pub port: u16,
}

/// A Service, and what is so of the connection whichever of its pods it comes to.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Service {
    pub name: String,
    pub verdict: Whole,
}

/// All answers in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Whole {
    Allowed,
    Denied,
    /// Some of it is.
    Unknown,
    /// Some pods can be reached and some cannot, over one and the same family.
    Differs,
    /// Over each family it is the same to all pods of which it is known, and over the two it is not.
    FamiliesDiffer,
}

impl Whole {
    /// Of all pods together: what is unknown of one is unknown of all.
    pub(super) fn of(answers: &[Answer]) -> Self {
        let all = |word: Word| !answers.is_empty() && answers.iter().all(|answer| answer.verdict == word);
        if all(Word::Allowed) {
            return Self::Allowed;
        }
        if all(Word::Denied) {
            return Self::Denied;
        }
        let both = |family: Option<Family>| {
            let over = || answers.iter().filter(|answer| family.is_none_or(|family| answer.is_over(family)));
            let any = |word: Word| over().any(|answer| answer.verdict == word);
            any(Word::Allowed) && any(Word::Denied)
        };
        match (both(None), FAMILIES.into_iter().any(|family| both(Some(family)))) {
            (false, _) => Self::Unknown,
            (true, true) => Self::Differs,
            (true, false) => Self::FamiliesDiffer,
        }
    }
}

/// Both.
pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// What to apply, and what that opens besides.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Remedy {
    pub patches: Vec<Patch>,
    pub also_opens: Vec<Opening>,
    /// Why the connection stays shut all the same. Empty: the patches open it.
    pub obstacles: Vec<String>,
    #[serde(skip)]
    pub yaml: String,
}

/// One object to apply.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Patch {
    pub object: String,
    pub change: &'static str,
    pub summary: String,
    pub yaml: String,
}

/// Something else that opens.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Opening {
    pub src: String,
    pub dst: String,
    pub ports: Ports,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Word {
    Allowed,
    Denied,
    Unknown,
}

/// One side's answer. What does not apply is null or empty.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct SideAnswer {
    pub verdict: Word,
    pub reason: Why,
    /// One sentence.
    pub text: String,
    /// The rule that decided.
    pub rule: Option<Place>,
    /// The policies that isolate the pod.
    pub isolated_by: Vec<Policy>,
    pub nearest: Option<Nearest>,
}

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Why {
    Rule,
    Isolation,
    NoPolicy,
    Always,
}

/// A rule, or a policy, and where it stands.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Place {
    pub policy: Policy,
    /// `spec.ingress[0]`.
    pub path: String,
    pub peer: Option<u32>,
    pub port: Option<u32>,
    pub excerpt: Vec<String>,
}

/// A policy's name and place.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Policy {
    pub kind: &'static str,
    pub namespace: Option<String>,
    pub name: String,
    /// For a rule, the rule's place. Null: it comes from a live cluster.
    pub file: Option<String>,
    pub line: Option<usize>,
}

/// The rule that came closest.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Nearest {
    #[serde(flatten)]
    pub rule: Place,
    pub difference: String,
}

/// One answer, or one for each pod behind a Service; and one for each family where they differ.
pub(super) fn answers(ends: &Ends, route: Route, places: &Places<'_>, cluster: &Cluster) -> Vec<Answer> {
    let engine = Engine { places, cluster, protocol: ends.protocol };
    match &ends.to {
        Target::End(to) => engine.answers(&ends.from.party, (&to.party, ends.port), route, &[]),
        Target::Service(behind) => {
            let of = |backend: &Backend| {
                let to = Party::Pod(backend.pod.clone());
                let route = Route::Service;
                let mut answers = engine.answers(&ends.from.party, (&to, backend.port), route, &behind.families);
                for answer in &mut answers {
                    answer.backend = Some(At { to: backend.pod.to_string(), port: backend.port });
                }
                answers
            };
            behind.backends.iter().flat_map(of).collect()
        }
    }
}

/// What is the same for all answers.
struct Engine<'a> {
    places: &'a Places<'a>,
    cluster: &'a Cluster,
    protocol: Protocol,
}

impl Engine<'_> {
    /// `only`: the families that the connection can have; empty: any.
    fn answers(&self, from: &Party, (to, port): (&Party, u16), route: Route, only: &[Family]) -> Vec<Answer> {
        let ask = |family: Option<Family>, over: &[Family]| {
            let connection = Connection { from, to, protocol: self.protocol, port, route, family };
            let answer =
                answer(&self.cluster.judge(&connection), self.cluster.remedy(&connection).as_ref(), self.places);
            Answer { over: over.to_vec(), ..answer }
        };
        let common = self.cluster.families_between(from, to);
        let families: Vec<Family> =
            common.iter().copied().filter(|family| only.is_empty() || only.contains(family)).collect();
        match (common.as_slice(), families.as_slice()) {
            // The ends have addresses in common, and none of the Service's family.
            ([_, ..], []) => return vec![impassable(only)],
            ([_, _, ..], [family]) => return vec![ask(Some(*family), &families)],
            (_, [] | [_]) => return vec![ask(None, &families)],
            (_, [_, _, ..]) => {}
        }
        let mut answers: Vec<Answer> = families.iter().map(|family| ask(Some(*family), &families)).collect();
        if answers.windows(2).all(|pair| pair[0] == pair[1]) {
            answers.truncate(1);
        } else {
            for (answer, family) in answers.iter_mut().zip(families) {
                answer.family = Some(family.as_str());
                answer.over = vec![family];
            }
        }
        answers
    }
}

/// Nothing is judged.
fn impassable(only: &[Family]) -> Answer {
    let names = only.iter().map(|family| family.as_str()).collect::<Vec<_>>().join(" or ");
    let unknown = vec![format!("the Service has addresses of {names} only, by which the two ends cannot connect")];
    Answer {
        backend: None,
        family: None,
        verdict: Word::Unknown,
        egress: None,
        ingress: None,
        unknown,
        remedy: None,
        over: Vec::new(),
    }
}

fn answer(verdict: &Verdict, remedy: Option<&patch::Remedy>, places: &Places<'_>) -> Answer {
    let word = match verdict.allowed() {
        Some(true) => Word::Allowed,
        Some(false) => Word::Denied,
        None => Word::Unknown,
    };
    let side = |side: &Option<Side>| side.as_ref().map(|side| side_answer(side, places));
    Answer {
        backend: None,
        family: None,
        verdict: word,
        egress: side(&verdict.egress),
        ingress: side(&verdict.ingress),
        unknown: verdict.unknown.clone(),
        remedy: remedy.map(self::remedy),
        over: Vec::new(),
    }
}

fn remedy(remedy: &patch::Remedy) -> Remedy {
    let patches = remedy.patches.iter().map(|patch| Patch {
        object: patch.object.to_string(),
        change: match patch.change {
            patch::Change::Create => "create",
            patch::Change::Replace => "replace",
        },
        summary: patch.summary.clone(),
        yaml: patch.yaml.clone(),
    });
    let openings = remedy.also_opens.iter().map(|opening| Opening {
        src: opening.from.to_string(),
        dst: opening.to.to_string(),
        ports: Ports(opening.traffic.clone()),
    });
    Remedy {
        patches: patches.collect(),
        also_opens: openings.collect(),
        obstacles: remedy.obstacles.clone(),
        yaml: remedy.yaml(),
    }
}

fn side_answer(side: &Side, places: &Places<'_>) -> SideAnswer {
    let policies = |names: &[PolicyRef]| names.iter().map(|name| policy(name, "", places).0).collect::<Vec<_>>();
    let verdict = if side.is_allowed() { Word::Allowed } else { Word::Denied };
    let plain =
        |reason, text: String| SideAnswer { verdict, reason, text, rule: None, isolated_by: Vec::new(), nearest: None };
    match side {
        Side::NotIsolated(direction) => plain(Why::NoPolicy, format!("no policy isolates the pod for {direction}")),
        Side::AlwaysAllowed(_, reason) => plain(Why::Always, (*reason).to_owned()),
        Side::AllowedBy(rule, isolated_by) => SideAnswer {
            rule: Some(place(rule, places)),
            isolated_by: policies(isolated_by),
            ..plain(Why::Rule, format!("allowed by {}, {}", rule.policy, path(rule)))
        },
        Side::DeniedBy(rule) => SideAnswer {
            rule: Some(place(rule, places)),
            ..plain(Why::Rule, format!("denied by {}, {}", rule.policy, path(rule)))
        },
        Side::Denied { direction, isolated_by, nearest } => {
            let names: Vec<String> = isolated_by.iter().map(ToString::to_string).collect();
            SideAnswer {
                isolated_by: policies(isolated_by),
                nearest: nearest.as_ref().map(|miss| self::nearest(miss, places)),
                ..plain(
                    Why::Isolation,
                    format!("isolated for {direction} by {}, and no rule allows it", names.join(", ")),
                )
            }
        }
    }
}

fn nearest(miss: &NearestMiss, places: &Places<'_>) -> Nearest {
    Nearest { rule: place(&miss.rule, places), difference: miss.difference.clone() }
}

fn path(rule: &RuleRef) -> String {
    let direction = match rule.direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    format!("spec.{direction}[{}]", rule.rule)
}

fn place(rule: &RuleRef, places: &Places<'_>) -> Place {
    let path = path(rule);
    let (policy, location) = policy(&rule.policy, &path, places);
    let excerpt = location.map(|location| location.excerpt).unwrap_or_default();
    Place { policy, path, peer: rule.peer, port: rule.port, excerpt }
}

fn policy(name: &PolicyRef, path: &str, places: &Places<'_>) -> (Policy, Option<Location>) {
    let location = places.locate(name.kind, name.namespace.as_deref(), &name.name, path);
    let policy = Policy {
        kind: name.kind,
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        file: location.as_ref().map(|location| location.file.clone()),
        line: location.as_ref().map(|location| location.line),
    };
    (policy, location)
}
