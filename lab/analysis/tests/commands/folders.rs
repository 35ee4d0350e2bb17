//! Folders as other tools leave them: charts of Helm, bases and overlays of kustomize, objects that stand twice.

use serde_json::json;

use crate::analyze::{DB, PODS};
use crate::run::{Folder, signalbox, signalbox_with};

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}
";

const TEMPLATE: &str = "\
# {{ a comment }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include \"web.fullname\" . }}
spec:
  podSelector: {}
";

#[test]
fn bases_and_overlays_are_kustomizes_to_put_together() {
    let folder = Folder::new(&[
        ("base/kustomization.yaml", "resources: [web.yaml]\n"),
        ("base/web.yaml", DEPLOYMENT),
        ("overlays/prod/kustomization.yaml", "resources: [../../base]\npatches: [{path: replicas.yaml}]\n"),
        (
            "overlays/prod/replicas.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 3}\n",
        ),
        ("pods.yaml", PODS),
    ]);
    let outcome = signalbox(&["analyze", &folder.text(), "-o", "json", "--loopback", "omit"]);
    assert_eq!(outcome.code, 2, "{outcome:#?}");
    let expected = format!(
        "error: {patch}: document 1, line 1, column 1: Deployment web stands in {base}:1 as well, and kustomize would put the two \
         together, so that this one is left out; analyse what comes out: kustomize build {overlay} | signalbox analyze -",
        patch = folder.file("overlays/prod/replicas.yaml"),
        base = folder.file("base/web.yaml"),
        overlay = folder.file("overlays/prod"),
    );
    assert!(outcome.err.contains(&expected), "{}", outcome.err);
    assert!(!outcome.err.contains("spec.template"), "the patch is no Deployment of its own: {}", outcome.err);
    let unknown = outcome.json()["unknown"].clone();
    assert_eq!(unknown.as_array().unwrap().len(), 1, "{unknown:#}");
    assert!(outcome.out.contains("\"src\":\"default/web\""), "the base is analysed: {}", outcome.out);
    // One of the two by itself is whole, as far as it goes.
    let base = signalbox(&["analyze", &folder.file("base")]);
    assert_eq!(base.code, 0, "{base:#?}");
    let note = format!("kustomize build {} | signalbox analyze -", folder.file("base"));
    assert!(base.err.contains(&note), "{}", base.err);
}

#[test]
fn objects_that_stand_twice_are_named_with_both_places() {
    let folder = Folder::new(&[("a.yaml", DB), ("b.yaml", PODS), ("c.yaml", &format!("# again\n---\n{DB}"))]);
    let outcome = signalbox(&["analyze", &folder.text()]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    let (a, c) = (folder.file("a.yaml"), folder.file("c.yaml"));
    let expected = format!("note: NetworkPolicy shop/db is in {a}:1 and in {c}:2; the later one counts\n");
    assert!(outcome.err.contains(&expected), "{}", outcome.err);
    assert_eq!(outcome.err.lines().filter(|line| line.starts_with("note")).count(), 1, "{}", outcome.err);
    // Of several paths that are named, the later ones stand in for the earlier ones: that is what they are named for.
    let both = signalbox(&["analyze", &folder.file("a.yaml"), &folder.file("b.yaml"), &folder.file("c.yaml")]);
    assert!(!both.err.contains("the later one counts"), "{}", both.err);
}

#[test]
fn templates_of_helm_are_to_be_rendered_and_hide_nothing() {
    let quoted = "apiVersion: v1\nkind: Pod\nmetadata: {name: \"{{ .Release.Name }}-web\", namespace: shop}\n";
    let alert =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: alerts}\ndata: {text: \"{{ $labels.pod }} is down\"}\n";
    let folder = Folder::new(&[
        ("Chart.yaml", "apiVersion: v2\nname: web\n"),
        ("values.yaml", "name: web\n"),
        ("templates/policy.yaml", TEMPLATE),
        (
            "templates/if.yaml",
            "{{- if .Values.enabled }}\nkind: Pod\napiVersion: v1\nmetadata: {name: a}\n{{- end }}\n",
        ),
        ("templates/quoted.yaml", quoted),
        ("templates/alert.yaml", alert),
        ("pods.yaml", PODS),
        ("db.yaml", DB),
    ]);
    let outcome = signalbox(&["analyze", &folder.text(), "-o", "json", "--loopback", "omit"]);
    assert_eq!(outcome.code, 2, "what was not read is told by the exit status: {outcome:#?}");
    let remedy =
        "looks like a Helm template, with {{ }} in it; render it first: helm template CHART | signalbox analyze -";
    for (file, place) in [("policy", "line 5, column 9"), ("if", "line 1, column 1"), ("quoted", "line 3, column 19")] {
        let expected = format!("{}: document 1, {place}: {remedy}", folder.file(&format!("templates/{file}.yaml")));
        assert!(outcome.err.contains(&expected), "{file}: {}", outcome.err);
    }
    assert_eq!(outcome.err.matches("error:").count(), 3, "{}", outcome.err);
    let open: Vec<_> = outcome.json()["connections"].as_array().unwrap().iter().map(|it| it["dst"].clone()).collect();
    assert_eq!(open, [json!("shop/web"), json!("shop/db")], "the rest is analysed");
    let named = signalbox_with(&["lint", "-"], TEMPLATE);
    assert_eq!(named.code, 2, "{named:#?}");
    assert!(named.err.contains(remedy), "{}", named.err);
}
