//! What an analysis says must work is something that a suggestion can be made of, and the analysis of that says the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod common;
#[path = "laws/generate.rs"]
#[allow(dead_code, reason = "the laws use all of it")]
mod generate;

use common::{namespace, pod, policy, sound};
use generate::{Description, EXTERNAL, description};
use proptest::prelude::*;
use serde_json::json;
use signalbox_policy::analyze::{External, Link, Loopback, Options, Place};
use signalbox_policy::suggest::{self, Need, SuggestError, Who};
use signalbox_policy::{Cluster, Family, Party, Route, parse_documents};

fn links(cluster: &Cluster, external: External) -> Vec<Link> {
    cluster.links(Options { loopback: Loopback::Omit, external }).flat_map(|(_, links)| links).collect()
}

fn who(place: Place) -> Who {
    match place {
        Place::Pod(pod) => Who::Pod(pod),
        Place::Range(range) => Who::Range(range),
    }
}

/// All that is open, as needs.
fn needs(links: Vec<Link>) -> Vec<Need> {
    let need =
        |link: Link| Need { from: who(link.from), to: who(link.to), traffic: link.reach.open, family: link.family };
    links.into_iter().map(need).collect()
}

fn with(description: &Description, yaml: &str) -> Cluster {
    let mut objects: Vec<serde_json::Value> = description.namespaces.iter().chain(&description.pods).cloned().collect();
    objects.extend(parse_documents(yaml, "suggestion").into_iter().map(|it| it.unwrap()));
    Cluster::from_objects(&objects)
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(128);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    /// Law: analyze, suggest, analyze says the same, whatever the policies before; pods of one family, of the other and of both.
    #[test]
    fn what_analyze_says_can_be_suggested(description in description(false), is_outside in any::<bool>()) {
        let mut description = description;
        for pod in &mut description.pods {
            pod["metadata"]["labels"]["app"] = pod["metadata"]["name"].clone();
        }
        let before = Cluster::from_objects(&description.objects());
        let external = if is_outside { External::Ranges } else { External::Omit };
        let needs = needs(links(&before, external));
        let suggestion = match before.suggest(&needs, &suggest::Options::default()) {
            Ok(suggestion) => suggestion,
            Err(error) => return Err(TestCaseError::fail(format!("{error}\n{needs:#?}"))),
        };
        prop_assert_eq!(&suggestion.caveats, &Vec::<String>::new());
        let text = suggestion.yaml();
        let after = with(&description, &text);
        prop_assert_eq!(after.unknowns(), &[] as &[String], "{}", text);
        prop_assert_eq!(links(&after, External::Omit), links(&before, External::Omit), "{}", text);
        if !is_outside {
            return Ok(());
        }
        for address in EXTERNAL {
            let address = address.parse().unwrap();
            let (outside, family) = (Party::Address(address), Family::of(address));
            let pods = description.running_pods().into_iter();
            for (pod, _) in pods.filter(|(_, own)| own.iter().any(|own| Family::of(*own) == family)) {
                let pod = Party::Pod(pod);
                for (from, to) in [(&pod, &outside), (&outside, &pod)] {
                    let open = |cluster: &Cluster| cluster.reach(from, to, Route::Direct, Some(family)).open;
                    prop_assert_eq!(open(&after), open(&before), "{:?} -> {:?}\n{}", from, to, text);
                }
            }
        }
    }
}

fn dual() -> String {
    namespace("x", "")
        + &pod("x/a", "app=a", "10.0.0.1,fd00::1", "")
        + &pod("x/b", "app=b", "10.0.0.2,fd00::2", "")
        + &pod("x/c", "app=c", "10.0.0.3", "")
}

#[test]
fn what_differs_by_family_is_said_by_addresses() {
    let text = dual();
    let block = |cidr: &str, ports: &str| json!({"from": [{"ipBlock": {"cidr": cidr}}], "ports": [{"port": ports.parse::<u16>().unwrap()}]});
    let spec = json!({"podSelector": {"matchLabels": {"app": "b"}}, "ingress": [
        block("10.0.0.1/32", "80"), block("fd00::/64", "80"), block("fd00::/64", "443"),
    ]});
    let before = sound(&(text.clone() + &policy("x/p", &spec.to_string())));
    let needs = needs(links(&before, External::Omit));
    let suggestion = before.suggest(&needs, &suggest::Options::default()).expect("addresses can say it");
    let yaml = suggestion.yaml();
    let expected = "\
# b takes TCP 80 from a.
# b takes TCP 443 from a by IPv6 only (fd00::1).
# b may use everything to all.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: b-allow-from-a-to-all
  namespace: x
spec:
  podSelector:
    matchLabels: {app: b}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - podSelector:
            matchLabels: {app: a}
      ports:
        - {port: 80, protocol: TCP}
    - from:
        - ipBlock: {cidr: \"fd00::1/128\"}
      ports:
        - {port: 443, protocol: TCP}
";
    assert!(yaml.contains(expected), "{yaml}");
    let after = sound(&(text + "---\n" + &yaml));
    assert_eq!(links(&after, External::Omit), links(&before, External::Omit));
}

#[test]
fn a_family_that_a_pod_lacks_is_an_error_that_names_it() {
    let cluster = sound(&dual());
    let pods = |name: &str| Who::Pod(signalbox_policy::PodRef { namespace: "x".into(), name: name.into() });
    let web = signalbox_policy::traffic::Traffic::of(
        signalbox_policy::Protocol::Tcp,
        signalbox_policy::traffic::PortSet::range(80, 80),
    );
    let range = |text: &str| {
        let address = text.parse().unwrap();
        Who::Range(signalbox_policy::analyze::AddressRange::new(address, address).unwrap())
    };
    let ask = |from: Who, to: Who, family| {
        let needs = [Need { from, to, traffic: web.clone(), family: Some(family) }];
        cluster.suggest(&needs, &suggest::Options::default())
    };
    use signalbox_policy::Family::{V4, V6};
    let error = ask(pods("a"), pods("c"), V6).unwrap_err();
    assert!(matches!(&error, SuggestError::NoFamily { pod, family: V6 } if pod.name == "c"), "{error}");
    assert!(error.to_string().starts_with("Pod x/c: has no known address of IPv6"), "{error}");
    // The only family that they have: labels say it.
    let suggestion = ask(pods("a"), pods("c"), V4).expect("that is all there is");
    assert!(!suggestion.yaml().contains("ipBlock"), "{}", suggestion.yaml());
    let error = ask(range("198.51.100.1"), pods("a"), V6).unwrap_err();
    assert!(matches!(error, SuggestError::OtherFamily { .. }), "{error}");
}
