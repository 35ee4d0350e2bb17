//! Which labels a stand-in carries: as many of its model's as draw no traffic of a Service to it. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// What controllers put on pods for their own book-keeping: a new pod never has the same.
const BOOK_KEEPING: &[&str] = &[
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "controller-uid",
    "job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "batch.kubernetes.io/job-completion-index",
];
/// Up to so many labels all choices are tried, and beyond all of them go.
const MOST_CHOICES: usize = 8;

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The labels.
    pub labels: Labels,
    /// Those that were left out so that no Service selects the stand-in.
    pub dropped: Vec<String>,
    /// Some Service selects it: it has to be kept from ever being ready, so that it gets no traffic.
    pub hold_back: bool,
    /// How policies treat it otherwise than its model. Empty: alike.
    pub differences: Vec<String>,
}

/// Whether the labels that Services select by may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceLabels {
    /// One of each Service's goes, so that none selects it.
    Drop,
    /// They stay, and the stand-in is never ready.
    Keep,
}

/// Chooses. `selectors` are the Services' of the namespace; `differences` says how policies treat a pod with some labels
/// otherwise than the model.
pub fn choose(
    model: &Labels,
    selectors: &[Labels],
    service_labels: ServiceLabels,
    differences: impl Fn(&Labels) -> Vec<String>,
) -> Choice {
    let base: Labels = model
        .iter()
        .filter(|(key, _)| !BOOK_KEEPING.contains(&key.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let selecting: Vec<&Labels> = selectors.iter().filter(|selector| selects(selector, &base)).collect();
    if selecting.is_empty() || service_labels == ServiceLabels::Keep {
        let differences = differences(&base);
        return Choice { labels: base, dropped: Vec::new(), hold_back: !selecting.is_empty(), differences };
    }
    let mut best: Option<Choice> = None;
    for dropped in droppable(&selecting) {
        let labels: Labels =
            base.iter().filter(|(key, _)| !dropped.contains(*key)).map(|(k, v)| (k.clone(), v.clone())).collect();
        let differences = differences(&labels);
        let found = differences.len();
        let choice = Choice { labels, dropped: dropped.into_iter().collect(), hold_back: false, differences };
        if found == 0 {
            return choice;
        }
        if best.as_ref().is_none_or(|best| found < best.differences.len()) {
            best = Some(choice);
        }
    }
    best.unwrap_or(Choice { labels: base, dropped: Vec::new(), hold_back: true, differences: Vec::new() })
}

/// Sets of keys without which none of the selectors selects any longer, smallest first.
fn droppable(selecting: &[&Labels]) -> Vec<BTreeSet<String>> {
    let keys: Vec<&String> =
        selecting.iter().flat_map(|selector| selector.keys()).collect::<BTreeSet<_>>().into_iter().collect();
    if keys.len() > MOST_CHOICES {
        return vec![keys.into_iter().cloned().collect()];
    }
    let of =
        |bits: u32| keys.iter().enumerate().filter(move |(n, _)| bits & (1 << n) != 0).map(|(_, key)| (*key).clone());
    let mut sets: Vec<BTreeSet<String>> = (1_u32..1 << keys.len()).map(|bits| of(bits).collect()).collect();
    sets.retain(|set| selecting.iter().all(|selector| selector.keys().any(|key| set.contains(key))));
    sets.sort_by_key(BTreeSet::len);
    sets
}

/// Whether a Service's selector selects a pod. One without any pair selects none.
fn selects(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn what_is_kept() {
        // The model, the Services' selectors, the labels that policies need, what is kept, what is dropped, whether alike.
        let cases = [
            ("run=web tier=front", vec!["run=web"], "tier", "tier=front", "run", true),
            ("run=web tier=front", vec!["run=web tier=front"], "tier", "tier=front", "run", true),
            ("run=web tier=front", vec!["run=web tier=front"], "run", "run=web", "tier", true),
            ("run=web tier=front", vec!["run=web"], "run", "tier=front", "run", false),
            ("run=web", vec!["run=other", ""], "run", "run=web", "", true),
            ("a=1 b=1 c=1", vec!["a=1 b=1", "b=1 c=1"], "a c", "a=1 c=1", "b", true),
            ("a=1 b=1 c=1", vec!["a=1 b=1", "b=1 c=1"], "b", "b=1", "a c", true),
            ("run=web pod-template-hash=1", vec![], "run", "run=web", "", true),
        ];
        for (model, selectors, needed, kept, dropped, alike) in cases {
            let selectors: Vec<Labels> = selectors.into_iter().map(labels).collect();
            let missing = |labels: &Labels| {
                needed.split(' ').filter(|key| !labels.contains_key(*key)).map(str::to_owned).collect::<Vec<_>>()
            };
            let choice = choose(&labels(model), &selectors, ServiceLabels::Drop, missing);
            let dropped: Vec<&str> = dropped.split_whitespace().collect();
            assert_eq!(
                (choice.labels, choice.dropped),
                (labels(kept), dropped.into_iter().map(str::to_owned).collect()),
                "{model}"
            );
            assert_eq!((choice.differences.is_empty(), choice.hold_back), (alike, false), "{model}");
        }
    }

    #[test]
    fn labels_that_stay_by_wish_hold_the_pod_back_where_a_service_selects_it() {
        for (selector, hold_back) in [("run=web", true), ("run=other", false)] {
            let choice = choose(&labels("run=web"), &[labels(selector)], ServiceLabels::Keep, |_| Vec::new());
            assert_eq!((choice.labels, choice.hold_back), (labels("run=web"), hold_back));
        }
    }
}
