//! Pods that no connection tells apart are drawn as one.

use std::collections::{BTreeMap, HashMap};

use signalbox_policy::analyze::{Link, Place};

use super::label;

/// What is drawn.
pub(super) struct Picture {
    /// Sorted by namespace and name.
    pub groups: Vec<Group>,
    pub edges: Vec<Edge>,
}

/// Places with the same connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub members: Vec<Place>,
}

/// A line between two groups, or from a group to itself: its pods reach each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub from: usize,
    pub to: usize,
    pub label: String,
    pub is_unknown: bool,
    /// The same is open the other way round.
    pub is_mutual: bool,
}

/// What goes from one place to the others, and what comes from them.
type Profile = BTreeMap<(usize, Way), Vec<String>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Out,
    In,
}

impl Picture {
    /// From sorted places, and links between them.
    pub(super) fn of(places: &[Place], links: &[Link]) -> Self {
        let index: HashMap<&Place, usize> = places.iter().enumerate().map(|(at, place)| (place, at)).collect();
        let mut profiles: Vec<Profile> = vec![Profile::new(); places.len()];
        let mut lines: BTreeMap<(usize, usize, String, bool), ()> = BTreeMap::new();
        for link in links {
            let (from, to) = (index[&link.from], index[&link.to]);
            for is_unknown in [false, true] {
                let traffic = if is_unknown { &link.reach.unknown } else { &link.reach.open };
                if traffic.is_empty() {
                    continue;
                }
                let label = label(link, is_unknown);
                profiles[from].entry((to, Way::Out)).or_default().push(label.clone());
                profiles[to].entry((from, Way::In)).or_default().push(label.clone());
                lines.insert((from, to, label, is_unknown), ());
            }
        }
        let (groups, group_of) = groups(places, &profiles);
        let mut edges: BTreeMap<(usize, usize, String, bool), ()> = BTreeMap::new();
        for (from, to, label, is_unknown) in lines.into_keys() {
            edges.insert((group_of[from], group_of[to], label, is_unknown), ());
        }
        let is_there =
            |from, to, label: &String, is_unknown| edges.contains_key(&(from, to, label.clone(), is_unknown));
        let drawn = edges.keys().filter_map(|(from, to, label, is_unknown)| {
            let is_mutual = from != to && is_there(*to, *from, label, *is_unknown);
            let edge = Edge { from: *from, to: *to, label: label.clone(), is_unknown: *is_unknown, is_mutual };
            (!is_mutual || from < to).then_some(edge)
        });
        Self { edges: drawn.collect(), groups }
    }
}

fn groups(places: &[Place], profiles: &[Profile]) -> (Vec<Group>, Vec<usize>) {
    let mut groups: Vec<(usize, Group)> = Vec::new();
    let mut group_of = Vec::with_capacity(places.len());
    for (at, place) in places.iter().enumerate() {
        let namespace = crate::scope::namespace(place);
        let twin = groups.iter().position(|(first, _)| {
            namespace.is_some()
                && crate::scope::namespace(&places[*first]) == namespace
                && are_twins(*first, at, profiles)
        });
        match twin {
            Some(twin) => {
                groups[twin].1.members.push(place.clone());
                group_of.push(twin);
            }
            None => {
                group_of.push(groups.len());
                groups.push((at, Group { members: vec![place.clone()] }));
            }
        }
    }
    (groups.into_iter().map(|(_, group)| group).collect(), group_of)
}

/// Whether two have the same connections with all others, and with each other the same both ways.
fn are_twins(a: usize, b: usize, profiles: &[Profile]) -> bool {
    let others = |of: usize, other: usize| profiles[of].iter().filter(move |((to, _), _)| *to != other);
    let ways = |of: usize, other: usize| [Way::Out, Way::In].map(|way| profiles[of].get(&(other, way)));
    let [to_b, from_b] = ways(a, b);
    to_b == from_b && others(a, b).eq(others(b, a))
}

impl Group {
    pub(super) fn namespace(&self) -> Option<&str> {
        self.members.first().and_then(crate::scope::namespace)
    }

    /// As it stands beside the dot.
    pub(super) fn label(&self) -> String {
        let first = self.members.first().map(ToString::to_string).unwrap_or_default();
        match self.members.len() {
            0 | 1 => super::shortened(&first),
            count => format!("{} +{}", super::shortened(&first), count - 1),
        }
    }

    /// All of it.
    pub(super) fn title(&self) -> String {
        const MOST: usize = 20;
        let names: Vec<String> = self.members.iter().take(MOST).map(ToString::to_string).collect();
        let rest = self.members.len().saturating_sub(MOST);
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        format!("{}{more}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use signalbox_policy::PodRef;
    use signalbox_policy::reach::Reach;
    use signalbox_policy::traffic::Traffic;

    use super::*;

    fn pod(name: &str) -> Place {
        Place::Pod(PodRef { namespace: "x".to_owned(), name: name.to_owned() })
    }

    #[test]
    fn replicas_are_one_dot_also_where_they_reach_each_other() {
        let places = [pod("db"), pod("web-1"), pod("web-2"), pod("web-3")];
        let open = || Reach { open: Traffic::all(), ..Reach::default() };
        let mut links = Vec::new();
        for from in &places[1..] {
            for to in places.iter().filter(|to| *to != from) {
                links.push(Link { from: from.clone(), to: to.clone(), family: None, reach: open() });
            }
        }
        let picture = Picture::of(&places, &links);
        assert_eq!(picture.groups.iter().map(Group::label).collect::<Vec<_>>(), ["x/db", "x/web-1 +2"]);
        let edges: Vec<_> = picture.edges.iter().map(|edge| (edge.from, edge.to, edge.is_mutual)).collect();
        assert_eq!(edges, [(1, 0, false), (1, 1, false)]);
    }
}
