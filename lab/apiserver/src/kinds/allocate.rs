//! Addresses and ports that the API hands out to Services.

use std::collections::HashSet;

use rand::Rng;
use serde_json::{Value, json};

use super::core_kind;
use crate::object::{items, items_mut};
use crate::status::Cause;
use crate::store::{Key, Transaction};

/// The range of NodePorts.
const NODE_PORTS: std::ops::RangeInclusive<u64> = 30000..=32767;

/// Whether an address lies in the Service range, 10.96.0.0/16, without its first and last.
fn in_service_range(address: std::net::Ipv4Addr) -> bool {
    let octets = address.octets();
    octets[0] == 10 && octets[1] == 96 && !matches!([octets[2], octets[3]], [0, 0] | [255, 255])
}

/// Gives a Service its cluster address and NodePorts, or says why it cannot have those it asks for.
pub(crate) fn service(transaction: &Transaction<'_>, key: &Key, object: &mut Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let others: Vec<_> =
        transaction.list(core_kind("Service"), None).into_iter().filter(|(other, _)| other != key).collect();
    let spec = &mut object["spec"];
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if let Some(old) = old {
        inherit(spec, &old["spec"], &kind);
    }
    if kind == "ExternalName" {
        return causes;
    }
    let taken: HashSet<&str> = others
        .iter()
        .filter_map(|(_, other)| other["spec"]["clusterIP"].as_str())
        .filter(|address| *address != "None")
        .collect();
    let asked = spec["clusterIP"]
        .as_str()
        .or_else(|| items(spec, "clusterIPs").first().and_then(Value::as_str))
        .unwrap_or_default()
        .to_owned();
    let address = match asked.as_str() {
        "None" => "None".to_owned(),
        "" => free_address(&taken),
        asked => {
            let unchanged = old.is_some_and(|old| old["spec"]["clusterIP"] == asked);
            let why = match asked.parse::<std::net::Ipv4Addr>() {
                Err(_) => Some("must be empty, 'None', or a valid IP address".to_owned()),
                Ok(address) if !in_service_range(address) => {
                    Some("failed to allocate IP: the provided IP is not in the valid range. The range of valid IPs is 10.96.0.0/16".to_owned())
                }
                Ok(_) if taken.contains(asked) && !unchanged => {
                    Some(format!("failed to allocate IP {asked}: provided IP is already allocated"))
                }
                Ok(_) => None,
            };
            if let Some(why) = why {
                causes.push(Cause {
                    reason: "FieldValueInvalid",
                    field: "spec.clusterIPs".into(),
                    message: format!("Invalid value: [\"{asked}\"]: {why}"),
                });
            }
            asked.to_owned()
        }
    };
    spec["clusterIP"] = address.clone().into();
    spec["clusterIPs"] = json!([address]);
    crate::object::default(spec, "ipFamilies", json!(["IPv4"]));
    crate::object::default(spec, "ipFamilyPolicy", "SingleStack");
    if kind == "NodePort" || (kind == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false) {
        node_ports(spec, &others.iter().map(|(_, other)| &**other).collect::<Vec<_>>(), &mut causes);
    }
    causes
}

/// A new version that leaves out what was allocated keeps it.
fn inherit(spec: &mut Value, old: &Value, kind: &str) {
    if old["type"] != "ExternalName" && kind != "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = old.get(field) {
                let blank = spec[field] == "";
                if blank {
                    spec[field] = Value::Null;
                }
                crate::object::default(spec, field, value.clone());
            }
        }
    }
    let exposed = kind == "NodePort" || kind == "LoadBalancer";
    for port in items_mut(spec, "ports") {
        let before = items(old, "ports")
            .iter()
            .find(|other| other["port"] == port["port"] && other["protocol"] == port["protocol"]);
        let Some(number) = before.and_then(|before| before.get("nodePort")) else { continue };
        if exposed {
            crate::object::default(port, "nodePort", number.clone());
        } else if port.get("nodePort") == Some(number)
            && let Some(map) = port.as_object_mut()
        {
            map.remove("nodePort");
        }
    }
}

fn free_address(taken: &HashSet<&str>) -> String {
    let mut random = rand::rng();
    loop {
        // The first 256 stay for those who ask for one of them, as DNS does. The range outgrows what one machine can run.
        let address = format!("10.96.{}.{}", random.random_range(1..255), random.random_range(1..255));
        if !taken.contains(address.as_str()) {
            return address;
        }
    }
}

fn node_ports(spec: &mut Value, others: &[&Value], causes: &mut Vec<Cause>) {
    // One number may serve TCP and UDP of one Service, as Kubernetes has it for equal port numbers.
    let mut taken: HashSet<u64> = others
        .iter()
        .flat_map(|other| items(&other["spec"], "ports"))
        .filter_map(|port| port["nodePort"].as_u64())
        .collect();
    let own: HashSet<u64> = items(spec, "ports").iter().filter_map(|port| port["nodePort"].as_u64()).collect();
    for (index, port) in items_mut(spec, "ports").iter_mut().enumerate() {
        match port["nodePort"].as_u64() {
            None | Some(0) => {
                let free = || {
                    let mut random = rand::rng();
                    (0..4096)
                        .map(|_| random.random_range(NODE_PORTS))
                        .find(|port| !taken.contains(port) && !own.contains(port))
                };
                let Some(number) = free() else {
                    causes.push(Cause {
                        reason: "FieldValueInvalid",
                        field: format!("spec.ports[{index}].nodePort"),
                        message: "Invalid value: 0: failed to allocate a nodePort: range is full".into(),
                    });
                    continue;
                };
                taken.insert(number);
                port["nodePort"] = number.into();
            }
            Some(number) => {
                let why = if !NODE_PORTS.contains(&number) {
                    "provided port is not in the valid range. The range of valid ports is 30000-32767"
                } else if taken.contains(&number) {
                    "provided port is already allocated"
                } else {
                    continue;
                };
                causes.push(Cause {
                    reason: "FieldValueInvalid",
                    field: format!("spec.ports[{index}].nodePort"),
                    message: format!("Invalid value: {number}: {why}"),
                });
            }
        }
    }
}
