//! The Helm chart makes what `signalbox install` prints. Debian has no helm: its templates keep to what Go's own template language has, and are rendered
//! by an implementation of that.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use gtmpl::Value as Template;
use serde_json::Value;
use signalbox_lab::install::{Enforcement, Options, names, objects};

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/chart")
}

#[test]
fn the_chart_makes_what_install_prints() {
    for enforcement in [Enforcement::Standard, Enforcement::Strict, Enforcement::Audit, Enforcement::None] {
        for allow in [false, true] {
            for probe_namespaces in [vec![], vec!["frontend".to_owned(), "backend".to_owned()]] {
                let options = Options {
                    namespace: "elsewhere".to_owned(),
                    image_prefix: "registry.example/team/".to_owned(),
                    version: "9.8.7".to_owned(),
                    enforcement,
                    allow_apply: allow,
                    allow_real_pods: !allow,
                    probe_namespaces,
                };
                same(&options);
            }
        }
    }
}

#[test]
fn the_charts_values_are_the_commands_defaults() {
    let values: Value = serde_saphyr::from_str(&fs::read_to_string(chart().join("values.yaml")).unwrap()).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let defaults = serde_json::json!({
        "namespace": names::NAMESPACE, "imagePrefix": "signalbox/", "version": version,
        "enforcer": "standard", "allowApply": false, "allowRealPods": false, "probesIn": [],
    });
    assert_eq!(values, defaults);
    let about: Value = serde_saphyr::from_str(&fs::read_to_string(chart().join("Chart.yaml")).unwrap()).unwrap();
    assert_eq!((&about["version"], &about["appVersion"]), (&version.into(), &version.into()));
}

fn same(options: &Options) {
    let printed = by_name(objects(options));
    let rendered = by_name(render(options));
    assert_eq!(printed.keys().collect::<Vec<_>>(), rendered.keys().collect::<Vec<_>>(), "{options:?}");
    for (name, object) in printed {
        assert_eq!(object, rendered[&name], "{name} with {options:?}");
    }
}

fn by_name(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let word = |object: &Value, path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or("-").to_owned();
    let name =
        |object: &Value| ["/kind", "/metadata/namespace", "/metadata/name"].map(|path| word(object, path)).join(" ");
    let count = objects.len();
    let named: BTreeMap<_, _> = objects.into_iter().map(|object| (name(&object), object)).collect();
    assert_eq!(named.len(), count, "two objects have one name");
    named
}

fn render(options: &Options) -> Vec<Value> {
    let enforcer = format!("{:?}", options.enforcement).to_lowercase();
    let list = options.probe_namespaces.iter().map(|name| Template::from(name.as_str())).collect::<Vec<_>>();
    let values: HashMap<String, Template> = HashMap::from([
        ("namespace".to_owned(), options.namespace.as_str().into()),
        ("imagePrefix".to_owned(), options.image_prefix.as_str().into()),
        ("version".to_owned(), options.version.as_str().into()),
        ("enforcer".to_owned(), enforcer.into()),
        ("allowApply".to_owned(), options.allow_apply.into()),
        ("allowRealPods".to_owned(), options.allow_real_pods.into()),
        ("probesIn".to_owned(), Template::Array(list)),
    ]);
    let context = Template::Map(HashMap::from([("Values".to_owned(), Template::Map(values))]));
    let mut objects = Vec::new();
    for file in fs::read_dir(chart().join("templates")).unwrap() {
        let path = file.unwrap().path();
        let text = gtmpl::template(&fs::read_to_string(&path).unwrap(), context.clone());
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // A template that makes nothing here leaves blanks.
        if !text.trim().is_empty() {
            let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
                .unwrap_or_else(|error| panic!("{}: {error}\n{text}", path.display()));
            objects.extend(documents.into_iter().filter(|document| !document.is_null()));
        }
    }
    objects
}
