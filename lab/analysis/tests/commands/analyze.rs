//! `signalbox analyze`.

use serde_json::{Value, json};

use crate::run::{Folder, Objects, Outcome, signalbox, signalbox_live, signalbox_with};
use crate::schema;

pub const PODS: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: shop}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: c, image: i}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {containers: [{name: c, image: i, ports: [{name: sql, containerPort: 5432}]}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}]}
";

pub const DB: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from:
    - podSelector: {matchLabels: {app: web}}
    ports:
    - {port: sql}
    - {port: 9000, endPort: 9010, protocol: UDP}
";

/// `src dst [family] ports` of each connection.
fn connections(outcome: &Outcome) -> Vec<String> {
    let value = outcome.json();
    schema::check("analyze", &value);
    let line = |connection: &Value| {
        let text = |field: &str| connection[field].as_str().expect("a text");
        let family = connection.get("family").map_or(String::new(), |family| format!(" {family}"));
        format!("{} {}{family} {}", text("src"), text("dst"), connection["ports"])
    };
    value["connections"].as_array().expect("a list").iter().map(line).collect()
}

const ALL: &str = r#"{"SCTP":[[1,65535]],"TCP":[[1,65535]],"UDP":[[1,65535]]}"#;

#[test]
fn the_json_is_exactly_as_documented() {
    let folder = Folder::new(&[("pods.yaml", PODS), ("policies/db.yml", DB)]);
    let outcome = signalbox(&["analyze", &folder.text(), "-o", "json", "--loopback", "omit"]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    let flat: String = outcome.out.lines().collect();
    assert_eq!(
        flat,
        r#"{"connections":[{"src":"shop/db","dst":"shop/web","ports":{"TCP":[[1,65535]],"UDP":[[1,65535]],"SCTP":[[1,65535]]}},{"src":"shop/web","dst":"shop/db","ports":{"TCP":[[5432,5432]],"UDP":[[9000,9010]]}}],"unknown":[]}"#
    );
    assert_eq!(outcome.err, "");
}

#[test]
fn nothing_open_and_nothing_at_all_are_valid_json_too() {
    let shut = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: shut, namespace: shop}\nspec: {podSelector: {}, policyTypes: [Ingress]}\n";
    let outcome = signalbox_with(&["analyze", "-", "-o", "json", "--loopback", "omit"], &(PODS.to_owned() + shut));
    assert_eq!(outcome.json(), json!({"connections": [], "unknown": []}));
    let outcome = signalbox_with(&["analyze", "-", "-o", "json"], "");
    assert_eq!(outcome.json(), json!({"connections": [], "unknown": []}));
    assert!(outcome.err.contains("no pods"), "{}", outcome.err);
}

#[test]
fn a_pod_to_itself_counts_as_one_says() {
    let shut = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: shut, namespace: shop}\nspec: {podSelector: {}, policyTypes: [Ingress]}\n";
    let text = PODS.to_owned() + shut;
    let lines = |how: &str| connections(&signalbox_with(&["analyze", "-", "-o", "json", "--loopback", how], &text));
    assert_eq!(lines("allow"), [format!("shop/db shop/db {ALL}"), format!("shop/web shop/web {ALL}")]);
    assert_eq!(lines("omit"), [] as [&str; 0]);
    assert_eq!(lines("policy"), [] as [&str; 0]);
    let default = connections(&signalbox_with(&["analyze", "-", "-o", "json"], &text));
    assert_eq!(default, lines("allow"));
}

#[test]
fn families_are_named_where_they_differ() {
    let pods = "\
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x, labels: {app: a}}
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
spec:
  podSelector: {matchLabels: {app: b}}
  ingress:
  - from: [{ipBlock: {cidr: 10.0.0.0/24}}]
    ports: [{port: 80}]
  - from: [{ipBlock: {cidr: 'fd00::/64'}}]
    ports: [{port: 80}, {port: 443}]
";
    let lines = connections(&signalbox_with(&["analyze", "-", "-o", "json", "--loopback", "omit"], pods));
    assert_eq!(
        lines,
        [
            r#"x/a x/b "IPv4" {"TCP":[[80,80]]}"#.to_owned(),
            r#"x/a x/b "IPv6" {"TCP":[[80,80],[443,443]]}"#.to_owned(),
            format!("x/b x/a {ALL}"),
        ]
    );
}

#[test]
fn workloads_stand_for_their_pods() {
    let text = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: shop}
spec:
  schedule: '0 0 * * *'
  jobTemplate: {spec: {template: {metadata: {labels: {app: nightly}}, spec: {containers: [{name: c, image: i}], restartPolicy: Never}}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: nightly}}}], ports: [{port: http}]}]
";
    let lines = connections(&signalbox_with(&["analyze", "-", "-o", "json", "--loopback", "omit"], text));
    assert_eq!(
        lines,
        [r#"shop/nightly shop/web {"TCP":[[8080,8080]]}"#.to_owned(), format!("shop/web shop/nightly {ALL}")]
    );
    let lines = connections(&signalbox_with(&["analyze", "-", "-o", "json", "--loopback", "policy"], text));
    assert!(!lines.iter().any(|line| line.starts_with("shop/web shop/web")), "{lines:#?}");
}

#[test]
fn the_outside_is_cut_where_policies_cut_it() {
    let policy = "\
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: out, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress, Ingress]
  egress: [{to: [{ipBlock: {cidr: 198.51.100.0/24, except: [198.51.100.128/25]}}], ports: [{port: 443}]}]
  ingress: []
";
    let outcome = signalbox_with(
        &["analyze", "-", "-o", "json", "--external", "--loopback", "omit"],
        &(PODS.to_owned() + policy),
    );
    let lines = connections(&outcome);
    let web: Vec<&String> = lines.iter().filter(|line| line.starts_with("shop/web ")).collect();
    assert_eq!(web, [r#"shop/web 198.51.100.0-198.51.100.127 {"TCP":[[443,443]]}"#]);
    for range in ["0.0.0.0-198.51.99.255", "198.51.100.128-198.51.100.255", "198.51.101.0-255.255.255.255"] {
        assert!(lines.contains(&format!("{range} shop/db {ALL}")), "{range}: {lines:#?}");
        assert!(lines.contains(&format!("shop/db {range} {ALL}")), "{range}: {lines:#?}");
        assert!(!lines.iter().any(|line| line.starts_with(&format!("{range} shop/web"))), "{range}: {lines:#?}");
    }
}

#[test]
fn whatever_makes_a_pair_unknown_is_listed() {
    let text = "\
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x, labels: {app: a}}
spec: {containers: []}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: x, labels: {app: b}}
spec: {containers: []}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: x}
spec: {podSelector: {matchLabels: {app: b}}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: q, namespace: x}
spec: {podSelector: {matchLabels: {app: a}}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0}}]}]}
";
    let outcome = signalbox_with(&["analyze", "-", "-o", "json", "--loopback", "omit"], text);
    assert_eq!(connections(&outcome), [] as [&str; 0]);
    let unknown = outcome.json()["unknown"].clone();
    let has = |object: &str, path: &str| {
        let list = unknown.as_array().expect("a list");
        list.iter().any(|it| {
            it["object"] == object
                && it["path"] == path
                && it["reason"].as_str().is_some_and(|reason| !reason.is_empty())
        })
    };
    assert!(has("NetworkPolicy x/q", "spec.ingress[0].from[0].ipBlock.cidr"), "{unknown:#}");
    assert!(has("Pod x/a", "status.podIPs"), "{unknown:#}");
    // Nobody asks where b's packets come from: q isolates a, whatever else it says.
    let strict = signalbox_with(&["analyze", "-", "--strict"], text);
    assert_eq!(strict.code, 1);
    assert!(strict.out.contains("unknown: everything"), "{}", strict.out);
}

#[test]
fn one_bad_document_hides_no_other() {
    let folder = Folder::new(&[
        ("a.yaml", PODS),
        ("b.yaml", "kind: [unclosed\n---\nkind: ConfigMap\napiVersion: v1\nmetadata: {name: x}\n"),
        ("c.json", "{\"kind\": "),
        ("d.yaml", DB),
    ]);
    std::fs::write(folder.path().join("e.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    let outcome = signalbox(&["analyze", &folder.text(), "-o", "json", "--loopback", "omit"]);
    assert_eq!(outcome.code, 2, "what cannot be read is told by the exit status");
    assert_eq!(connections(&outcome).len(), 2, "and the rest is analysed");
    let unknown = outcome.json()["unknown"].clone();
    let objects: Vec<&str> = unknown.as_array().unwrap().iter().map(|it| it["object"].as_str().unwrap()).collect();
    let of = |name: &str| format!("{}: document 1", folder.file(name));
    assert_eq!(objects, [of("b.yaml"), of("c.json"), of("e.yaml")]);
    assert!(outcome.err.contains("b.yaml: document 1, line 1"), "{}", outcome.err);
    assert!(unknown[2]["reason"].as_str().unwrap().contains("UTF-8"), "{unknown:#}");
}

#[test]
fn what_is_no_manifest_is_passed_over_in_folders_and_told_where_it_is_named() {
    let folder = Folder::new(&[
        ("pods.yaml", PODS),
        ("expected.json", "{\"points\": []}"),
        ("list.json", "[1, 2]"),
        ("notes.txt", "kind: ["),
        (".git/config.yaml", "kind: ["),
    ]);
    let outcome = signalbox(&["analyze", &folder.text(), "-o", "json"]);
    assert_eq!((outcome.code, outcome.json()["unknown"].clone()), (0, json!([])), "{outcome:#?}");
    assert_eq!(outcome.err.matches("is no Kubernetes object; passed over").count(), 2, "{}", outcome.err);
    let named = signalbox(&["analyze", &folder.file("pods.yaml"), &folder.file("expected.json"), "-o", "json"]);
    let unknown = named.json()["unknown"].clone();
    assert_eq!(unknown[0]["object"], format!("{}: document 1", folder.file("expected.json")), "{unknown:#}");
    assert_eq!(unknown[0]["path"], "kind");
}

#[test]
fn loops_of_links_end() {
    let folder = Folder::new(&[("a/pods.yaml", PODS), ("a/db.yaml", DB)]);
    std::os::unix::fs::symlink(folder.path(), folder.path().join("a/again")).unwrap();
    std::os::unix::fs::symlink("nowhere.yaml", folder.path().join("a/gone.yaml")).unwrap();
    let outcome = signalbox(&["analyze", &folder.text(), "-o", "json", "--loopback", "omit"]);
    assert_eq!((outcome.code, connections(&outcome).len()), (0, 2), "{outcome:#?}");
}

#[test]
fn wrong_usage_says_what_to_do() {
    let empty = Folder::new(&[("readme.md", "")]);
    let huge = Folder::new(&[]);
    let file = std::fs::File::create(huge.path().join("huge.yaml")).unwrap();
    file.set_len(65 * 1024 * 1024).unwrap();
    let missing = empty.file("missing.yaml");
    for (args, expected) in [
        (vec!["analyze"], "required"),
        (vec!["analyze", &missing], "missing.yaml"),
        (vec!["analyze", &empty.text()], "no *.yaml"),
        (vec!["analyze", &huge.file("huge.yaml")], "split it"),
        (vec!["analyze", "-", "-"], "once"),
        (vec!["analyze", "-", "-o", "xml"], "possible values"),
        (vec!["analyze", "-", "--context", "x"], "--kubeconfig"),
    ] {
        let outcome = signalbox_with(&args, "");
        assert_eq!(outcome.code, 2, "{args:?}: {outcome:#?}");
        assert!(outcome.err.contains(expected), "{args:?}: {}", outcome.err);
    }
    // In a folder, the same file is one that cannot be read, and the others are.
    std::fs::write(huge.path().join("pods.yaml"), PODS).unwrap();
    let outcome = signalbox(&["analyze", &huge.text(), "-o", "json"]);
    assert_eq!(outcome.code, 2);
    assert_eq!(connections(&outcome).len(), 4);
}

#[test]
fn namespaces_are_chosen() {
    let other = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: c, namespace: other}\nspec: {containers: []}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: d, namespace: third}\nspec: {containers: []}\n";
    let text = PODS.to_owned() + other;
    let count = |args: &[&str]| {
        let args: Vec<&str> =
            ["analyze", "-", "-o", "json", "--loopback", "omit"].iter().chain(args).copied().collect();
        connections(&signalbox_with(&args, &text)).len()
    };
    assert_eq!(count(&[]), 12);
    assert_eq!(count(&["-n", "shop"]), 10);
    assert_eq!(count(&["-n", "other", "--namespace", "third"]), 10);
}

#[test]
fn tables_csv_and_graphs_say_the_same() {
    let text = PODS.to_owned() + "---\n" + DB;
    let run = |format: &str| {
        let outcome = signalbox_with(&["analyze", "-", "-o", format, "--loopback", "omit"], &text);
        assert_eq!(outcome.code, 0, "{outcome:#?}");
        outcome.out
    };
    let table = run("table");
    assert!(table.contains("shop/web  shop/db   TCP 5432, UDP 9000-9010"), "{table}");
    assert!(table.contains("2 pairs are open"), "{table}");
    let csv = run("csv");
    assert_eq!(csv.lines().next(), Some("src,dst,family,protocol,first_port,last_port,verdict"));
    assert!(csv.contains("\nshop/web,shop/db,,UDP,9000,9010,open\n"), "{csv}");
    assert_eq!(csv.lines().count(), 1 + 3 + 2);
    let dot = run("dot");
    assert!(dot.contains("\"shop/web\" -> \"shop/db\" [label=\"TCP 5432, UDP 9000-9010\"];"), "{dot}");
    assert!(dot.contains("label=\"shop\""), "{dot}");
    let svg = run("svg");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    assert!(svg.contains("<title>shop/web -&gt; shop/db: TCP 5432, UDP 9000-9010</title>"), "{svg}");
}

#[test]
fn names_are_escaped_in_drawings() {
    // Kubernetes has no such names, but a file may.
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: '<b>&\"\\x', namespace: 'a''b'}\nspec: {containers: []}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: c, namespace: x}\nspec: {containers: []}\n";
    let svg = signalbox_with(&["analyze", "-", "-o", "svg"], text).out;
    assert!(!svg.contains("<b>"), "{svg}");
    let dot = signalbox_with(&["analyze", "-", "-o", "dot"], text).out;
    let quotes = dot.replace("\\\\", "").replace("\\\"", "").matches('"').count();
    assert_eq!(quotes % 2, 0, "{dot}");
}

#[test]
fn a_picture_of_too_much_is_refused() {
    let pod = |index: usize| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{index}, namespace: n{index}}}\nspec: {{containers: []}}\n"
        )
    };
    let text: String = (0..160).map(pod).collect();
    let outcome = signalbox_with(&["analyze", "-", "-o", "svg"], &text);
    assert_eq!(outcome.code, 2);
    assert!(outcome.err.contains("160 pods") && outcome.err.contains("--namespace"), "{}", outcome.err);
    assert_eq!(outcome.out, "", "nothing half drawn");
}

#[test]
fn a_live_cluster_is_read_and_files_stand_in_for_its_objects() {
    let read = |text: &str| {
        signalbox_policy::parse_documents(text, "test").into_iter().map(Result::unwrap).collect::<Vec<_>>()
    };
    let mut objects = read(PODS);
    objects.extend(read(DB));
    let live = Objects(objects);
    let args = ["analyze", "--kubeconfig", "some", "--context", "other", "-o", "json", "--loopback", "omit"];
    assert_eq!(connections(&signalbox_live(&args, "", &live)).len(), 2);
    let folder = Folder::new(&[("db.yaml", &DB.replace("sql", "80"))]);
    let file = folder.file("db.yaml");
    let args: Vec<&str> = args.iter().copied().chain([file.as_str()]).collect();
    let lines = connections(&signalbox_live(&args, "", &live));
    assert!(lines.contains(&r#"shop/web shop/db {"TCP":[[80,80]],"UDP":[[9000,9010]]}"#.to_owned()), "{lines:#?}");
}

#[test]
fn a_closed_pipe_is_quiet() {
    use clap::Parser;
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }
    for format in ["table", "json", "csv", "dot", "svg"] {
        let cli = crate::run::Cli::parse_from(["signalbox", "analyze", "-", "-o", format]);
        let mut err = Vec::new();
        let mut streams = signalbox_analysis::streams::Streams {
            input: &mut PODS.as_bytes(),
            out: &mut Closed,
            err: &mut err,
            paint: signalbox_analysis::streams::Paint::Plain,
            progress: signalbox_analysis::streams::Progress::Hidden,
        };
        let exit = signalbox_analysis::run(&cli.command, &Objects(Vec::new()), &mut streams);
        assert!(matches!(exit, Ok(signalbox_analysis::Exit::Fine)), "{format}: {exit:?}");
        assert!(err.is_empty());
    }
}

#[test]
fn what_has_no_kind_is_passed_over_unless_it_looks_like_a_policy() {
    let chart = "apiVersion: v2\nname: shop\nversion: 0.1.0\n";
    let values = "spec: {replicas: 3}\nmetadata: {title: values}\n";
    let folder = Folder::new(&[("pods.yaml", PODS), ("Chart.yaml", chart), ("values.yaml", values)]);
    let outcome = signalbox(&["analyze", &folder.text(), "-o", "json", "--loopback", "omit"]);
    assert_eq!((outcome.code, outcome.json()["unknown"].clone()), (0, json!([])), "{outcome:#?}");
    assert_eq!(connections(&outcome).len(), 2);
    assert!(outcome.err.contains("Chart.yaml: document 1 is no Kubernetes object; passed over"), "{outcome:#?}");

    let lost = DB.replace("kind: NetworkPolicy\n", "");
    let folder = Folder::new(&[("pods.yaml", PODS), ("lost.yaml", &lost)]);
    let outcome = signalbox(&["analyze", &folder.text(), "-o", "json", "--loopback", "omit"]);
    assert_eq!(connections(&outcome), [] as [String; 0]);
    assert_eq!(outcome.json()["unknown"][0]["path"], "kind", "{outcome:#?}");
}

#[test]
fn policies_of_one_priority_that_contradict_each_other_are_listed() {
    let policy = |name: &str, action: &str| {
        format!(
            "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{tier: Admin, priority: 1, subject: {{namespaces: {{}}}}, ingress: [{{action: {action}, from: [{{namespaces: {{}}}}]}}]}}\n"
        )
    };
    let both = policy("a", "Deny") + &policy("b", "Accept");
    let folder = Folder::new(&[("pods.yaml", PODS), ("both.yaml", &both)]);
    let outcome = signalbox(&["analyze", &folder.text(), "-o", "json"]);
    let unknown = &outcome.json()["unknown"];
    assert_eq!(unknown[0]["path"], "spec.priority", "{outcome:#?}");
    let same = policy("a", "Deny") + &policy("b", "Deny");
    let folder = Folder::new(&[("pods.yaml", PODS), ("same.yaml", &same)]);
    assert_eq!(signalbox(&["analyze", &folder.text(), "-o", "json"]).json()["unknown"], json!([]));
}

#[test]
fn a_range_with_nothing_but_pods_in_it_is_no_outside() {
    let block = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: block, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{ipBlock: {cidr: 10.0.0.1/32}}]}]
";
    let folder = Folder::new(&[("pods.yaml", PODS), ("block.yaml", block)]);
    let outcome = signalbox(&["analyze", &folder.text(), "-o", "json", "--external", "--loopback", "omit"]);
    assert!(connections(&outcome).iter().all(|line| !line.contains("10.0.0.1-10.0.0.1")), "{outcome:#?}");
}
