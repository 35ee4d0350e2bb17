//! Why a connection is open, shut or unknown: both sides, the rule that decided, and the one that came closest.

use signalbox_policy::reach::Reach;
use signalbox_policy::{Connection, Direction, Family, PolicyRef, Protocol, Route, RuleRef, Side};

use super::cell::{self, Shade};
use super::scene::Scene;
use super::workspace::Workspace;
use crate::model::check;

/// A rule, and where to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The policy, as the engine names it.
    pub policy: Policy,
    /// `spec.ingress[0].from[0], ports[0]`.
    pub path: String,
    /// The lines of its item in the policy's text, from 1.
    pub line: Option<usize>,
}

/// A policy by name, and the object that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `NetworkPolicy backend/dbsvc`.
    pub name: String,
    /// The object in the workspace.
    pub item: Option<u32>,
}

/// What one side says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideView {
    /// Which side.
    pub direction: Direction,
    /// `open` or `shut`, as the style sheet has it; `nolistener` where nobody judges.
    pub lamp: &'static str,
    /// Title: `Egress: out of frontend/web`.
    pub title: String,
    /// What is said of it, before any names.
    pub words: &'static str,
    /// The rule that decided.
    pub rule: Option<Rule>,
    /// The policies that isolate the pod.
    pub isolated_by: Vec<Policy>,
    /// The rule that came closest, and what differs.
    pub nearest: Option<(Rule, String)>,
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Why {
    /// `open`, `shut`, `unknown`.
    pub shade: Shade,
    /// In one line.
    pub headline: String,
    /// Egress, then ingress.
    pub sides: [SideView; 2],
    /// What was not understood.
    pub unknown: Vec<String>,
    /// What the baseline says, where that is something else.
    pub before: Option<&'static str>,
    /// The ports of the pair in pieces that are of one shade.
    pub pieces: Vec<Piece>,
}

/// Ports of one protocol that are all open, all shut or all unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The protocol.
    pub protocol: Protocol,
    /// First and last, inclusive.
    pub ports: (u16, u16),
    /// `Open`, `Shut` or `Unknown`.
    pub shade: Shade,
}

impl Piece {
    /// `TCP 80`, `UDP 1–52`, `SCTP all`.
    pub fn title(&self) -> String {
        match self.ports {
            (1, u16::MAX) => format!("{} all", self.protocol),
            (first, last) if first == last => format!("{} {first}", self.protocol),
            (first, last) => format!("{} {first}–{last}", self.protocol),
        }
    }

    /// Whether a port is in it.
    pub fn holds(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol == protocol && self.ports.0 <= port && port <= self.ports.1
    }
}

/// Explains a pair at a port.
pub fn why(workspace: &Workspace, scene: &Scene, from: usize, to: usize, protocol: Protocol, port: u16) -> Why {
    let (source, destination) = (&scene.ends[from], &scene.ends[to]);
    let connection =
        Connection { from: &source.party, to: &destination.party, protocol, port, route: Route::Direct, family: None };
    let verdict = scene.now.judge(&connection);
    let shade = shade_of(verdict.allowed());
    let before = scene.base.as_ref().filter(|_| source.is_in_base && destination.is_in_base);
    let before = before.map(|base| shade_of(base.judge(&connection).allowed())).filter(|before| *before != shade);
    let view = |direction, side: &Option<Side>| {
        let end = match direction {
            Direction::Egress => from,
            Direction::Ingress => to,
        };
        side_view(workspace, direction, &scene.title(end), side.as_ref())
    };
    let sides = [view(Direction::Egress, &verdict.egress), view(Direction::Ingress, &verdict.ingress)];
    Why {
        shade,
        headline: headline(shade, &sides),
        sides,
        unknown: verdict.unknown,
        before: before.map(word),
        pieces: pieces(&scene.cell(from, to).now),
    }
}

/// The port to ask about first: one that is open where that is a choice, else one that a container listens on.
pub fn first_port(scene: &Scene, from: usize, to: usize) -> (Protocol, u16) {
    let cell = scene.cell(from, to);
    let listens = scene.listens_on(to).first().copied();
    let is_listed = |shade: Shade| {
        let found = pieces(&cell.now).into_iter().filter(move |piece| piece.shade == shade);
        found
            .min_by_key(|piece| (piece.ports.1 - piece.ports.0, piece.protocol))
            .map(|piece| (piece.protocol, piece.ports.0))
    };
    match cell::shade(&cell.now, None) {
        Shade::Unknown => is_listed(Shade::Unknown).or(listens),
        Shade::Part => {
            let open = |it: &(Protocol, u16)| cell.now.iter().any(|(_, reach)| reach.open.contains(it.0, it.1));
            listens.filter(open).or_else(|| is_listed(Shade::Open))
        }
        Shade::Open | Shade::Shut | Shade::Apart => listens,
    }
    .unwrap_or((Protocol::Tcp, 80))
}

const fn shade_of(allowed: Option<bool>) -> Shade {
    match allowed {
        Some(true) => Shade::Open,
        Some(false) => Shade::Shut,
        None => Shade::Unknown,
    }
}

const fn word(shade: Shade) -> &'static str {
    match shade {
        Shade::Open => "open",
        Shade::Part => "open in part",
        Shade::Shut => "shut",
        Shade::Unknown => "unknown",
        Shade::Apart => "out of reach",
    }
}

fn headline(shade: Shade, sides: &[SideView; 2]) -> String {
    let shut: Vec<&SideView> = sides.iter().filter(|side| side.lamp == "shut").collect();
    let by = |side: &SideView| {
        let names: Vec<&str> = match &side.rule {
            Some(rule) => vec![rule.policy.name.as_str()],
            None => side.isolated_by.iter().map(|policy| policy.name.as_str()).collect(),
        };
        let names: Vec<&str> =
            names.into_iter().map(|name| name.strip_prefix("NetworkPolicy ").unwrap_or(name)).collect();
        format!("{} ({})", side.direction, names.join(", "))
    };
    match (shade, shut.as_slice()) {
        (Shade::Shut, [one]) => format!("shut by {}", by(one)),
        (Shade::Shut, [one, other, ..]) => format!("shut by {} and by {}", by(one), by(other)),
        (shade, _) => word(shade).to_owned(),
    }
}

fn side_view(workspace: &Workspace, direction: Direction, name: &str, side: Option<&Side>) -> SideView {
    let title = match direction {
        Direction::Egress => format!("Egress: out of {name}"),
        Direction::Ingress => format!("Ingress: into {name}"),
    };
    let policies = |list: &[PolicyRef]| list.iter().map(|it| policy(workspace, it)).collect::<Vec<_>>();
    let plain = |lamp, words| SideView {
        direction,
        lamp,
        title: title.clone(),
        words,
        rule: None,
        isolated_by: Vec::new(),
        nearest: None,
    };
    match side {
        None => plain("nolistener", "No policy judges this side: it is outside, or in the network of its node."),
        Some(Side::NotIsolated(_)) => plain("open", "Open: no policy isolates it in this direction."),
        Some(Side::AlwaysAllowed(_, why)) => plain("open", why),
        Some(Side::AllowedBy(it, isolated_by)) => SideView {
            rule: Some(rule(workspace, it)),
            isolated_by: policies(isolated_by),
            ..plain("open", "Allowed by ")
        },
        Some(Side::DeniedBy(it)) => SideView { rule: Some(rule(workspace, it)), ..plain("shut", "Denied by ") },
        Some(Side::Denied { isolated_by, nearest, .. }) => SideView {
            isolated_by: policies(isolated_by),
            nearest: nearest.as_ref().map(|miss| (rule(workspace, &miss.rule), miss.difference.clone())),
            ..plain("shut", "Denied: it is isolated, and no rule allows it.")
        },
    }
}

fn policy(workspace: &Workspace, policy: &PolicyRef) -> Policy {
    let name = policy.to_string();
    Policy { item: workspace.named(&name).map(|item| item.id), name }
}

fn rule(workspace: &Workspace, rule: &RuleRef) -> Rule {
    let peers = match rule.direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let path = format!("spec.{}[{}]", rule.direction, rule.rule);
    let parts = [(peers, rule.peer), ("ports", rule.port)];
    let named: Vec<String> = parts.iter().filter_map(|(list, at)| at.map(|at| format!("{list}[{at}]"))).collect();
    let text = workspace.named(&rule.policy.to_string()).map(|item| item.text());
    let line = text.and_then(|text| check::line_of(&text, &path));
    let path = if named.is_empty() { path } else { format!("{path}.{}", named.join(", ")) };
    Rule { policy: policy(workspace, &rule.policy), path, line }
}

/// All ports in pieces, protocol by protocol. Where families differ: what is open in all of them, and unknown in any.
fn pieces(reaches: &[(Option<Family>, Reach)]) -> Vec<Piece> {
    let Some((_, first)) = reaches.first() else { return Vec::new() };
    let (mut open, mut unknown) = (first.open.clone(), first.unknown.clone());
    for (_, reach) in &reaches[1..] {
        open = open.intersection(&reach.open);
        unknown = unknown.union(&reach.unknown);
    }
    let open = open.difference(&unknown);
    let mut pieces = Vec::new();
    for protocol in Protocol::ALL {
        let (open, unknown) = (open.ports(protocol), unknown.ports(protocol));
        let shut = open.union(unknown).complement();
        let shades = [(Shade::Open, open), (Shade::Unknown, unknown), (Shade::Shut, &shut)];
        let mut own: Vec<Piece> = shades
            .into_iter()
            .flat_map(|(shade, set)| set.ranges().iter().map(move |ports| Piece { protocol, ports: *ports, shade }))
            .collect();
        own.sort_by_key(|piece| piece.ports);
        pieces.extend(own);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn asked(workspace: &Workspace, from: &str, to: &str) -> Why {
        let scene = Scene::build(workspace, None);
        let end = |name: &str| (0..scene.ends.len()).find(|end| scene.title(*end) == name).expect("it is there");
        let (from, to) = (end(from), end(to));
        let (protocol, port) = first_port(&scene, from, to);
        why(workspace, &scene, from, to, protocol, port)
    }

    #[test]
    fn after_step_two_the_ingress_of_dbsvc_shuts() {
        let workspace = sample::lesson(2);
        let why = asked(&workspace, "frontend/web", "backend/dbsvc");
        assert_eq!(why.headline, "shut by ingress (backend/zero-trust)");
        let [egress, ingress] = &why.sides;
        assert_eq!((egress.lamp, ingress.lamp), ("open", "shut"));
        let rule = egress.rule.as_ref().expect("a rule allows");
        assert_eq!(
            (rule.policy.name.as_str(), rule.path.as_str()),
            ("NetworkPolicy frontend/web", "spec.egress[0].to[0], ports[0]")
        );
        let item = rule.policy.item.and_then(|id| workspace.item(id)).expect("it is there");
        let line = item.text().lines().nth(rule.line.expect("a line") - 1).map(str::to_owned);
        assert_eq!(line.as_deref().map(str::trim), Some("- to:"));
        assert_eq!(ingress.isolated_by[0].name, "NetworkPolicy backend/zero-trust");
        assert_eq!(why.pieces.len(), 3, "{:?}", why.pieces);
    }

    #[test]
    fn the_first_port_is_one_that_says_something() {
        let why = asked(&sample::lesson(4), "backend/dbsvc", "198.51.100.0/24");
        assert_eq!((why.shade, why.headline.as_str()), (Shade::Open, "open"));
        let titles: Vec<String> = why.pieces.iter().map(Piece::title).collect();
        assert_eq!(
            titles,
            ["TCP 1–3305", "TCP 3306", "TCP 3307–65535", "UDP 1–52", "UDP 53", "UDP 54–65535", "SCTP all"]
        );
        assert_eq!(why.sides[1].lamp, "nolistener");
    }

    #[test]
    fn the_nearest_miss_and_the_baseline_are_named() {
        let mut workspace = sample::lesson(4);
        let id = workspace.named("NetworkPolicy frontend/web").expect("it is there").id;
        let text = workspace.item(id).expect("it is there").text().replace("port: 9000", "port: 9001");
        workspace.edit(id, &text);
        let scene = Scene::build(&workspace, None);
        let why = why(&workspace, &scene, 2, 0, Protocol::Tcp, 9000);
        assert_eq!((why.shade, why.before), (Shade::Shut, Some("open")));
        let (rule, difference) = why.sides[0].nearest.as_ref().expect("a near miss");
        assert!(difference.contains("9001") && rule.policy.item == Some(id), "{difference}");
    }
}
