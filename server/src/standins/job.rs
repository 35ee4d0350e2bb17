//! The Job of a stand-in. Pure.

use serde_json::{Value, json};
use signalbox_api::flow::Protocol;

use super::plan::{Plan, own_labels, port};
use crate::matrix::parse::RUN_LABEL;

/// How long a stand-in lives if no server pushes its deadline on, in seconds.
pub const LIFE_S: u64 = 90;
/// The annotation of a stand-in's Job: until when, in Unix seconds, its server meant to live.
pub const ALIVE_UNTIL: &str = "signalbox.dev/alive-until";
/// Selects the Jobs of all stand-ins.
pub const SELECTOR: &str = "app.kubernetes.io/part-of=signalbox,app.kubernetes.io/component=probe";
/// A condition that nobody ever sets: a pod with this gate is never ready, and no Service sends it traffic.
const NEVER: &str = "signalbox.dev/never";
/// Whom the probe runs as.
const USER: u32 = 65_532;

/// What does not depend on the model.
#[derive(Clone, Debug)]
pub struct Style {
    /// The probe's image.
    pub image: String,
    /// The probe's program in it.
    pub program: String,
}

/// The Job of one stand-in, on a node if one is given.
pub fn job(plan: &Plan, style: &Style, name: &str, run: &str, node: Option<&str>, alive_until: u64) -> Value {
    let template = &plan.template;
    let mut labels = plan.choice.labels.clone();
    labels.extend(own_labels(template));
    let mut arguments = vec!["serve".to_owned(), "--name".to_owned(), "$(POD_NAME)".to_owned()];
    // Lower ports need a capability on most runtimes. Nobody listening there is told from a denial all the same.
    for port in template.ports.iter().filter(|port| port.port >= 1_024 && port.protocol != Protocol::Sctp) {
        arguments.extend(["--port".to_owned(), format!("{}/{}", port.protocol, port.port)]);
    }
    let ports: Vec<Value> = template.ports.iter().map(port).collect();
    let mut spec = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "serviceAccountName": template.service_account,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{
            "name": "probe",
            "image": style.image,
            "imagePullPolicy": "IfNotPresent",
            "command": [style.program],
            "args": arguments,
            "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "ports": ports,
            "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
            },
        }],
    });
    if plan.choice.hold_back {
        spec["readinessGates"] = json!([{"conditionType": NEVER}]);
    }
    if let Some(node) = node {
        let fields = json!([{"key": "metadata.name", "operator": "In", "values": [node]}]);
        let terms = json!([{"matchFields": fields}]);
        spec["affinity"] =
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
        spec["tolerations"] = json!([{"operator": "Exists"}]);
    }
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": template.namespace,
            "labels": {
                "app.kubernetes.io/part-of": "signalbox",
                "app.kubernetes.io/name": "signalbox",
                "app.kubernetes.io/component": "probe",
                RUN_LABEL: run,
            },
            "annotations": {ALIVE_UNTIL: alive_until.to_string()},
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": LIFE_S,
            "ttlSecondsAfterFinished": 30,
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    })
}

/// Pushes the deadline of a Job on that started at `started`; all in Unix seconds.
pub fn push(started: Option<u64>, now: u64) -> Value {
    let active = started.map_or(0, |started| now.saturating_sub(started)) + LIFE_S;
    json!({
        "metadata": {"annotations": {ALIVE_UNTIL: (now + LIFE_S).to_string()}},
        "spec": {"activeDeadlineSeconds": active},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_counts_from_the_jobs_start() {
        assert_eq!(push(Some(1_000), 1_060)["spec"]["activeDeadlineSeconds"], 60 + LIFE_S);
        assert_eq!(push(None, 1_060)["spec"]["activeDeadlineSeconds"], LIFE_S);
        assert_eq!(push(None, 1_060)["metadata"]["annotations"][ALIVE_UNTIL], (1_060 + LIFE_S).to_string());
    }
}
