//! Verdicts counted by what decided. The kernel counts by numbers of groups, which come and go; here the counts stay.

use std::{
    collections::{BTreeMap, HashSet},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
};

use signalbox_enforcer_common::{
    flow::{Outcome, VerdictKey},
    policy::Side,
    verdict::Reason,
};
use signalbox_policy::{PolicyRef, tables::Rest};

use super::{Datapath, sight::Sight};
use crate::{
    error::Error,
    group::Decided,
    names::{Names, told::side_of},
    sys,
};

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decider {
    /// The policy; absent where none decided, or where its name is not known any more.
    pub policy: Option<PolicyRef>,
    /// The side that decided.
    pub side: Option<Side>,
    /// What became of it.
    pub outcome: Outcome,
    /// `rule`, `isolation`, `not-understood`, `rest` (what stands behind the tiers), or a reason of the programs.
    pub by: &'static str,
}

/// Counts of groups that are gone, by name. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<Decider, u64>>>);

impl Datapath {
    /// Takes the counts of groups that are gone out of the kernel, while their names are known.
    pub(super) fn keep_verdicts(&self) -> Result<(), Error> {
        let error = |source| Error::Map { map: "VERDICTS", source };
        let in_use: HashSet<u32> = self.planner.groups_in_use();
        let mut kept = self.ledger.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = sys::count::sums::<VerdictKey>(self.maps.verdicts.fd(), VERDICTS_CAPACITY).map_err(error)?;
        let gone: Vec<(VerdictKey, u64)> =
            rows.into_iter().filter(|(key, _)| key.group() != 0 && !in_use.contains(&key.group())).collect();
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        for (key, count) in &gone {
            for decider in deciders(key, &names) {
                *kept.entry(decider).or_default() += count;
            }
        }
        let keys: Vec<VerdictKey> = gone.into_iter().map(|(key, _)| key).collect();
        sys::delete_all(self.maps.verdicts.fd(), &keys).map_err(error)
    }
}

/// Capacity of the map `VERDICTS`, as the object has it.
const VERDICTS_CAPACITY: u32 = 16_384;

impl Sight {
    /// All verdicts since the start, by what decided. Where several policies isolate a pod, a denial by isolation counts for each.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the read.
    pub fn verdicts(&self) -> Result<BTreeMap<Decider, u64>, Error> {
        let map = self.map("VERDICTS")?;
        let kept = self.ledger.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = sys::count::sums::<VerdictKey>(map.fd.as_fd(), map.layout.capacity);
        let mut counts = kept.clone();
        drop(kept);
        let names = self.names();
        for (key, count) in rows.map_err(|source| Error::Map { map: "VERDICTS", source })? {
            for decider in deciders(&key, &names) {
                *counts.entry(decider).or_default() += count;
            }
        }
        Ok(counts)
    }
}

fn deciders(key: &VerdictKey, names: &Names) -> Vec<Decider> {
    let Some(outcome) = key.outcome() else { return Vec::new() };
    let side = side_of(key.side());
    let one = |policy: Option<&PolicyRef>, by| vec![Decider { policy: policy.cloned(), side, outcome, by }];
    let reason = Reason::from_byte(key.reason());
    let content = side.and_then(|side| Some(names.group(key.group())?.side(side)));
    let isolated = || match content {
        Some(content) if content.rest == Rest::NotUnderstood => one(None, "not-understood"),
        Some(content) if !content.isolated_by.is_empty() => {
            content.isolated_by.iter().flat_map(|policy| one(Some(policy), "isolation")).collect()
        }
        Some(_) | None => one(None, "isolation"),
    };
    match (content.and_then(|content| content.decisions.get(key.decision() as usize)), reason) {
        (Some(Decided::Allow(rule) | Decided::Deny(rule)), _) => one(Some(&rule.policy), "rule"),
        (Some(Decided::NotUnderstood(rule)), _) => one(rule.as_ref().map(|rule| &rule.policy), "not-understood"),
        (Some(Decided::Rest(Rest::Shut)), _) | (None, Some(Reason::Isolated)) => isolated(),
        (Some(Decided::Rest(Rest::NotUnderstood)), _) => one(None, "not-understood"),
        (Some(Decided::Rest(Rest::Open)), _) => one(None, "rest"),
        (None, Some(reason)) => one(None, reason.as_str()),
        (None, None) => one(None, "rule"),
    }
}
