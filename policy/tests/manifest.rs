//! Policies as text: what is printed reads back as the same policy.

mod common;
#[path = "laws/generate.rs"]
#[allow(dead_code, reason = "the laws use all of it")]
mod generate;

use common::{cluster, objects, policy};
use generate::description;
use proptest::prelude::*;
use signalbox_policy::{Cluster, manifest, parse_documents};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// Law: parse(print(policy)) == policy.
    #[test]
    fn what_is_printed_reads_back(description in description(false)) {
        let cluster = Cluster::from_objects(&description.policies);
        for policy in cluster.policies() {
            let Some(text) = manifest::yaml(policy) else {
                prop_assert!(policy.ingress.is_none() && policy.egress.is_none(), "{policy:?}");
                continue;
            };
            let objects: Vec<_> = parse_documents(&text, "printed").into_iter().map(|it| it.expect("it is YAML")).collect();
            let read = Cluster::from_objects(&objects);
            prop_assert_eq!(read.unknowns(), &[] as &[String], "{}", text);
            prop_assert_eq!(read.policies().collect::<Vec<_>>(), [policy], "{}", text);
        }
    }
}

#[test]
fn text_is_written_as_people_write_it() {
    let spec = "{podSelector: {matchExpressions: [{key: a, operator: In, values: ['1']}, {key: a, operator: In, values: [x, 'no']}, {key: b, operator: Exists}]}, ingress: [{}, {from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}, {ipBlock: {cidr: '::/0'}}], ports: [{protocol: UDP}, {port: 1, endPort: 9}, {port: http}]}]}";
    let cluster = cluster(&policy("x/np", spec));
    let expected = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: np
  namespace: x
spec:
  podSelector:
    matchLabels: {a: \"1\"}
    matchExpressions:
      - {key: a, operator: In, values: [\"no\", x]}
      - {key: b, operator: Exists}
  policyTypes: [Ingress]
  ingress:
    - {}
    - from:
        - podSelector: {}
        - ipBlock:
            cidr: 10.0.0.0/8
            except: [10.1.0.0/16]
        - ipBlock: {cidr: \"::/0\"}
      ports:
        - {protocol: UDP}
        - {port: 1, endPort: 9, protocol: TCP}
        - {port: http, protocol: TCP}
";
    let text = cluster.policies().next().and_then(manifest::yaml).expect("it is a NetworkPolicy");
    assert_eq!(text, expected);
    assert!(Cluster::from_objects(&objects(&text)).policies().eq(cluster.policies()));
}
