//! `signalbox explain`.

use serde_json::Value;

use crate::analyze::{DB, PODS};
use crate::run::{Folder, Objects, Outcome, signalbox, signalbox_live, signalbox_with};
use crate::schema;

const DEPLOYMENT: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: api-6f9c-x1
  namespace: shop
  labels: {app: api, pod-template-hash: 6f9c}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: api-6f9c, controller: true}]
spec: {containers: []}
---
apiVersion: v1
kind: Pod
metadata:
  name: api-6f9c-x2
  namespace: shop
  labels: {app: api, pod-template-hash: 6f9c}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: api-6f9c, controller: true}]
spec: {containers: []}
---
apiVersion: v1
kind: Service
metadata: {name: api-svc, namespace: shop}
spec: {selector: {app: api}}
";

fn folder() -> Folder {
    Folder::new(&[("pods.yaml", PODS), ("api.yaml", DEPLOYMENT), ("policies/db.yaml", DB)])
}

fn explain(args: &[&str]) -> (Outcome, Value) {
    let folder = folder();
    let path = folder.text();
    let args: Vec<&str> =
        std::iter::once("explain").chain(args.iter().copied()).chain([path.as_str(), "-o", "json"]).collect();
    let outcome = signalbox(&args);
    let value = outcome.json();
    schema::check("explain", &value);
    (outcome, value)
}

#[test]
fn the_rule_that_allows_is_shown_with_its_place() {
    let (outcome, value) = explain(&["shop/web", "shop/db:5432"]);
    assert_eq!(outcome.code, 0);
    let answer = &value["answers"][0];
    assert_eq!(answer["verdict"], "allowed");
    assert_eq!(answer["egress"]["reason"], "no-policy");
    let rule = &answer["ingress"]["rule"];
    assert_eq!((&rule["path"], &rule["peer"], &rule["port"]), (&"spec.ingress[0]".into(), &0.into(), &0.into()));
    assert_eq!(rule["policy"]["line"], 7);
    assert!(rule["policy"]["file"].as_str().unwrap().ends_with("policies/db.yaml"));
    assert_eq!(rule["excerpt"][0], "- from:");
    assert_eq!(rule["excerpt"].as_array().unwrap().len(), 5);
}

#[test]
fn what_shuts_it_is_shown_with_the_nearest_miss_and_a_patch() {
    let (outcome, value) = explain(&["shop/web", "shop/db:80/UDP"]);
    assert_eq!(outcome.code, 1);
    let answer = &value["answers"][0];
    assert_eq!((&answer["verdict"], &answer["ingress"]["reason"]), (&"denied".into(), &"isolation".into()));
    assert_eq!(answer["ingress"]["isolated_by"][0]["name"], "db");
    let nearest = &answer["ingress"]["nearest"];
    assert!(nearest["difference"].as_str().unwrap().contains("not UDP 80"), "{nearest:#}");
    let patch = answer["remedy"]["patches"][0]["yaml"].as_str().unwrap();
    // The patch does what it says.
    let patched = Folder::new(&[("pods.yaml", PODS), ("patch.yaml", patch)]);
    assert_eq!(signalbox(&["explain", "shop/web", "shop/db:80/UDP", &patched.text()]).code, 0, "{patch}");
}

#[test]
fn people_read_it_in_lines() {
    let folder = folder();
    let outcome = signalbox(&["explain", "shop/api", "shop/db:sql", &folder.text()]);
    let out = &outcome.out;
    assert_eq!(outcome.code, 1, "{outcome:#?}");
    for part in [
        "shop/api-6f9c-x1 stands for shop/api, which has 2 pods",
        "shop/api-6f9c-x1 -> shop/db TCP 5432: denied",
        "egress   allowed: no policy isolates the pod for egress",
        "ingress  denied: isolated for ingress by NetworkPolicy shop/db",
        "policies/db.yaml:7",
        "| - from:",
        "to open it, apply:",
    ] {
        assert!(out.contains(part), "{part}:\n{out}");
    }
}

#[test]
fn addresses_are_ends_too() {
    let (outcome, value) = explain(&["198.51.100.7", "shop/db:sql"]);
    assert_eq!(outcome.code, 1);
    assert!(value["answers"][0]["egress"].is_null());
    let (outcome, value) = explain(&["shop/web", "[2001:db8::1]:443"]);
    assert_eq!((outcome.code, &value["to"]), (0, &"2001:db8::1".into()));
    // The address of a pod is that pod.
    let (outcome, _) = explain(&["10.0.0.1", "10.0.0.2:5432"]);
    assert_eq!(outcome.code, 0);
    let (outcome, value) = explain(&["shop/db", "shop/db:1"]);
    assert_eq!((outcome.code, &value["answers"][0]["ingress"]["reason"]), (0, &"always".into()));
    let (outcome, _) = explain(&["shop/db", "shop/db:1", "--through-service"]);
    assert_eq!(outcome.code, 1);
}

#[test]
fn families_that_differ_have_an_answer_each() {
    let text = "\
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x}
spec: {containers: []}
status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: x, labels: {app: b}}
spec: {containers: []}
status: {podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: x}
spec: {podSelector: {matchLabels: {app: b}}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/24}}]}]}
";
    let outcome = signalbox_with(&["explain", "x/a", "x/b:80", "-", "-o", "json"], text);
    let value = outcome.json();
    schema::check("explain", &value);
    let verdicts: Vec<_> =
        value["answers"].as_array().unwrap().iter().map(|it| (&it["family"], &it["verdict"])).collect();
    assert_eq!(verdicts, [(&"IPv4".into(), &"allowed".into()), (&"IPv6".into(), &"denied".into())]);
    assert_eq!(outcome.code, 1);
}

#[test]
fn what_was_not_understood_is_neither_allowed_nor_denied() {
    let broken = DB.replace("endPort", "endport");
    let text = format!("{PODS}---\n{broken}");
    let outcome = signalbox_with(&["explain", "shop/web", "shop/db:80", "-", "-o", "json"], &text);
    let value = outcome.json();
    schema::check("explain", &value);
    assert_eq!((outcome.code, &value["answers"][0]["verdict"]), (1, &"unknown".into()));
    let outcome = signalbox_with(&["explain", "shop/web", "shop/db:80", "-"], &text);
    assert!(outcome.out.contains("? NetworkPolicy shop/db: spec.ingress[0].ports[1].endport"), "{}", outcome.out);
}

#[test]
fn mistakes_in_names_and_ports_are_met_with_help() {
    let folder = folder();
    for (from, to, expected) in [
        ("shop/web", "shop/db", "names no port"),
        ("shop/web", "fd00::1", "names no port"),
        ("shop/web", "shop/db:0", "between 1 and 65535"),
        ("shop/web", "shop/db:70000", "between 1 and 65535"),
        ("shop/web", "shop/db:80/ICMP", "write TCP, UDP or SCTP"),
        ("shop/web", "shop/db:htttp", "the name that a container gives it"),
        ("shop/web", "10.9.9.9:http", "only pods give their ports names"),
        ("web", "shop/db:80", "NAMESPACE/POD"),
        ("other/web", "shop/db:80", "shop/web is"),
        ("shop/web", "shop/api-svc:80", "Service"),
    ] {
        let outcome = signalbox(&["explain", from, to, &folder.text()]);
        assert_eq!(outcome.code, 2, "{from} {to}: {outcome:#?}");
        assert!(outcome.err.contains(expected), "{from} {to}: {}", outcome.err);
    }
}

const SHOP: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: []}
---
apiVersion: v1
kind: Pod
metadata:
  name: api-6f9c-x1
  namespace: shop
  labels: {app: api, pod-template-hash: 6f9c}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: api-6f9c, controller: true}]
spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec:
  selector: {app: api}
  ports:
    - {name: a, port: 80, targetPort: http}
    - {name: b, port: 81, targetPort: 8081}
    - {name: c, port: 82}
    - {name: d, port: 83, targetPort: nobody}
    - {name: e, port: 53, targetPort: dns, protocol: UDP}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: api}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: db, namespace: shop}
spec: {selector: {matchLabels: {app: db}}, template: {metadata: {labels: {app: db}}, spec: {containers: []}}}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: db}, ports: [{port: 80, targetPort: 5432}]}
---
apiVersion: signalbox.dev/v1alpha1
kind: ExternalHost
metadata: {name: users}
spec: {addresses: [198.51.100.100]}
---
apiVersion: signalbox.dev/v1alpha1
kind: ExternalHost
metadata: {name: bare}
spec: {addresses: []}
";

/// `why shop/web shop/api:80` said "allowed" without a word on the Service of that name, whose port 80 leads to 8080 and was shut.
#[test]
fn a_port_that_is_a_services_is_told_with_where_it_leads() {
    let folder = Folder::new(&[("shop.yaml", SHOP)]);
    let note = "this answer is not about it";
    for (to, expected) in [
        (
            "shop/api:80",
            Some(
                "has port 80/TCP, too, and leads to its pods' port 8080: this answer is not about it; ask about shop/api:8080",
            ),
        ),
        ("shop/api:81", Some("ask about shop/api:8081")),
        ("shop/api:82", None),
        ("shop/api:83", Some("does not declare")),
        ("shop/api:53/UDP", Some("ask about shop/api:5353/UDP")),
        ("shop/api:53", None),
        ("shop/api:8080", None),
        ("shop/web:80", Some("to others than shop/web")),
        ("shop/db:80", Some("ask about shop/db:5432")),
    ] {
        let outcome = signalbox(&["explain", "shop/web", to, &folder.text(), "-o", "json"]);
        let value = outcome.json();
        schema::check("explain", &value);
        let notes = value["notes"].to_string();
        match expected {
            Some(expected) => assert!(notes.contains(expected) && notes.contains(note), "{to}: {notes}"),
            None => assert!(!notes.contains(note), "{to}: {notes}"),
        }
        let table = signalbox(&["explain", "shop/web", to, &folder.text()]).out;
        assert_eq!(table.contains(note), expected.is_some(), "{to}: {table}");
    }
}

/// `test` calls a host outside so, and `why` refused the name.
#[test]
fn a_host_outside_is_named_as_the_tests_name_it() {
    let folder = Folder::new(&[("shop.yaml", SHOP)]);
    let outcome = signalbox(&["explain", "outside/users", "shop/api:8080", &folder.text(), "-o", "json"]);
    let value = outcome.json();
    assert_eq!((outcome.code, &value["from"]), (0, &"198.51.100.100".into()), "{outcome:#?}");
    assert_eq!(value["notes"][0], "outside/users is 198.51.100.100");
    let outcome = signalbox(&["explain", "shop/web", "outside/bare:443", &folder.text()]);
    assert!(outcome.code == 2 && outcome.err.contains("no address"), "{outcome:#?}");
    let outcome = signalbox(&["explain", "shop/web", "outside/nobody:443", &folder.text()]);
    assert!(outcome.code == 2 && outcome.err.contains("outside/nobody is not among"), "{outcome:#?}");
}

/// "Give more files" is no help to one who asks a cluster.
#[test]
fn a_name_that_a_cluster_lacks_is_met_with_how_the_outside_is_asked_for() {
    let live = Objects(signalbox_policy::parse_documents(SHOP, "test").into_iter().map(Result::unwrap).collect());
    let outcome =
        signalbox_live(&["explain", "shop/web", "shop/www.example.com:443", "--kubeconfig", "some"], "", &live);
    assert!(outcome.err.contains("by its address, or as outside/NAME"), "{outcome:#?}");
    assert!(!outcome.err.contains("more files"), "{outcome:#?}");
}

/// Two pods of an API that differ in a label, one that is not ready, a policy that lets web reach one of them; and Services of all sorts.
const SERVICES: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: []}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}], conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api-1, namespace: shop, labels: {app: api, track: stable}}
spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}], conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api-2, namespace: shop, labels: {app: api, track: canary}}
spec: {containers: [{name: c, ports: [{name: http, containerPort: 9090}]}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.3}], conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api-3, namespace: shop, labels: {app: api, track: late}}
spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.4}], conditions: [{type: Ready, status: 'False'}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: canary, namespace: shop}
spec: {podSelector: {matchLabels: {track: canary}}, ingress: []}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: outward, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {}}]}]
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.96.0.10, selector: {app: api}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: stable, namespace: shop}
spec:
  clusterIP: 10.96.0.11
  selector: {app: api, track: stable}
  ports: [{name: web, port: 80, targetPort: 8080}, {name: dns, port: 53, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: canary, namespace: shop}
spec: {clusterIP: 10.96.0.12, selector: {track: canary}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: late, namespace: shop}
spec: {clusterIP: 10.96.0.13, selector: {track: late}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.14, selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: bare, namespace: shop}
spec: {clusterIP: None, selector: {track: stable}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: shop}
spec: {type: ExternalName, externalName: db.example.com, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: hand, namespace: shop}
spec: {clusterIP: 10.96.0.15, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: odd, namespace: shop}
spec: {clusterIP: 10.96.0.16, selector: {track: stable}, ports: [{port: 80, targetPort: nosuch}]}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec: {clusterIP: 10.96.0.17, selector: {track: stable}, externalIPs: [198.51.100.9], ports: [{port: 80, targetPort: 8080}]}
status: {loadBalancer: {ingress: [{ip: 198.51.100.10}]}}
";

fn services(to: &str) -> (Outcome, Value) {
    let outcome = signalbox_with(&["explain", "shop/web", to, "-", "-o", "json"], SERVICES);
    let value = outcome.json();
    schema::check("explain", &value);
    (outcome, value)
}

/// `why shop/web 10.96.0.10:80` judged the address of a Service as one outside, where policies decide on the pods behind it.
#[test]
fn a_service_is_judged_on_each_ready_pod_behind_it_at_its_target_port() {
    for to in
        ["10.96.0.10:80", "shop/service/api:80", "shop/svc/api:http", "shop/service/api", "shop/service/api:80/TCP"]
    {
        let (outcome, value) = services(to);
        let answers: Vec<_> = value["answers"].as_array().unwrap().iter().collect();
        let told: Vec<_> = answers.iter().map(|one| (&one["to"], &one["port"], &one["verdict"])).collect();
        let expected = [
            (&"shop/api-1".into(), &8080.into(), &"allowed".into()),
            (&"shop/api-2".into(), &9090.into(), &"denied".into()),
        ];
        assert_eq!(told, expected, "{to}: {value:#}");
        assert_eq!(value["service"], serde_json::json!({"name": "shop/api", "verdict": "differs"}));
        assert_eq!((outcome.code, &value["to"], &value["port"]), (1, &"shop/service/api".into(), &80.into()));
        let notes = value["notes"].to_string();
        assert!(notes.contains("not ready") && notes.contains("shop/api-3"), "{notes}");
    }
    let (_, value) = services("10.96.0.10:80");
    assert!(value["notes"].to_string().contains("10.96.0.10 is the address of Service shop/api"), "{value:#}");
    for (to, verdict, code) in [("10.96.0.11:80", "allowed", 0), ("10.96.0.12:80", "denied", 1)] {
        let (outcome, value) = services(to);
        assert_eq!((outcome.code, &value["service"]["verdict"]), (code, &verdict.into()), "{to}: {value:#}");
        let egress = &value["answers"][0]["egress"];
        assert_eq!(egress["rule"]["policy"]["name"], "outward", "a rule for pods lets it out: {value:#}");
    }
    let table = signalbox_with(&["explain", "shop/web", "shop/service/api:80", "-"], SERVICES).out;
    for part in [
        "shop/web -> Service shop/api TCP 80: backends differ: allowed to 1, denied to 1",
        "shop/web -> shop/api-1 TCP 8080: allowed",
        "shop/web -> shop/api-2 TCP 9090: denied",
    ] {
        assert!(table.contains(part), "{part}:\n{table}");
    }
    let table = signalbox_with(&["explain", "shop/web", "shop/service/stable:web", "-"], SERVICES).out;
    assert!(table.contains("Service shop/stable TCP 80: allowed, to the pod behind it"), "{table}");
    // Through its own Service a pod is subject to policy (SEMANTICS 15).
    let own = signalbox_with(&["explain", "shop/api-2", "shop/service/canary:80", "-"], SERVICES);
    assert_eq!(own.code, 1, "{own:#?}");
    let other = signalbox_with(&["explain", "198.51.100.7", "10.96.0.99:80", "-"], SERVICES);
    assert!(!other.out.contains("Service"), "{other:#?}");
}

#[test]
fn a_service_behind_which_nothing_can_be_judged_is_told_with_what_to_do() {
    for (to, expected) in [
        ("shop/service/nosuch:80", "Service shop/nosuch is not among the objects; the namespace shop has "),
        ("shops/service/api:80", "there is shop/api: write shop/service/api"),
        ("shop/service/stable:81", "Service shop/stable has no port 81/TCP; it has 80/TCP (web), 53/UDP (dns)"),
        ("shop/service/stable:53", "has no port 53/TCP"),
        ("shop/service/stable:https", "has no port https; it has 80/TCP (web)"),
        ("10.96.0.11:81", "Service shop/stable has no port 81/TCP"),
        ("shop/service/stable", "none is named; it has 80/TCP (web), 53/UDP (dns)"),
        ("shop/service/late:80", "Service shop/late selects no ready pod: shop/api-3 is not ready; see why with"),
        ("shop/service/web:80", "selects no ready pod: no pod has the labels of its selector; compare its selector"),
        ("10.96.0.14:80", "Service shop/web selects no ready pod"),
        ("shop/service/bare:80", "is headless: its name leads to its pods' own addresses"),
        ("shop/service/bare:80", "as in shop/api-1:80"),
        ("shop/service/far:80", "is an ExternalName: it stands for the name db.example.com"),
        ("shop/service/hand:80", "has no selector"),
        ("shop/service/odd:80", "\"nosuch\", which none of its pods declares: shop/api-1"),
        ("198.51.100.9:80", "Service shop/front has 198.51.100.9 as an address for others"),
        ("198.51.100.10:80", "ask about shop/service/front"),
        ("shop/stable:80", "as a destination write shop/service/stable"),
        ("shop/service/api:80/ICMP", "write TCP, UDP or SCTP"),
    ] {
        let outcome = signalbox_with(&["explain", "shop/web", to, "-"], SERVICES);
        assert_eq!((outcome.code, outcome.out.as_str()), (2, ""), "{to}: {outcome:#?}");
        assert!(outcome.err.contains(expected), "{to}: {}", outcome.err);
    }
    let outcome = signalbox_with(&["explain", "shop/service/api", "shop/web:80", "-"], SERVICES);
    assert!(outcome.code == 2 && outcome.err.contains("starts no connection"), "{outcome:#?}");
}

/// An address that a Service has for others was refused at every port: another one of the node that has it was not answered about.
#[test]
fn an_address_for_others_is_refused_at_the_services_own_ports_only() {
    for (to, verdict) in
        [("198.51.100.9:22", "denied"), ("198.51.100.9:80/UDP", "denied"), ("198.51.100.10:443", "denied")]
    {
        let (outcome, value) = services(to);
        assert_eq!((outcome.code, &value["answers"][0]["verdict"]), (1, &verdict.into()), "{to}: {value:#}");
        assert!(value.get("service").is_none(), "{to}: {value:#}");
    }
    // Of two Services with one address the one that has the port is named.
    let shared = "\
---
apiVersion: v1
kind: Service
metadata: {name: mail, namespace: shop}
spec: {clusterIP: 10.96.0.18, selector: {track: stable}, externalIPs: [198.51.100.9], ports: [{name: smtp, port: 25}]}
";
    let explain = |to: &str| signalbox_with(&["explain", "shop/web", to, "-"], &format!("{SERVICES}{shared}"));
    for (to, expected) in [
        ("198.51.100.9:25", "Service shop/mail has 198.51.100.9 as an address for others at port 25/TCP"),
        ("198.51.100.9:80", "Service shop/front has 198.51.100.9 as an address for others at port 80/TCP"),
        ("198.51.100.9:smtp", "ask about shop/service/mail"),
        ("198.51.100.9:nosuch", "only pods give their ports names"),
        ("198.51.100.9:80/ICMP", "write TCP, UDP or SCTP"),
    ] {
        let outcome = explain(to);
        assert_eq!(outcome.code, 2, "{to}: {outcome:#?}");
        assert!(outcome.err.contains(expected), "{to}: {}", outcome.err);
    }
    assert_eq!(explain("198.51.100.9:22").code, 1);
}

/// Of a Service that selects nobody the note said "leads to others than".
#[test]
fn a_service_of_a_pods_name_that_selects_nobody_is_told_as_such() {
    let (outcome, value) = services("shop/web:80");
    let notes = value["notes"].to_string();
    assert_eq!(outcome.code, 0);
    assert!(notes.contains("Service shop/web has port 80/TCP, too, and selects no ready pod"), "{notes}");
    assert!(notes.contains("this answer is not about it") && !notes.contains("others than"), "{notes}");
}

/// Of a headless Service without ports it was said that it has not one port, and of one with others that it has not this one.
#[test]
fn a_headless_service_is_told_as_such_whatever_port_is_asked_for() {
    let portless = "\
---
apiVersion: v1
kind: Service
metadata: {name: portless, namespace: shop}
spec: {clusterIP: None, selector: {track: stable}}
---
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: shop}
spec: {clusterIP: None, selector: {track: stable}, ports: [{port: 53, protocol: UDP}]}
";
    for (to, expected) in [
        ("shop/service/portless", "as in shop/api-1:PORT"),
        ("shop/service/portless:8080", "as in shop/api-1:8080"),
        ("shop/service/portless:8080/UDP", "as in shop/api-1:8080/UDP"),
        ("shop/service/bare", "as in shop/api-1:80\n"),
        ("shop/service/bare:8080", "as in shop/api-1:8080"),
        ("shop/service/dns", "as in shop/api-1:53/UDP"),
    ] {
        let outcome = signalbox_with(&["explain", "shop/web", to, "-"], &format!("{SERVICES}{portless}"));
        assert_eq!(outcome.code, 2, "{to}: {outcome:#?}");
        assert!(outcome.err.contains("is headless") && outcome.err.contains(expected), "{to}: {}", outcome.err);
    }
    let outcome = signalbox_with(&["explain", "shop/web", "shop/service/bare:80/ICMP", "-"], SERVICES);
    assert!(outcome.code == 2 && outcome.err.contains("write TCP, UDP or SCTP"), "{outcome:#?}");
}

/// A Service of one family is not reached by addresses of the other one.
#[test]
fn a_service_is_judged_by_its_own_families() {
    let text = |families: &str| {
        format!(
            "\
{{apiVersion: v1, kind: Pod, metadata: {{name: a, namespace: x}}, status: {{podIPs: [{{ip: 10.0.0.1}}, {{ip: 'fd00::1'}}]}}}}
---
{{apiVersion: v1, kind: Pod, metadata: {{name: b, namespace: x, labels: {{app: b}}}}, status: {{podIPs: [{{ip: 10.0.0.2}}, {{ip: 'fd00::2'}}]}}}}
---
{{apiVersion: v1, kind: Pod, metadata: {{name: six, namespace: x}}, status: {{podIPs: [{{ip: 'fd00::3'}}]}}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: p, namespace: x}}
spec: {{podSelector: {{matchLabels: {{app: b}}}}, ingress: [{{from: [{{ipBlock: {{cidr: 10.0.0.0/24}}}}]}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: b, namespace: x}}
spec: {{clusterIPs: {families}, selector: {{app: b}}, ports: [{{port: 80}}]}}
"
        )
    };
    for (families, from, to, expected) in [
        ("[10.96.0.1]", "x/a", "x/service/b:80", &["allowed"][..]),
        ("['fd96::1']", "x/a", "x/service/b:80", &["denied"]),
        ("['fd96::1', 10.96.0.1]", "x/a", "x/service/b:80", &["allowed", "denied"]),
        ("['fd96::1', 10.96.0.1]", "x/a", "10.96.0.1:80", &["allowed"]),
        ("['fd96::1', 10.96.0.1]", "x/a", "[fd96::1]:80", &["denied"]),
        ("[10.96.0.1]", "x/six", "x/service/b:80", &["unknown"]),
    ] {
        let outcome = signalbox_with(&["explain", from, to, "-", "-o", "json"], &text(families));
        let value = outcome.json();
        schema::check("explain", &value);
        let verdicts: Vec<_> = value["answers"].as_array().unwrap().iter().map(|it| &it["verdict"]).collect();
        assert_eq!(verdicts, expected, "{families} {from} {to}: {value:#}");
    }
}

/// A Service with one pod behind it, whose families differ, was said to have backends that differ: "allowed to 1, denied to 1".
#[test]
fn families_that_differ_are_not_told_as_pods_that_differ() {
    let pod = |name: &str, app: &str, addresses: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: x, labels: {{app: b, own: {app}}}}}, status: {{podIPs: {addresses}}}}}\n"
        )
    };
    let both = |last: u8| format!("[{{ip: 10.0.0.{last}}}, {{ip: 'fd00::{last}'}}]");
    let rest = "\
---
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x}, status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: four, namespace: x}
spec: {podSelector: {matchLabels: {own: four}}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/24}}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut, namespace: x}
spec: {podSelector: {matchLabels: {own: shut}}}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: x}
spec: {clusterIPs: [10.96.0.1, 'fd96::1'], selector: {app: b}, ports: [{port: 80}]}
";
    for (pods, verdict, title) in [
        (
            vec![pod("b1", "four", &both(2))],
            "families-differ",
            "families differ: over IPv4 allowed to 1, over IPv6 denied to 1",
        ),
        (
            vec![pod("b1", "four", &both(2)), pod("b2", "four", &both(3))],
            "families-differ",
            "families differ: over IPv4 allowed to 2, over IPv6 denied to 2",
        ),
        // Each pod has one family only, and there is nothing else by which to reach it.
        (
            vec![pod("b1", "open", "[{ip: 10.0.0.2}]"), pod("b2", "shut", "[{ip: 'fd00::3'}]")],
            "families-differ",
            "families differ: over IPv4 allowed to 1, over IPv6 denied to 1",
        ),
        (
            vec![pod("b1", "four", &both(2)), pod("b2", "shut", &both(3))],
            "differs",
            "backends differ: denied to 1, by the family to 1",
        ),
        (
            vec![pod("b1", "open", &both(2)), pod("b2", "shut", &both(3))],
            "differs",
            "backends differ: allowed to 1, denied to 1",
        ),
    ] {
        let text = format!("{}{rest}", pods.concat());
        let outcome = signalbox_with(&["explain", "x/a", "x/service/b", "-", "-o", "json"], &text);
        let value = outcome.json();
        schema::check("explain", &value);
        assert_eq!((outcome.code, &value["service"]["verdict"]), (1, &verdict.into()), "{title}: {value:#}");
        let table = signalbox_with(&["explain", "x/a", "x/service/b", "-"], &text).out;
        let first = table.lines().find(|line| line.contains("Service x/b")).unwrap_or_default();
        assert!(first.ends_with(&format!("TCP 80: {title}")), "{title}:\n{table}");
    }
}

/// Two pods behind a Service on two nodes: each was judged as if the node that connects were its own, which is exempt (SEMANTICS 13).
#[test]
fn a_node_is_exempt_only_to_those_pods_behind_a_service_that_it_runs() {
    let pod = |name: &str, last: u8, node: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: x, labels: {{app: b}}}}, spec: {{{node}}}, status: {{podIP: 10.0.0.{last}}}}}\n"
        )
    };
    let on = |name: &str| format!("nodeName: {name}");
    let rest = "\
---
{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}, status: {addresses: [{type: Hostname, address: n2}, {type: InternalIP, address: 192.168.0.2}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut, namespace: x}
spec: {podSelector: {matchLabels: {app: b}}}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: x}
spec: {clusterIP: 10.96.0.1, selector: {app: b}, ports: [{port: 80, targetPort: 8080}]}
";
    let two = [pod("b1", 2, &on("n1")), pod("b2", 3, &on("n2"))].concat() + rest;
    let outcome = signalbox_with(&["explain", "node", "x/service/b", "-"], &two);
    assert_eq!((outcome.code, outcome.out.as_str()), (2, ""), "{outcome:#?}");
    for part in ["Service x/b", "n1 (192.168.0.1), n2 (192.168.0.2)", "name the node by its address"] {
        assert!(outcome.err.contains(part), "{part}: {}", outcome.err);
    }
    // By its address the node is known, and so is which of the pods it runs.
    let outcome = signalbox_with(&["explain", "192.168.0.1", "x/service/b", "-", "-o", "json"], &two);
    let value = outcome.json();
    let told: Vec<_> = value["answers"].as_array().unwrap().iter().map(|it| (&it["to"], &it["verdict"])).collect();
    assert_eq!(told, [(&"x/b1".into(), &"allowed".into()), (&"x/b2".into(), &"denied".into())], "{value:#}");
    // By the Service's address it is the same question.
    assert_eq!(signalbox_with(&["explain", "node", "10.96.0.1:80", "-"], &two).code, 2);
    // All on one node: there is one that is meant. One pod: its own, as where a pod is asked about.
    for (pods, note) in [
        ([pod("b1", 2, &on("n1")), pod("b2", 3, &on("n1"))].concat(), "\"node\" is n1, on which all of the pods"),
        (pod("b1", 2, &on("n1")), ""),
        (pod("b1", 2, ""), ""),
    ] {
        let outcome = signalbox_with(&["explain", "node", "x/service/b", "-"], &(pods + rest));
        assert!(outcome.code == 0 && outcome.out.contains(note), "{outcome:#?}");
    }
    // Where a pod's node is not known, nothing is taken for granted.
    for second in [String::new(), on("n1")] {
        let text = [pod("b1", 2, ""), pod("b2", 3, &second)].concat() + rest;
        let outcome = signalbox_with(&["explain", "node", "x/service/b", "-"], &text);
        assert_eq!((outcome.code, outcome.out.as_str()), (2, ""), "{outcome:#?}");
        assert!(outcome.err.contains("is not known of x/b1"), "{}", outcome.err);
        assert!(outcome.err.contains("as in `signalbox explain node x/b1:8080`"), "{}", outcome.err);
    }
}
