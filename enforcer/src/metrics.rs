//! For Prometheus. What is counted here is counted in [`Meters`]; all else is read from the kernel when it is asked for.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use signalbox_api::{
    kernel::EnforcerStatus,
    node::{Condition, EventTally, MapFill},
};
use signalbox_enforcer_common::{flow::Outcome, policy::Side};

use crate::{
    datapath::{sight::Statistics, verdicts::Decider},
    error::Error,
};

/// What text of this kind is called on the web.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is counted as it happens. Cheap to clone: all clones count together.
#[derive(Clone, Debug)]
pub struct Meters {
    /// From the arrival of a change at the agent until the kernel judges by it, in seconds.
    pub apply: Histogram,
    /// From the appearance of a new pod's interface until its policies are in force, in seconds.
    pub exposure: Histogram,
    /// Packets that passed, and that were dropped, in that time.
    pub unjudged_passed: Counter,
    /// See [`Meters::unjudged_passed`].
    pub unjudged_dropped: Counter,
    /// What went wrong, and is tried again.
    pub errors: Counter,
    /// Events on policies that were written.
    pub condition_events: Counter,
    /// Those that the API did not take.
    pub condition_events_refused: Counter,
}

impl Default for Meters {
    fn default() -> Self {
        // From half a millisecond to eight seconds.
        Self {
            apply: Histogram::new(exponential_buckets(0.000_5, 2.0, 15)),
            exposure: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            unjudged_passed: Counter::default(),
            unjudged_dropped: Counter::default(),
            errors: Counter::default(),
            condition_events: Counter::default(),
            condition_events_refused: Counter::default(),
        }
    }
}

/// One look at everything.
#[derive(Debug)]
pub struct Reading {
    /// The agent's condition.
    pub status: EnforcerStatus,
    /// Local pods that are not found on the node.
    pub missing: u64,
    /// What was told of verdicts and what was left out.
    pub events: EventTally,
    /// What the kernel counts of itself.
    pub statistics: Statistics,
    /// The kernel's tables.
    pub maps: Vec<MapFill>,
    /// Verdicts by what decided.
    pub verdicts: BTreeMap<Decider, u64>,
    /// Policies that are not enforced entirely.
    pub conditions: Vec<Condition>,
    /// Everything is let pass.
    pub audit: bool,
}

/// The text that Prometheus reads.
///
/// # Errors
///
/// Never, unless there is a fault in the library.
pub fn text(meters: &Meters, reading: Reading) -> Result<String, Error> {
    let mut registry = Registry::with_prefix("signalbox_node");
    registry.register_with_unit(
        "apply",
        "From the arrival of a change at the agent until the kernel judges by it",
        Unit::Seconds,
        meters.apply.clone(),
    );
    registry.register_with_unit(
        "exposure",
        "From the appearance of a new pod's interface until its policies are in force",
        Unit::Seconds,
        meters.exposure.clone(),
    );
    registry.register(
        "unjudged_passed",
        "Packets of new pods that passed before their policies were in force",
        meters.unjudged_passed.clone(),
    );
    registry.register(
        "unjudged_dropped",
        "Packets of new pods that were dropped before their policies were in force",
        meters.unjudged_dropped.clone(),
    );
    registry.register("errors", "Failures that are tried again", meters.errors.clone());
    registry.register(
        "condition_events",
        "Kubernetes Events that were written on policies",
        meters.condition_events.clone(),
    );
    registry.register(
        "condition_events_refused",
        "Kubernetes Events on policies that the API did not take",
        meters.condition_events_refused.clone(),
    );
    registry.register_collector(Box::new(reading));
    let mut text = String::new();
    text::encode(&mut text, &registry).map_err(|_| Error::Worker)?;
    Ok(text)
}

type Labels = Vec<(&'static str, String)>;

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let status = &self.status;
        let none = Labels::new();
        let mut gauge = |name: &str, help: &str, rows: &[(Labels, u64)]| gauges(&mut encoder, name, help, rows);
        gauge(
            "enforcing",
            "1 where the newest tables are live on every local pod",
            &[(none.clone(), status.enforcing.into())],
        )?;
        gauge("audit", "1 where everything is let pass", &[(none.clone(), self.audit.into())])?;
        gauge("generation", "The generation of the tables in force", &[(none.clone(), status.generation.into())])?;
        gauge(
            "policies_version",
            "The newest resourceVersion of any NetworkPolicy in force",
            &[(none.clone(), status.policies_version)],
        )?;
        let pods = [("bound", u64::from(status.pods)), ("missing", self.missing)];
        gauge(
            "pods",
            "Local pods, by whether they are found on the node",
            &pods.map(|(state, count)| (vec![("state", state.to_owned())], count)),
        )?;
        gauge(
            "problems",
            "Sentences in the status that say what is wrong",
            &[(none.clone(), status.problems.len() as u64)],
        )?;
        let mut conditions: BTreeMap<(String, String), u64> = BTreeMap::new();
        for condition in &self.conditions {
            *conditions.entry((condition.object.clone(), condition.reason.clone())).or_default() += 1;
        }
        let rows: Vec<(Labels, u64)> = conditions
            .into_iter()
            .map(|((object, reason), count)| (vec![("object", object), ("reason", reason)], count))
            .collect();
        gauge("conditions", "Fields of policies that are not enforced as they are written", &rows)?;
        let rows = |value: fn(&MapFill) -> u64| -> Vec<(Labels, u64)> {
            self.maps.iter().map(|map| (vec![("map", map.name.clone())], value(map))).collect()
        };
        gauge("map_entries", "Entries of the kernel's tables", &rows(|map| map.entries))?;
        gauge("map_capacity", "Entries that the kernel's tables have room for", &rows(|map| map.capacity))?;
        let mut counter = |name: &str, help: &str, rows: &[(Labels, u64)]| counters(&mut encoder, name, help, rows);
        let events = [("told", self.events.told), ("suppressed", self.events.suppressed), ("lost", self.events.lost)];
        counter(
            "events",
            "Verdicts that were worth an event: told, suppressed by the limit per flow, lost in a full ring buffer",
            &events.map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count)),
        )?;
        counter(
            "mended",
            "Programs, links, qdiscs and pins that somebody had removed and that were put back",
            &[(none.clone(), status.mended)],
        )?;
        counter(
            "flows_unremembered",
            "Flows that found no room in the table of flows",
            &[(none.clone(), self.statistics.unremembered)],
        )?;
        counter(
            "verdicts_uncounted",
            "Verdicts that found no room in the table of verdicts",
            &[(none, self.statistics.uncounted)],
        )?;
        let rows: Vec<(Labels, u64)> = self.verdicts.iter().map(|(decider, count)| (labels(decider), *count)).collect();
        counter(
            "verdicts",
            "New flows that were allowed by a rule, and packets that were denied or would be, by what decided",
            &rows,
        )
    }
}

fn labels(decider: &Decider) -> Labels {
    let policy = decider.policy.as_ref();
    let direction = match decider.side {
        Some(Side::Ingress) => "ingress",
        Some(Side::Egress) => "egress",
        None => "",
    };
    let verdict = match decider.outcome {
        Outcome::Allowed => "allowed",
        Outcome::Denied => "denied",
        Outcome::WouldBeDenied => "would-be-denied",
    };
    vec![
        ("kind", policy.map(|policy| policy.kind.to_owned()).unwrap_or_default()),
        ("namespace", policy.and_then(|policy| policy.namespace.clone()).unwrap_or_default()),
        ("policy", policy.map(|policy| policy.name.clone()).unwrap_or_default()),
        ("direction", direction.to_owned()),
        ("verdict", verdict.to_owned()),
        ("by", decider.by.to_owned()),
    ]
}

/// A family; without labels it has one row.
fn gauges(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, rows: &[(Labels, u64)]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in rows {
        // Larger than any figure of ours ever gets.
        let value = ConstGauge::new(i64::try_from(*value).unwrap_or(i64::MAX));
        if labels.is_empty() {
            return value.encode(family);
        }
        value.encode(family.encode_family(labels)?)?;
    }
    Ok(())
}

/// The same for counters.
fn counters(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, rows: &[(Labels, u64)]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in rows {
        let value = ConstCounter::new(*value);
        if labels.is_empty() {
            return value.encode(family);
        }
        value.encode(family.encode_family(labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use signalbox_policy::PolicyRef;

    use super::*;

    #[test]
    fn names_and_labels() {
        let decider = |outcome| Decider {
            policy: Some(PolicyRef::network_policy("shop", "a\"b")),
            side: Some(Side::Ingress),
            outcome,
            by: "rule",
        };
        let reading = Reading {
            status: EnforcerStatus { generation: 7, pods: 2, enforcing: true, ..EnforcerStatus::default() },
            missing: 1,
            events: EventTally { told: 3, suppressed: 4, lost: 5 },
            statistics: Statistics::default(),
            maps: vec![MapFill { name: "FLOWS".to_owned(), entries: 6, capacity: 8 }],
            verdicts: [(decider(Outcome::Allowed), 9), (decider(Outcome::Denied), 10)].into(),
            conditions: Vec::new(),
            audit: false,
        };
        let meters = Meters::default();
        meters.apply.observe(0.003);
        meters.exposure.observe(0.1);
        meters.unjudged_dropped.inc_by(6);
        let text = text(&meters, reading).expect("text");
        for line in [
            "signalbox_node_enforcing 1",
            "signalbox_node_generation 7",
            "signalbox_node_pods{state=\"missing\"} 1",
            "signalbox_node_map_entries{map=\"FLOWS\"} 6",
            "signalbox_node_map_capacity{map=\"FLOWS\"} 8",
            "signalbox_node_events_total{outcome=\"suppressed\"} 4",
            "signalbox_node_apply_seconds_bucket{le=\"0.004\"} 1",
            "signalbox_node_apply_seconds_count 1",
            "signalbox_node_errors_total 0",
            "signalbox_node_exposure_seconds_count 1",
            "signalbox_node_unjudged_passed_total 0",
            "signalbox_node_unjudged_dropped_total 6",
            "signalbox_node_mended_total 0",
            "signalbox_node_verdicts_total{kind=\"NetworkPolicy\",namespace=\"shop\",policy=\"a\\\"b\",direction=\"ingress\",verdict=\"denied\",by=\"rule\"} 10",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
