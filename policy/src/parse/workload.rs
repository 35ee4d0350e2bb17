//! Workloads: Deployment and the like, which stand for their pods when only manifests are at hand.

use std::collections::HashSet;

use serde_json::Value;

use crate::names::PodRef;
use crate::parse::problem::Problem;
use crate::pod::Pod;

/// What a workload says of its pods.
#[derive(Clone, Debug)]
pub(crate) struct Workload {}

/// Whose a pod is.
#[derive(Debug)]
pub(crate) struct Owned {}

/// One pod in the name of a workload.
pub(crate) struct StandIn {
    pub pod: Pod,
    pub problems: Vec<Problem>,
}

impl Owned {
    pub(crate) fn of(_value: &Value, _pod: &Pod) -> Self {
        Self {}
    }
}

impl StandIn {
    /// Two workloads of one namespace may have one name: the later one adds its kind.
    pub(crate) fn named_apart_from(self, _taken: &HashSet<PodRef>) -> Self {
        self
    }
}

pub(crate) fn workload(_value: &Value, _kind: &'static str) -> (Option<Workload>, Vec<Problem>) {
    (None, Vec::new())
}

/// One pod for each workload that has none.
pub(crate) fn stand_ins(_workloads: Vec<Workload>, _owned: &[&Owned]) -> Vec<StandIn> {
    Vec::new()
}
