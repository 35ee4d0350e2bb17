//! `externalhosts.signalbox.dev`: hosts outside the cluster that are reached, or that probes start from. The same fields as in the lab.

use serde_json::Value;

const DEFINITION: &str = include_str!("../../../assets/deploy/crd-externalhosts.yaml");

pub(super) fn definition() -> Value {
    serde_saphyr::from_str(DEFINITION).expect("assets/deploy/crd-externalhosts.yaml is YAML, by the test of the chart")
}
