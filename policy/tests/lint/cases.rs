//! Cases: a rule, manifests, and what is expected of the one on the other.

use signalbox_policy::Cluster;
use signalbox_policy::lint::{Finding, RuleId, Severity, lint};

use crate::common;

#[derive(Clone, Debug)]
pub struct Case {
    pub rule: RuleId,
    pub yaml: String,
    pub expected: Expected,
}

#[derive(Clone, Debug)]
pub enum Expected {
    /// No finding of the rule.
    Silent,
    /// One finding of the rule: severity, object, path, and a part of its text.
    Finding(Severity, &'static str, &'static str, &'static str),
}

/// One finding, as severe as the rule has it.
pub fn found(
    rule: RuleId,
    yaml: impl Into<String>,
    object: &'static str,
    path: &'static str,
    text: &'static str,
) -> Case {
    Case { rule, yaml: yaml.into(), expected: Expected::Finding(rule.severity(), object, path, text) }
}

/// One finding that is an information only.
pub fn info(
    rule: RuleId,
    yaml: impl Into<String>,
    object: &'static str,
    path: &'static str,
    text: &'static str,
) -> Case {
    Case { rule, yaml: yaml.into(), expected: Expected::Finding(Severity::Info, object, path, text) }
}

/// One finding that is a warning here.
pub fn warning(
    rule: RuleId,
    yaml: impl Into<String>,
    object: &'static str,
    path: &'static str,
    text: &'static str,
) -> Case {
    Case { rule, yaml: yaml.into(), expected: Expected::Finding(Severity::Warning, object, path, text) }
}

/// No finding of the rule.
pub fn silent(rule: RuleId, yaml: impl Into<String>) -> Case {
    Case { rule, yaml: yaml.into(), expected: Expected::Silent }
}

pub fn findings(yaml: &str) -> Vec<Finding> {
    let objects = common::objects(yaml);
    lint(&objects, &Cluster::from_objects(&objects))
}

impl Case {
    pub fn check(&self) -> Result<(), String> {
        let all = findings(&self.yaml);
        let own: Vec<&Finding> = all.iter().filter(|finding| finding.rule == self.rule).collect();
        let is_right = match (&self.expected, own.as_slice()) {
            (Expected::Silent, []) => true,
            (Expected::Finding(severity, object, path, text), [one]) => {
                one.severity == *severity
                    && one.object == *object
                    && one.path == *path
                    && (one.message.contains(text) || one.remedy.contains(text))
            }
            (_, _) => false,
        };
        if is_right {
            return Ok(());
        }
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        Err(format!(
            "{} expected {:?}\n  of {}\n  found {}",
            self.rule,
            self.expected,
            self.yaml,
            all.join("\n        ")
        ))
    }
}

/// A Service in short: `service("x/web", "app=web", "10.96.0.9", "TCP 80 8080")`, its target port a number or a name.
pub fn service(name: &str, selector: &str, address: &str, port: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    let (key, value) = selector.split_once('=').unwrap();
    let [protocol, port, target] = port.split(' ').collect::<Vec<_>>()[..] else { panic!("three words") };
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: {namespace}, name: {name}}}\n\
         spec: {{clusterIP: {address}, selector: {{{key}: {value}}}, ports: [{{protocol: {protocol}, port: {port}, targetPort: {target}}}]}}\n"
    )
}

/// A ClusterNetworkPolicy of a tier and priority for all pods, with the rest of its spec in flow style.
pub fn cluster_policy(name: &str, tier: &str, priority: u32, rest: &str) -> String {
    format!(
        "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\n\
         spec: {{tier: {tier}, priority: {priority}, subject: {{namespaces: {{}}}}, {rest}}}\n"
    )
}

/// A GlobalNetworkPolicy of an order, with the rest of its spec in flow style.
pub fn calico(name: &str, order: u32, rest: &str) -> String {
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: {name}}}\n\
         spec: {{order: {order}, {rest}}}\n"
    )
}
