//! `signalbox lint`.

use crate::analyze::{DB, PODS};
use crate::run::{Folder, signalbox};
use crate::schema;

/// A label that no pod has, and egress without DNS.
const SUSPICIOUS: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  podSelector:
    matchLabels: {app: absent-everywhere}
  ingress:
  - from:
    - podSelector: {}
";

fn folder() -> Folder {
    Folder::new(&[("pods.yaml", PODS), ("db.yaml", DB), ("sub/api.yaml", SUSPICIOUS)])
}

#[test]
fn findings_have_file_and_line() {
    let folder = folder();
    let outcome = signalbox(&["lint", &folder.text(), "-o", "json"]);
    let value = outcome.json();
    schema::check("lint", &value);
    let finding = value["findings"].as_array().unwrap().iter().find(|it| it["rule"] == "SB101").unwrap();
    assert_eq!(finding["object"], "NetworkPolicy shop/api");
    assert_eq!(finding["file"], folder.file("sub/api.yaml"));
    assert_eq!(finding["line"], 5, "{finding:#}");
    assert_eq!(finding["name"], "selects-nothing");
    assert_eq!(outcome.code, 0, "warnings are not denied unless one says so");
}

#[test]
fn what_is_denied_is_an_exit_status() {
    let folder = folder();
    let code = |args: &[&str]| {
        let path = folder.text();
        let args: Vec<&str> = ["lint", path.as_str()].iter().chain(args).copied().collect();
        signalbox(&args).code
    };
    assert_eq!(code(&["--deny", "errors"]), 0);
    assert_eq!(code(&["--deny", "warnings"]), 1);
    assert_eq!(code(&["--deny", "selects-nothing"]), 1);
    assert_eq!(code(&["--deny", "SB101"]), 1);
    assert_eq!(code(&["--deny", "SB101", "--allow", "selects-nothing"]), 0);
    assert_eq!(code(&["--deny", "SB501"]), 0);
    assert_eq!(code(&["--deny", "no-such-rule"]), 2);
}

#[test]
fn each_form_says_the_same() {
    let folder = folder();
    let run = |format: &str| signalbox(&["lint", &folder.text(), "-o", format, "--deny", "warnings"]).out;
    let table = run("table");
    assert!(table.contains("warning[SB101 selects-nothing] NetworkPolicy shop/api"), "{table}");
    assert!(table.contains("sub/api.yaml:5") && table.contains("| podSelector:"), "{table}");
    let junit = run("junit");
    assert!(
        junit.contains("SB101 selects-nothing: NetworkPolicy shop/api") && !junit.contains("failures=\"0\""),
        "{junit}"
    );
    let github = run("github");
    let line = format!(
        "::error file={},line=5,title=SB101 selects-nothing::NetworkPolicy shop/api",
        folder.file("sub/api.yaml")
    );
    assert!(github.contains(&line), "{github}");
}

#[test]
fn what_cannot_be_read_is_told_besides() {
    let folder = Folder::new(&[("pods.yaml", PODS), ("bad.yaml", "kind: [")]);
    let outcome = signalbox(&["lint", &folder.text(), "-o", "json"]);
    assert_eq!(outcome.code, 2);
    schema::check("lint", &outcome.json());
    assert_eq!(outcome.json()["unreadable"][0]["file"], folder.file("bad.yaml"));
    let github = signalbox(&["lint", &folder.text(), "-o", "github"]).out;
    assert!(github.contains("bad.yaml,line=1,"), "{github}");
    let broken = Folder::new(&[("db.yaml", &DB.replace("endPort", "endport"))]);
    let outcome = signalbox(&["lint", &broken.text(), "-o", "json", "--allow", "SB105"]);
    assert_eq!(outcome.code, 1, "an error is denied: {outcome:#?}");
    let finding = outcome.json()["findings"][0].clone();
    assert_eq!((&finding["rule"], &finding["line"]), (&"SB001".into(), &11.into()), "{finding:#}");
}

#[test]
fn rules_are_listed() {
    let outcome = signalbox(&["lint", "--rules"]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    assert!(outcome.out.starts_with("SB001 not-understood"), "{}", outcome.out);
    assert!(outcome.out.lines().count() > 30);
}
