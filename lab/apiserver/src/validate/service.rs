//! Services.

use std::collections::HashSet;

use serde_json::Value;

use super::{PROTOCOLS, duplicate, forbidden, invalid, labels, names, one_of, port_number, port_or_name, required};
use crate::object::items;
use crate::status::Cause;

/// A Service.
pub(crate) fn service(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    one_of(spec, "type", "spec", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], causes);
    one_of(spec, "sessionAffinity", "spec", &["ClientIP", "None"], causes);
    one_of(spec, "externalTrafficPolicy", "spec", &["Cluster", "Local"], causes);
    one_of(spec, "internalTrafficPolicy", "spec", &["Cluster", "Local"], causes);
    labels::map(&spec["selector"], "spec.selector", causes);
    ports(spec, causes);
    if spec["type"] == "ExternalName" {
        if spec["externalName"].as_str().is_none_or(str::is_empty) {
            causes.push(required("spec.externalName", ""));
        }
        return;
    }
    if spec["clusterIP"] == "None" && spec["type"] != "ClusterIP" {
        causes.push(invalid(
            "spec.clusterIPs[0]",
            &"None".into(),
            "may not be set to 'None' for LoadBalancer services",
        ));
    }
    if let Some(first) = items(spec, "clusterIPs").first()
        && spec["clusterIP"].as_str().is_some_and(|address| !address.is_empty() && first != address)
    {
        causes.push(invalid("spec.clusterIPs", &spec["clusterIPs"], "first value must match `clusterIP`"));
    }
    let Some(old) = old else { return };
    let before = &old["spec"]["clusterIP"];
    let now = &spec["clusterIP"];
    if old["spec"]["type"] != "ExternalName" && before.is_string() && !now.is_null() && *now != "" && now != before {
        let shown = Value::Array(vec![now.clone()]);
        causes.push(invalid("spec.clusterIPs[0]", &shown, "may not change once set"));
    }
}

fn ports(spec: &Value, causes: &mut Vec<Cause>) {
    let ports = items(spec, "ports");
    if ports.is_empty() && spec["clusterIP"] != "None" && spec["type"] != "ExternalName" {
        causes.push(required("spec.ports", ""));
    }
    let (mut port_names, mut numbers) = (HashSet::new(), HashSet::new());
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        let name = port["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            if ports.len() > 1 {
                causes.push(required(&format!("{path}.name"), ""));
            }
        } else if let Err(why) = names::label(name) {
            causes.push(invalid(&format!("{path}.name"), &name.into(), &why));
        } else if !port_names.insert(name) {
            causes.push(duplicate(&format!("{path}.name"), &name.into()));
        }
        port_number(&port["port"], &format!("{path}.port"), causes);
        one_of(port, "protocol", &path, &PROTOCOLS, causes);
        if !port["targetPort"].is_null() {
            port_or_name(&port["targetPort"], &format!("{path}.targetPort"), causes);
        }
        if !port["nodePort"].is_null() && port["nodePort"] != 0 && spec["type"] == "ClusterIP" {
            causes.push(forbidden(&format!("{path}.nodePort"), "may not be used when `type` is 'ClusterIP'"));
        }
        if !numbers.insert((port["port"].as_i64(), port["protocol"].as_str())) {
            let shown = serde_json::json!({"port": port["port"], "protocol": port["protocol"]});
            causes.push(duplicate(&path, &shown));
        }
    }
}
