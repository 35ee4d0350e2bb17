//! ServiceAccounts, and what they may do: to read what policies are about, to steer probes, and no more unless it is asked for.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use serde_json::Value;

use super::{Options, names, value};

const READ: &[&str] = &["get", "list", "watch"];
const RBAC: &str = "rbac.authorization.k8s.io";
/// Policies around NetworkPolicy.
const TIERS: &[&str] = &["clusternetworkpolicies", "adminnetworkpolicies", "baselineadminnetworkpolicies"];
/// Calico's: as stored, and as its own API server shows them.
const CALICO: &[&str] =
    &["globalnetworkpolicies", "networkpolicies", "globalnetworksets", "networksets", "hostendpoints"];
const CILIUM: &[&str] = &["ciliumnetworkpolicies", "ciliumclusterwidenetworkpolicies"];

pub(super) fn objects(options: &Options) -> Vec<Value> {
    let mut objects = account(options, names::SERVER, "server");
    objects.extend(cluster_role(options, names::SERVER, "server", server(options)));
    objects.extend(role(&options.namespace, names::SERVER, "server", own_secrets(), options));
    if options.probe_namespaces.is_empty() {
        objects.extend(cluster_role(options, &format!("{}-probes", names::SERVER), "server", probes()));
    }
    for namespace in &options.probe_namespaces {
        objects.extend(role(namespace, &format!("{}-probes", names::SERVER), "server", probes(), options));
    }
    if options.has_enforcer() {
        objects.extend(account(options, names::ENFORCER, "enforcer"));
        objects.extend(cluster_role(options, names::ENFORCER, "enforcer", enforcer()));
        let authority = vec![rule("", &["configmaps"], &["get"], &[names::AUTHORITY])];
        objects.extend(role(&options.namespace, names::ENFORCER, "enforcer", authority, options));
    }
    objects
}

fn server(options: &Options) -> Vec<PolicyRule> {
    let mut rules = vec![
        rule("", &["namespaces", "nodes", "pods", "services"], READ, &[]),
        rule("discovery.k8s.io", &["endpointslices"], READ, &[]),
        rule("networking.k8s.io", &["networkpolicies"], READ, &[]),
        rule("policy.networking.k8s.io", TIERS, READ, &[]),
        rule("crd.projectcalico.org", CALICO, READ, &[]),
        rule("projectcalico.org", CALICO, READ, &[]),
        rule("cilium.io", CILIUM, READ, &[]),
        rule("signalbox.dev", &["externalhosts"], READ, &[]),
        // Whose token it is, and what its owner may: nothing is answered or done without.
        rule("authentication.k8s.io", &["tokenreviews"], &["create"], &[]),
        rule("authorization.k8s.io", &["subjectaccessreviews"], &["create"], &[]),
    ];
    if options.allow_apply {
        rules.push(rule("networking.k8s.io", &["networkpolicies"], &["create", "update", "patch", "delete"], &[]));
    }
    rules
}

/// To start stand-ins, to keep them alive and to take them away, and to steer probes.
fn probes() -> Vec<PolicyRule> {
    vec![
        // Streams over WebSocket are opened by a GET, which API servers take for `get` or for `create`.
        rule("", &["pods/exec"], &["create", "get"], &[]),
        rule("batch", &["jobs"], &["create", "delete", "get", "list", "patch", "watch"], &[]),
        // What a stand-in is made like.
        rule("apps", &["daemonsets", "deployments", "replicasets", "statefulsets"], &["get"], &[]),
    ]
}

/// The server's certificates, by name; what is to be created has none yet as far as RBAC goes.
fn own_secrets() -> Vec<PolicyRule> {
    vec![
        rule("", &["secrets", "configmaps"], &["create"], &[]),
        rule("", &["secrets"], &["get", "update", "patch"], &[names::TLS_SECRET]),
        rule("", &["configmaps"], &["get", "update", "patch"], &[names::AUTHORITY]),
    ]
}

/// What `enforcer/src/watch.rs` watches, and the Events of `enforcer/src/conditions.rs`.
fn enforcer() -> Vec<PolicyRule> {
    vec![
        rule("", &["namespaces", "nodes", "pods", "services"], &["list", "watch"], &[]),
        rule("networking.k8s.io", &["networkpolicies"], &["list", "watch"], &[]),
        rule("policy.networking.k8s.io", TIERS, &["list", "watch"], &[]),
        rule("crd.projectcalico.org", CALICO, &["list", "watch"], &[]),
        rule("projectcalico.org", CALICO, &["list", "watch"], &[]),
        rule("events.k8s.io", &["events"], &["create", "patch"], &[]),
    ]
}

fn rule(group: &str, resources: &[&str], verbs: &[&str], names: &[&str]) -> PolicyRule {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(owned(&[group])),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        resource_names: (!names.is_empty()).then(|| owned(names)),
        ..PolicyRule::default()
    }
}

fn account(options: &Options, name: &str, component: &str) -> Vec<Value> {
    let metadata = names::metadata(name, Some(&options.namespace), Some(component));
    vec![value(ServiceAccount { metadata, ..ServiceAccount::default() })]
}

/// Whose right it is: the account of the component.
fn subject(options: &Options, component: &str) -> Vec<Subject> {
    let name = if component == "server" { names::SERVER } else { names::ENFORCER };
    vec![Subject {
        kind: "ServiceAccount".to_owned(),
        name: name.to_owned(),
        namespace: Some(options.namespace.clone()),
        ..Subject::default()
    }]
}

fn cluster_role(options: &Options, name: &str, component: &str, rules: Vec<PolicyRule>) -> [Value; 2] {
    let metadata = names::metadata(name, None, Some(component));
    let role_ref = RoleRef { api_group: RBAC.to_owned(), kind: "ClusterRole".to_owned(), name: name.to_owned() };
    let binding =
        ClusterRoleBinding { metadata: metadata.clone(), role_ref, subjects: Some(subject(options, component)) };
    [value(ClusterRole { metadata, rules: Some(rules), ..ClusterRole::default() }), value(binding)]
}

fn role(namespace: &str, name: &str, component: &str, rules: Vec<PolicyRule>, options: &Options) -> [Value; 2] {
    let metadata = names::metadata(name, Some(namespace), Some(component));
    let role_ref = RoleRef { api_group: RBAC.to_owned(), kind: "Role".to_owned(), name: name.to_owned() };
    let binding = RoleBinding { metadata: metadata.clone(), role_ref, subjects: Some(subject(options, component)) };
    [value(Role { metadata, rules: Some(rules) }), value(binding)]
}
