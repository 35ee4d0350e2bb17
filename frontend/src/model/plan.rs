//! Where things stand on the map. Areas lie around a yard; every pod has one edge to the yard, and all lines run inside
//! it, so that no line ever crosses a pod or a name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use signalbox_api::cell::CellKey;
use signalbox_api::state::{Endpoint, EndpointKind};

use super::directory::Directory;

/// The side of the yard that something lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Above the yard.
    Top,
    /// Below it.
    Bottom,
    /// Left of it.
    Left,
    /// Right of it.
    Right,
}

/// A rectangle, in the map's own units.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    pub w: f64,
    /// Height.
    pub h: f64,
}

impl Rect {
    /// Whether two of them share more than an edge.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.x < other.x + other.w
            && other.x < self.x + self.w
            && self.y < other.y + other.h
            && other.y < self.y + self.h
    }

    /// Whether the other lies inside.
    pub fn holds(&self, other: &Self) -> bool {
        self.x <= other.x
            && self.y <= other.y
            && self.x + self.w >= other.x + other.w
            && self.y + self.h >= other.y + other.h
    }
}

/// A namespace, or a network outside the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Area {
    /// Its name.
    pub title: String,
    /// Whether it is outside the cluster.
    pub outside: bool,
    /// Where it is.
    pub rect: Rect,
}

/// A pod or an outside host.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The endpoint's id.
    pub id: String,
    /// What stands on it; short enough for its width.
    pub label: String,
    /// Its full name.
    pub name: String,
    /// Outside the cluster.
    pub outside: bool,
    /// Ready.
    pub ready: bool,
    /// Which side of the yard it is on.
    pub side: Side,
    /// Where it is.
    pub rect: Rect,
}

/// The whole map without its lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Its width.
    pub width: f64,
    /// Its height.
    pub height: f64,
    /// Where the lines run.
    pub yard: Rect,
    /// Areas.
    pub areas: Vec<Area>,
    /// Nodes.
    pub nodes: Vec<Node>,
}

const MARGIN: f64 = 8.0;
const PAD: f64 = 12.0;
const TITLE: f64 = 24.0;
const GAP: f64 = 28.0;
const NODE_H: f64 = 40.0;
const NODE_GAP: f64 = 12.0;
const SIDE_NODE_W: f64 = 128.0;
/// As wide as a yard is at least: a map is read on screens that are wider than high.
const SMALLEST_YARD: f64 = 640.0;
/// Width of a letter of a label, more or less.
const LETTER: f64 = 7.6;

/// Lays out all pods and outside hosts that take part in any of these connections.
pub fn plan<'a>(directory: &Directory, keys: impl Iterator<Item = &'a CellKey>) -> Plan {
    let mut taking_part: BTreeSet<&str> = BTreeSet::new();
    for key in keys {
        for id in [&key.from, &key.to] {
            match directory.get(id) {
                Some(endpoint) if endpoint.kind == EndpointKind::Service => {
                    taking_part.extend(endpoint.backends.iter().map(String::as_str));
                }
                Some(endpoint) => {
                    taking_part.insert(endpoint.id.as_str());
                }
                None => {}
            }
        }
    }
    let mut namespaces: BTreeMap<String, Vec<&Endpoint>> = BTreeMap::new();
    let mut networks: BTreeMap<String, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in taking_part.iter().filter_map(|id| directory.get(id)) {
        match endpoint.kind {
            EndpointKind::Pod => namespaces.entry(directory.place(&endpoint.id)).or_default().push(endpoint),
            EndpointKind::Outside => networks.entry(network(endpoint)).or_default().push(endpoint),
            EndpointKind::Service => {}
        }
    }
    // Networks that connect inwards stand on the left, where reading begins.
    let mut networks: Vec<(String, Vec<&Endpoint>)> = networks.into_iter().collect();
    networks.sort_by_key(|(title, hosts)| (!hosts.iter().any(|host| host.vantage), title.clone()));

    let rows = [Side::Bottom, Side::Top].map(|side| {
        let odd = usize::from(side == Side::Top);
        namespaces.iter().enumerate().filter(|(at, _)| at % 2 == odd).map(|(_, area)| area).collect::<Vec<_>>()
    });
    let pods_in = |row: &[(&String, &Vec<&Endpoint>)]| row.iter().map(|(_, pods)| pods.len()).sum::<usize>();
    let most = rows.iter().map(|row| pods_in(row)).max().unwrap_or(0);
    let node_w = (1240.0 / most.max(1) as f64 - NODE_GAP).clamp(84.0, 132.0);
    let area_w = |pods: usize| pods as f64 * (node_w + NODE_GAP) - NODE_GAP + 2.0 * PAD;
    let row_w = |row: &[(&String, &Vec<&Endpoint>)]| {
        row.iter().map(|(_, pods)| area_w(pods.len()) + GAP).sum::<f64>() - if row.is_empty() { 0.0 } else { GAP }
    };

    let column_h = |column: &[&(String, Vec<&Endpoint>)]| {
        column.iter().map(|(_, hosts)| host_area_h(hosts.len()) + GAP).sum::<f64>() - GAP
    };
    let columns = [0, 1].map(|odd| networks.iter().skip(odd).step_by(2).collect::<Vec<_>>());
    let side_w = SIDE_NODE_W + 2.0 * PAD;
    let widest = rows.iter().map(|row| row_w(row)).fold(SMALLEST_YARD, f64::max);
    let tallest = columns.iter().map(|column| column_h(column)).fold(0.0, f64::max);
    let yard_h = (widest * 0.42).clamp(260.0, 470.0).max(tallest + 2.0 * GAP);
    let area_h = TITLE + NODE_H + PAD;
    let left = MARGIN + if columns[0].is_empty() { 0.0 } else { side_w + GAP };
    let yard = Rect { x: left, y: MARGIN + area_h, w: widest, h: yard_h };
    let right = if columns[1].is_empty() { 0.0 } else { side_w + GAP };

    let mut plan = Plan {
        width: left + widest + right + MARGIN,
        height: yard.y + yard.h + area_h + MARGIN,
        yard,
        areas: Vec::new(),
        nodes: Vec::new(),
    };
    for (row, side) in rows.iter().zip([Side::Bottom, Side::Top]) {
        let mut x = yard.x + (yard.w - row_w(row)) / 2.0;
        for (namespace, pods) in row {
            let w = area_w(pods.len());
            let (y, node_y) = match side {
                Side::Top => (MARGIN, MARGIN + TITLE),
                Side::Bottom | Side::Left | Side::Right => (yard.y + yard.h, yard.y + yard.h + PAD),
            };
            let rect = Rect { x, y, w, h: area_h };
            plan.areas.push(Area { title: (*namespace).clone(), outside: false, rect });
            for (at, pod) in pods.iter().enumerate() {
                let x = x + PAD + at as f64 * (node_w + NODE_GAP);
                plan.nodes.push(node(directory, pod, side, Rect { x, y: node_y, w: node_w, h: NODE_H }));
            }
            x += w + GAP;
        }
    }
    for (column, side) in columns.iter().zip([Side::Left, Side::Right]) {
        let x = match side {
            Side::Left => MARGIN,
            Side::Right | Side::Top | Side::Bottom => plan.width - MARGIN - side_w,
        };
        let mut y = yard.y + (yard.h - column_h(column)) / 2.0;
        for (title, hosts) in column {
            let h = host_area_h(hosts.len());
            plan.areas.push(Area { title: title.clone(), outside: true, rect: Rect { x, y, w: side_w, h } });
            for (at, host) in hosts.iter().enumerate() {
                let y = y + TITLE + at as f64 * (NODE_H + NODE_GAP);
                plan.nodes.push(node(directory, host, side, Rect { x: x + PAD, y, w: SIDE_NODE_W, h: NODE_H }));
            }
            y += h + GAP;
        }
    }
    plan
}

fn host_area_h(hosts: usize) -> f64 {
    TITLE + hosts as f64 * (NODE_H + NODE_GAP) - NODE_GAP + PAD
}

fn node(directory: &Directory, endpoint: &Endpoint, side: Side, rect: Rect) -> Node {
    // The icon and the padding take 34 units.
    let letters = ((rect.w - 34.0) / LETTER).max(3.0) as usize;
    Node {
        id: endpoint.id.clone(),
        label: shorten(&directory.short(&endpoint.id), letters),
        name: directory.long(&endpoint.id),
        outside: endpoint.kind == EndpointKind::Outside,
        ready: endpoint.ready,
        side,
        rect,
    }
}

/// Cuts the middle out of a name that is too long: beginnings and endings tell names apart.
fn shorten(name: &str, letters: usize) -> String {
    let all: Vec<char> = name.chars().collect();
    if all.len() <= letters {
        return name.to_owned();
    }
    let tail = (letters - 1) / 2;
    let head = letters - 1 - tail;
    all[..head].iter().chain(['…'].iter()).chain(&all[all.len() - tail..]).collect()
}

/// The network that an outside host belongs to: by its label, else by its first address.
fn network(host: &Endpoint) -> String {
    if let Some(name) = host.labels.get("signalbox.dev/network") {
        return name.clone();
    }
    match host.addresses.first() {
        Some(IpAddr::V4(address)) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        None => "outside".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;
    use std::sync::Arc;

    fn crowd(namespaces: usize, pods: usize) -> Plan {
        let mut snapshot = sample::wide_open();
        let pattern = snapshot.endpoints[0].clone();
        let mut keys: Vec<CellKey> = snapshot.cells.iter().map(|cell| cell.key.clone()).collect();
        for namespace in 0..namespaces {
            for pod in 0..pods {
                let mut endpoint = pattern.clone();
                endpoint.id = format!("pod:team-{namespace}/a-rather-long-name-{pod}");
                endpoint.namespace = Some(format!("team-{namespace}"));
                endpoint.workload = format!("team-{namespace}/a-rather-long-name-{pod}");
                keys.push(sample::key(&endpoint.id, "outside:database", 3306));
                snapshot.endpoints.push(endpoint);
            }
        }
        plan(&Directory::new(Arc::new(snapshot.endpoints)), keys.iter())
    }

    fn check(plan: &Plan) {
        let whole = Rect { x: 0.0, y: 0.0, w: plan.width, h: plan.height };
        for (at, area) in plan.areas.iter().enumerate() {
            assert!(whole.holds(&area.rect), "{area:?}");
            for other in &plan.areas[at + 1..] {
                assert!(!area.rect.overlaps(&other.rect), "{area:?} {other:?}");
            }
        }
        for (at, node) in plan.nodes.iter().enumerate() {
            assert!(!node.rect.overlaps(&plan.yard), "{node:?} stands in the yard");
            assert!(plan.areas.iter().any(|area| area.rect.holds(&node.rect)), "{node:?} is in no area");
            for other in &plan.nodes[at + 1..] {
                assert!(!node.rect.overlaps(&other.rect), "{node:?} {other:?}");
            }
        }
    }

    #[test]
    fn nothing_overlaps_with_three_pods_or_with_thirty() {
        let small = crowd(0, 0);
        check(&small);
        assert_eq!((small.areas.len(), small.nodes.len()), (4, 6));
        for (namespaces, pods) in [(1, 1), (1, 10), (3, 9), (9, 3), (27, 1)] {
            let plan = crowd(namespaces, pods);
            check(&plan);
            assert_eq!(plan.nodes.len(), 6 + namespaces * pods);
        }
    }

    #[test]
    fn the_same_cluster_gives_the_same_map() {
        assert_eq!(crowd(3, 4), crowd(3, 4));
    }

    #[test]
    fn those_who_connect_inwards_stand_on_the_left() {
        let plan = crowd(0, 0);
        let side = |id: &str| plan.nodes.iter().find(|node| node.id == id).map(|node| node.side);
        assert_eq!(side("outside:users"), Some(Side::Left));
        assert_eq!(side("outside:database"), Some(Side::Left));
        assert_eq!(side("outside:internet"), Some(Side::Right));
        assert_eq!(side("pod:frontend/web-6d4-aaaaa"), Some(Side::Top));
    }

    #[test]
    fn long_names_keep_their_ends() {
        assert_eq!(shorten("web", 9), "web");
        assert_eq!(shorten("checkout-worker", 9), "chec…rker");
        assert_eq!(plan(&Directory::default(), [].iter()).nodes, []);
    }
}
