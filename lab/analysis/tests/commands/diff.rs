//! `signalbox diff`.

use serde_json::{Value, json};

use crate::analyze::{DB, PODS};
use crate::run::{Folder, Objects, Outcome, signalbox, signalbox_live, signalbox_with};
use crate::schema;

fn folder() -> Folder {
    let wider = DB.replace("port: sql", "port: 5000, endPort: 6000");
    Folder::new(&[
        ("old/pods.yaml", PODS),
        ("old/db.yaml", DB),
        ("new/pods.yaml", PODS),
        ("new/db.yaml", &wider),
        ("edit.yaml", &wider),
    ])
}

fn changes(outcome: &Outcome) -> Vec<String> {
    let value = outcome.json();
    schema::check("diff", &value);
    let line = |it: &Value| {
        let text = |field: &str| it[field].as_str().expect("a text");
        format!(
            "{} {} {}: {} -> {} {}",
            text("effect"),
            text("src"),
            text("dst"),
            text("before"),
            text("after"),
            it["ports"]
        )
    };
    value["changes"].as_array().expect("a list").iter().map(line).collect()
}

const WIDER: &str = r#"opens shop/web shop/db: shut -> open {"TCP":[[5000,5431],[5433,6000]]}"#;

#[test]
fn two_folders_are_compared() {
    let folder = folder();
    let (old, new) = (folder.file("old"), folder.file("new"));
    let outcome = signalbox(&["diff", &old, &new, "-o", "json"]);
    assert_eq!((outcome.code, changes(&outcome)), (0, vec![WIDER.to_owned()]));
    assert_eq!(outcome.json()["summary"], json!({"opens": 1, "closes": 0, "comes": 0, "goes": 0}));
    let same = signalbox(&["diff", &old, &old, "-o", "json", "--fail-on", "any"]);
    assert_eq!((same.code, changes(&same)), (0, vec![]));
}

#[test]
fn one_edit_is_compared_with_what_is() {
    let folder = folder();
    let (old, edit) = (folder.file("old"), folder.file("edit.yaml"));
    let outcome = signalbox(&["diff", &old, "--apply", &edit, "-o", "json"]);
    assert_eq!(changes(&outcome), [WIDER]);
    for name in ["NetworkPolicy/shop/db", "netpol/shop/db", "networkpolicies/shop/db"] {
        let outcome = signalbox(&["diff", &old, "--delete", name, "-o", "json"]);
        assert_eq!(changes(&outcome).len(), 1, "{name}: {outcome:#?}");
    }
    let gone = signalbox(&["diff", &old, "--delete", "pod/shop/web", "-o", "json"]);
    assert!(changes(&gone).iter().all(|line| line.starts_with("goes ") && line.contains("shop/web")), "{gone:#?}");
    assert!(
        changes(&gone)
            .contains(&r#"goes shop/web shop/db: open -> absent {"TCP":[[5432,5432]],"UDP":[[9000,9010]]}"#.to_owned())
    );
    let live = Objects(signalbox_policy::parse_documents(PODS, "test").into_iter().map(Result::unwrap).collect());
    let outcome = signalbox_live(&["diff", "--kubeconfig", "some", "--apply", &edit, "-o", "json"], "", &live);
    assert!(changes(&outcome)[0].starts_with("closes shop/web shop/db"), "{outcome:#?}");
}

#[test]
fn conditions_for_ci_are_exit_statuses() {
    let folder = folder();
    let (old, new) = (folder.file("old"), folder.file("new"));
    let third = "apiVersion: v1\nkind: Pod\nmetadata: {name: c, namespace: z}\nspec: {containers: []}\n";
    let come = Folder::new(&[("c.yaml", third)]);
    let code = |args: &[&str]| {
        let args: Vec<&str> = std::iter::once("diff").chain(args.iter().copied()).collect();
        signalbox(&args).code
    };
    assert_eq!(code(&[&old, &new, "--fail-on", "opened"]), 1);
    assert_eq!(code(&[&old, &new, "--fail-on", "closed"]), 0);
    assert_eq!(code(&[&new, &old, "--fail-on", "closed"]), 1);
    assert_eq!(code(&[&old, &new, "--fail-on", "any"]), 1);
    // A pod that comes opens nothing that was shut before.
    assert_eq!(code(&[&old, "--apply", &come.file("c.yaml"), "--fail-on", "opened"]), 0);
    assert_eq!(code(&[&old, "--apply", &come.file("c.yaml"), "--fail-on", "any"]), 1);
}

#[test]
fn what_becomes_unknown_counts_as_the_worse() {
    let folder = folder();
    let broken = Folder::new(&[("db.yaml", &DB.replace("endPort", "endport"))]);
    let args = ["diff", &folder.file("old"), "--apply", &broken.file("db.yaml"), "--fail-on", "opened", "-o", "json"];
    let outcome = signalbox(&args);
    assert_eq!(outcome.code, 1, "{outcome:#?}");
    assert!(
        changes(&outcome).iter().any(|line| line.starts_with("opens shop/web shop/db: shut -> unknown")),
        "{outcome:#?}"
    );
    assert_eq!(outcome.json()["unknown"]["after"][0]["path"], "spec.ingress[0].ports[1].endport");
    assert_eq!(outcome.json()["unknown"]["before"], json!([]));
}

#[test]
fn each_form_says_the_same() {
    let folder = folder();
    let (old, new) = (folder.file("old"), folder.file("new"));
    let run = |format: &str| signalbox(&["diff", &old, &new, "-o", format, "--fail-on", "opened"]).out;
    assert!(run("table").contains("+ opens   shop/web -> shop/db  TCP 5000-5431,5433-6000"), "{}", run("table"));
    assert_eq!(
        run("csv"),
        "effect,src,dst,family,before,after,protocol,first_port,last_port\nopens,shop/web,shop/db,,shut,open,TCP,5000,5431\nopens,shop/web,shop/db,,shut,open,TCP,5433,6000\n"
    );
    let junit = run("junit");
    assert!(junit.contains("failures=\"1\"") && junit.contains("opens shop/web -&gt; shop/db"), "{junit}");
    let calm = signalbox(&["diff", &old, &old, "-o", "junit"]).out;
    assert!(calm.contains("nothing opens and nothing closes") && calm.contains("failures=\"0\""), "{calm}");
}

#[test]
fn standard_input_and_the_outside_take_part() {
    let folder = folder();
    let out = DB.replace("podSelector: {matchLabels: {app: web}}", "ipBlock: {cidr: 198.51.100.0/24}");
    let text = format!("{PODS}---\n{out}");
    let outcome = signalbox_with(&["diff", &folder.file("old"), "-", "--external", "-o", "json"], &text);
    let lines = changes(&outcome);
    assert_eq!(
        lines,
        [
            r#"closes shop/web shop/db: open -> shut {"TCP":[[5432,5432]],"UDP":[[9000,9010]]}"#,
            r#"opens 198.51.100.0-198.51.100.255 shop/db: shut -> open {"TCP":[[5432,5432]],"UDP":[[9000,9010]]}"#,
        ]
    );
}

#[test]
fn wrong_usage_says_what_to_do() {
    let folder = folder();
    let old = folder.file("old");
    let only_one =
        format!("{old} is the old state, and there is no new one to hold against it; name it as the second PATH");
    for (args, expected) in [
        (vec!["diff"], "no state is named; name two, OLD and NEW, or one and an edit"),
        (vec!["diff", &old], &only_one),
        (vec!["diff", "--kubeconfig", "x"], "the cluster is the old state, and there is no new one to hold against it"),
        (vec!["diff", &old, &old, &old], "the new one; leave"),
        (vec!["diff", &old, &old, "--delete", "pod/shop/web"], "make the new one of it; leave"),
        (vec!["diff", &old, "--delete", "web"], "KIND/NAMESPACE/NAME"),
        (vec!["diff", &old, "--delete", "pod/other/web"], "Pod/shop/web is"),
        (vec!["diff", &old, "--apply", "missing.yaml"], "missing.yaml"),
        (vec!["diff", "-", "--apply", "-"], "once"),
    ] {
        let outcome = signalbox(&args);
        assert_eq!(outcome.code, 2, "{args:?}: {outcome:#?}");
        assert!(outcome.err.contains(expected), "{args:?}: {}", outcome.err);
    }
}

/// It said "nothing opens and nothing closes" of a policy that opens an address outside.
#[test]
fn what_opens_outside_is_not_called_nothing() {
    let shut = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: out, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]}
";
    let open = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: more, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress: [{to: [{ipBlock: {cidr: 198.51.100.20/32}}], ports: [{port: 3306}]}]
";
    let folder = Folder::new(&[("old/pods.yaml", PODS), ("old/shut.yaml", shut), ("more.yaml", open)]);
    let (old, more) = (folder.file("old"), folder.file("more.yaml"));
    let run = |format: &str, more_args: &[&str]| {
        let args = [&["diff", old.as_str(), "--apply", more.as_str(), "-o", format], more_args].concat();
        signalbox(&args)
    };
    let missing = "the outside was not looked at: --external does";
    let table = run("table", &[]);
    assert_eq!(table.out, format!("between pods nothing opens and nothing closes\n{missing}\n"), "{table:#?}");
    for format in ["csv", "junit"] {
        let outcome = run(format, &[]);
        assert!(outcome.err.contains(missing) && !run(format, &["--external"]).err.contains(missing), "{outcome:#?}");
    }
    assert!(run("junit", &[]).out.contains("between pods nothing opens"));
    let json = run("json", &[]);
    assert_eq!((changes(&json), json.json()["external"].clone()), (vec![], json!(false)));
    let json = run("json", &["--external"]);
    assert_eq!(json.json()["external"], true);
    assert!(changes(&json)[0].starts_with("opens shop/web 198.51.100.20"), "{json:#?}");
    let table = run("table", &["--external"]).out;
    assert!(table.contains("198.51.100.20") && !table.contains(missing), "{table}");
}
