//! The lines of the map: one for each source and each pod or host that it connects to.

use std::collections::BTreeMap;

use signalbox_api::cell::{Agreement, Cell, CellKey, Outcome};
use signalbox_api::flow::{Decision, Direction};
use signalbox_api::state::EndpointKind;

use super::directory::Directory;
use super::look;
use super::plan::{Node, Plan, Side};

/// A point, in the map's units.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// To the right.
    pub x: f64,
    /// Downwards.
    pub y: f64,
}

impl Point {
    fn plus(self, direction: Self, length: f64) -> Self {
        Self { x: self.x + direction.x * length, y: self.y + direction.y * length }
    }

    fn to(self, other: Self) -> f64 {
        (other.x - self.x).hypot(other.y - self.y)
    }
}

/// A cubic Bézier curve.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Curve {
    points: [Point; 4],
}

impl Curve {
    /// The point at `t`, from 0 to 1.
    pub fn at(&self, t: f64) -> Point {
        let u = 1.0 - t;
        let weights = [u * u * u, 3.0 * u * u * t, 3.0 * u * t * t, t * t * t];
        let sum =
            |of: fn(&Point) -> f64| self.points.iter().zip(weights).map(|(point, weight)| of(point) * weight).sum();
        Point { x: sum(|point| point.x), y: sum(|point| point.y) }
    }

    /// The direction at `t`, of length 1.
    pub fn direction(&self, t: f64) -> Point {
        let (a, b) = (self.at((t - 0.01).max(0.0)), self.at((t + 0.01).min(1.0)));
        let length = a.to(b).max(f64::EPSILON);
        Point { x: (b.x - a.x) / length, y: (b.y - a.y) / length }
    }

    /// For the attribute `d` of an SVG path.
    pub fn d(&self) -> String {
        let [a, b, c, d] = self.points;
        format!("M{:.1} {:.1}C{:.1} {:.1} {:.1} {:.1} {:.1} {:.1}", a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y)
    }

    /// The same, moved sideways: the way back.
    pub fn beside(&self, by: f64) -> Self {
        let across = |t: f64| {
            let along = self.direction(t);
            Point { x: -along.y, y: along.x }
        };
        let (first, last) = (across(0.0), across(1.0));
        let [a, b, c, d] = self.points;
        Self { points: [a.plus(first, by), b.plus(first, by), c.plus(last, by), d.plus(last, by)] }
    }

    /// The `t` of the gate: a fixed way from the end on that side.
    pub fn gate(&self, side: Direction) -> f64 {
        let steps = (1..=60).map(|step| f64::from(step) / 120.0);
        let (start, turn): (Point, fn(f64) -> f64) = match side {
            Direction::Egress => (self.points[0], |t| t),
            Direction::Ingress => (self.points[3], |t| 1.0 - t),
        };
        steps.map(turn).find(|t| start.to(self.at(*t)) >= GATE_AT).unwrap_or(0.5)
    }

    /// A bar across the line at `t`, for the attribute `d`.
    pub fn bar(&self, t: f64, half: f64) -> String {
        let (at, along) = (self.at(t), self.direction(t));
        let across = Point { x: -along.y, y: along.x };
        let (a, b) = (at.plus(across, half), at.plus(across, -half));
        format!("M{:.1} {:.1}L{:.1} {:.1}", a.x, a.y, b.x, b.y)
    }

    /// An arrow's head at the end, for the attribute `d`.
    pub fn head(&self, size: f64) -> String {
        let (tip, along) = (self.points[3], self.direction(1.0));
        let across = Point { x: -along.y, y: along.x };
        let back = tip.plus(along, -size);
        let (a, b) = (back.plus(across, size * 0.5), back.plus(across, -size * 0.5));
        format!("M{:.1} {:.1}L{:.1} {:.1}L{:.1} {:.1}Z", tip.x, tip.y, a.x, a.y, b.x, b.y)
    }
}

/// How far from the pod its gate stands: just outside the area.
const GATE_AT: f64 = 22.0;
/// How far lines are apart where they leave a pod, at most.
const SLOT: f64 = 15.0;

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    /// The id of the one who connects.
    pub from: String,
    /// The id of the pod or host that is connected to.
    pub to: String,
    /// The cells that run here.
    pub keys: Vec<CellKey>,
    /// Where it runs.
    pub curve: Curve,
    /// How far the next line is at the pod.
    pub room: f64,
}

/// What lights a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// All that is tried here is open.
    Open,
    /// Nothing is, and this side shuts it.
    Shut(Direction),
    /// Nothing is, and no side is named.
    Stopped,
    /// Some ports are open, some are not.
    Mixed,
    /// Not known.
    Unknown,
}

impl Signal {
    /// Name in the style sheet.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Shut(_) | Self::Stopped => "shut",
            Self::Mixed => "mixed",
            Self::Unknown => "unknown",
        }
    }

    /// In words.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Shut(Direction::Egress) => "shut by egress",
            Self::Shut(Direction::Ingress) => "shut by ingress",
            Self::Stopped => "not open",
            Self::Mixed => "open on some ports",
            Self::Unknown => "not known",
        }
    }
}

/// What lights a line with these cells, and whether the facts of one of them disagree.
pub fn signal<'a>(cells: impl Iterator<Item = &'a Cell>) -> (Signal, bool) {
    let (mut open, mut other, mut unknown, mut disagree) = (0, 0, 0, false);
    let mut shut = None;
    for cell in cells {
        disagree |= cell.agreement == Agreement::Disagree;
        match cell.probe.as_ref().map(|probe| probe.outcome) {
            Some(Outcome::Open) => open += 1,
            Some(outcome) if outcome.decision() == Some(Decision::Allowed) || outcome == Outcome::Dropped => {
                other += 1;
                shut = shut.or_else(|| look::shut(cell).map(|shut| shut.direction));
            }
            Some(Outcome::Unreachable) => other += 1,
            Some(_) | None => unknown += 1,
        }
    }
    let signal = match (open, other, unknown) {
        (0, 0, _) => Signal::Unknown,
        (_, 0, 0) => Signal::Open,
        (0, _, 0) => shut.map_or(Signal::Stopped, Signal::Shut),
        (0, _, _) => Signal::Unknown,
        (_, _, _) => Signal::Mixed,
    };
    (signal, disagree)
}

/// Whether a cell's last connection went along a line to this pod or host: a Service's goes to one of its pods only.
pub fn went_to(cell: &Cell, target: &str) -> bool {
    let backend = cell.probe.as_ref().and_then(|probe| probe.backend.as_deref());
    backend.is_none_or(|backend| backend == target)
}

/// The ids that a cell's packets may go to: the pods behind a Service, or the endpoint itself.
pub fn targets<'a>(directory: &'a Directory, key: &'a CellKey) -> Vec<&'a str> {
    match directory.get(&key.to) {
        Some(endpoint) if endpoint.kind == EndpointKind::Service => {
            endpoint.backends.iter().map(String::as_str).collect()
        }
        Some(_) | None => vec![key.to.as_str()],
    }
}

/// All lines. A pod to itself by its own address has none: no policy can touch it.
pub fn tracks<'a>(directory: &Directory, plan: &Plan, keys: impl Iterator<Item = &'a CellKey>) -> Vec<Track> {
    let nodes: BTreeMap<&str, &Node> = plan.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut pairs: BTreeMap<(&str, &str), Vec<CellKey>> = BTreeMap::new();
    for key in keys.filter(|key| key.from != key.to) {
        let Some((from, _)) = nodes.get_key_value(key.from.as_str()) else { continue };
        for target in targets(directory, key) {
            if let Some((to, _)) = nodes.get_key_value(target) {
                pairs.entry((from, to)).or_default().push(key.clone());
            }
        }
    }
    let mut ends: BTreeMap<&str, Vec<(f64, f64, usize, End)>> = BTreeMap::new();
    for (at, (from, to)) in pairs.keys().enumerate() {
        let (a, b) = (nodes[from], nodes[to]);
        ends.entry(from).or_default().push((bearing(a, b), lane(a, b, from <= to), at, End::From));
        ends.entry(to).or_default().push((bearing(b, a), lane(b, a, from <= to), at, End::To));
    }
    let mut slots: BTreeMap<(usize, End), (Point, f64)> = BTreeMap::new();
    for (id, list) in &mut ends {
        list.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)).then(a.3.cmp(&b.3)));
        let node = nodes[id];
        let edge = match node.side {
            Side::Top | Side::Bottom => node.rect.w,
            Side::Left | Side::Right => node.rect.h,
        };
        let room = ((edge - 10.0) / list.len() as f64).min(SLOT);
        for (nth, (_, _, track, end)) in list.iter().enumerate() {
            let along = (nth as f64 - (list.len() - 1) as f64 / 2.0) * room;
            slots.insert((*track, *end), (foot(node, along), room));
        }
    }
    let track = |(at, ((from, to), mut keys)): (usize, ((&str, &str), Vec<CellKey>))| {
        let (start, room) = slots[&(at, End::From)];
        let (end, other) = slots[&(at, End::To)];
        let (a, b) = (nodes[from].side, nodes[to].side);
        let depth = reach(plan, a == b, from == to, start.to(end));
        let points = [start, start.plus(inward(a), depth), end.plus(inward(b), depth), end];
        keys.sort();
        Track { from: from.to_owned(), to: to.to_owned(), keys, curve: Curve { points }, room: room.min(other) }
    };
    pairs.into_iter().enumerate().map(track).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    From,
    To,
}

/// How deep a line goes into the yard.
fn reach(plan: &Plan, same_side: bool, loops: bool, distance: f64) -> f64 {
    match (loops, same_side) {
        (true, _) => 64.0,
        (false, true) => (30.0 + distance * 0.36).clamp(60.0, plan.yard.h * 0.8),
        (false, false) => (distance * 0.42).clamp(50.0, plan.yard.h.max(plan.yard.w * 0.4) * 0.6),
    }
}

/// Into the yard.
const fn inward(side: Side) -> Point {
    match side {
        Side::Top => Point { x: 0.0, y: 1.0 },
        Side::Bottom => Point { x: 0.0, y: -1.0 },
        Side::Left => Point { x: 1.0, y: 0.0 },
        Side::Right => Point { x: -1.0, y: 0.0 },
    }
}

/// A point on the node's edge to the yard, so far from its middle.
fn foot(node: &Node, along: f64) -> Point {
    let rect = node.rect;
    let (x, y) = (rect.x + rect.w / 2.0, rect.y + rect.h / 2.0);
    match node.side {
        Side::Top => Point { x: x + along, y: rect.y + rect.h },
        Side::Bottom => Point { x: x + along, y: rect.y },
        Side::Left => Point { x: rect.x + rect.w, y: y + along },
        Side::Right => Point { x: rect.x, y: y + along },
    }
}

/// Where the other is as seen from a node's edge: the order of lines along the edge that makes them cross least.
fn bearing(node: &Node, other: &Node) -> f64 {
    if node.id == other.id {
        return -10.0;
    }
    let (a, b) = (foot(node, 0.0), foot(other, 0.0));
    let (dx, dy) = (b.x - a.x, b.y - a.y);
    let (along, away) = match node.side {
        Side::Top => (dx, dy),
        Side::Bottom => (dx, -dy),
        Side::Left => (dy, dx),
        Side::Right => (dy, -dx),
    };
    let angle = along.atan2(away.max(0.0));
    // Beside each other on one side, a near neighbour's line lies outside a far one's.
    if node.side == other.side { angle - along.signum() * along.abs() * 1e-5 } else { angle }
}

/// Lines there and back between two nodes must not cross: which of the two comes first along this node's edge.
fn lane(node: &Node, other: &Node, outward: bool) -> f64 {
    let mirrored = match (node.side, other.side) {
        (a, b) if a == b => node.rect.x > other.rect.x || node.rect.y > other.rect.y,
        (Side::Right, Side::Top) | (Side::Left, Side::Bottom) => true,
        (Side::Top | Side::Bottom | Side::Left | Side::Right, _) => false,
    };
    if mirrored == outward { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::plan::plan;
    use crate::model::sample;
    use std::sync::Arc;

    fn lesson() -> (Directory, Plan, Vec<Track>) {
        let snapshot = sample::wide_open();
        let directory = Directory::new(Arc::new(snapshot.endpoints));
        let keys: Vec<CellKey> = snapshot.cells.iter().map(|cell| cell.key.clone()).collect();
        let plan = plan(&directory, keys.iter());
        let tracks = tracks(&directory, &plan, keys.iter());
        (directory, plan, tracks)
    }

    #[test]
    fn lesson_one_has_a_line_for_each_check() {
        let (_, _, tracks) = lesson();
        assert_eq!(tracks.len(), 18);
        let internet: Vec<_> = tracks.iter().filter(|track| track.to == "outside:internet").collect();
        assert!(internet.iter().all(|track| track.keys.len() == 2));
    }

    #[test]
    fn lines_stay_in_the_yard() {
        let (_, plan, tracks) = lesson();
        for track in &tracks {
            for step in 0..=40 {
                let point = track.curve.at(f64::from(step) / 40.0);
                assert!((0.0..=plan.width).contains(&point.x), "{track:?}");
                for node in &plan.nodes {
                    let inside = point.x > node.rect.x + 0.1
                        && point.x < node.rect.x + node.rect.w - 0.1
                        && point.y > node.rect.y + 0.1
                        && point.y < node.rect.y + node.rect.h - 0.1;
                    assert!(!inside, "{} -> {} crosses {}", track.from, track.to, node.id);
                }
            }
        }
    }

    #[test]
    fn no_two_lines_share_a_foot() {
        let (_, _, tracks) = lesson();
        let feet: Vec<Point> = tracks.iter().flat_map(|track| [track.curve.at(0.0), track.curve.at(1.0)]).collect();
        for (at, foot) in feet.iter().enumerate() {
            for other in &feet[at + 1..] {
                assert!(foot.to(*other) > 3.0, "{foot:?} {other:?}");
            }
        }
    }

    #[test]
    fn gates_stand_near_their_ends() {
        let (_, _, tracks) = lesson();
        for track in tracks {
            let (out, into) = (track.curve.gate(Direction::Egress), track.curve.gate(Direction::Ingress));
            assert!(out < 0.5 && into > 0.5 && out < into, "{out} {into}");
        }
    }

    #[test]
    fn a_services_connection_goes_to_one_of_its_pods() {
        let mut cell = sample::wide_open().cells.remove(0);
        assert!(went_to(&cell, "pod:a/x"), "nobody knows: any of them");
        cell.probe.as_mut().expect("the sample is probed").backend = Some("pod:a/x".to_owned());
        assert!(went_to(&cell, "pod:a/x") && !went_to(&cell, "pod:a/y"));
    }

    #[test]
    fn a_line_is_lit_by_its_cells() {
        let open = sample::wide_open().cells.remove(0);
        let out = sample::cell_denied(Direction::Egress, "frontend", "zero-trust");
        let into = sample::cell_denied(Direction::Ingress, "backend", "zero-trust");
        let unknown = Cell { probe: None, ..open.clone() };
        let mut clash = open.clone();
        clash.agreement = Agreement::Disagree;
        for (cells, expected) in [
            (vec![], (Signal::Unknown, false)),
            (vec![&open], (Signal::Open, false)),
            (vec![&open, &clash], (Signal::Open, true)),
            (vec![&out], (Signal::Shut(Direction::Egress), false)),
            (vec![&into], (Signal::Shut(Direction::Ingress), false)),
            (vec![&open, &out], (Signal::Mixed, false)),
            (vec![&unknown], (Signal::Unknown, false)),
            (vec![&unknown, &out], (Signal::Unknown, false)),
        ] {
            assert_eq!(signal(cells.into_iter()), expected);
        }
    }
}
