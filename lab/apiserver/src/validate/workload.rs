//! Deployments and ReplicaSets.

use serde_json::{Value, json};

use super::{invalid, labels, one_of, pod, required, unsupported};
use crate::status::Cause;

/// A Deployment or a ReplicaSet.
pub(crate) fn workload(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        if spec[field].as_i64().is_some_and(|number| number < 0) {
            causes.push(invalid(&format!("spec.{field}"), &spec[field], "must be greater than or equal to 0"));
        }
    }
    let selector = &spec["selector"];
    let template = &spec["template"];
    let empty = ["matchLabels", "matchExpressions"].iter().all(|field| selector[field].is_null());
    if selector.is_null() {
        causes.push(required("spec.selector", ""));
    } else if empty {
        causes.push(invalid("spec.selector", &json!({}), "empty selector is invalid for deployment"));
    } else {
        labels::selector(selector, "spec.selector", causes);
        let found = &template["metadata"]["labels"];
        if !labels::matches(selector, found) {
            let shown = if found.is_null() { json!({}) } else { found.clone() };
            causes.push(invalid(
                "spec.template.metadata.labels",
                &shown,
                "`selector` does not match template `labels`",
            ));
        }
    }
    labels::map(&template["metadata"]["labels"], "spec.template.metadata.labels", causes);
    pod::spec(&template["spec"], "spec.template.spec", causes);
    let restart = &template["spec"]["restartPolicy"];
    if restart == "Never" || restart == "OnFailure" {
        causes.push(unsupported("spec.template.spec.restartPolicy", restart, &["Always"]));
    }
    one_of(&spec["strategy"], "type", "spec.strategy", &["Recreate", "RollingUpdate"], causes);
    let rolling = &spec["strategy"]["rollingUpdate"];
    if spec["strategy"]["type"] == "Recreate" && !rolling.is_null() {
        causes.push(super::forbidden(
            "spec.strategy.rollingUpdate",
            "may not be specified when strategy `type` is 'Recreate'",
        ));
    }
    for field in ["maxSurge", "maxUnavailable"] {
        let value = &rolling[field];
        let fits = match value {
            Value::Null => true,
            Value::String(text) => text
                .strip_suffix('%')
                .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())),
            value => value.as_i64().is_some_and(|number| number >= 0),
        };
        if !fits {
            causes.push(invalid(
                &format!("spec.strategy.rollingUpdate.{field}"),
                value,
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            ));
        }
    }
    if let Some(old) = old
        && old["spec"]["selector"] != *selector
    {
        causes.push(invalid("spec.selector", selector, "field is immutable"));
    }
}
