//! Lesson one: its steps, and which of them are applied.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use signalbox_api::state::LessonStep;
use signalbox_policy::parse_documents;

use crate::cluster::objects::{Kind, ObjectKey, Objects};

const TEXTS: &str = include_str!("../../assets/lessons/one/lesson.json");
/// The cluster that it is about, without the policies.
const CLUSTER: &str = include_str!("../../assets/lessons/one/0-cluster.yaml");
const MANIFESTS: [(&str, &str); 4] = [
    ("1-zero-trust.yaml", include_str!("../../assets/lessons/one/1-zero-trust.yaml")),
    ("2-web.yaml", include_str!("../../assets/lessons/one/2-web.yaml")),
    ("3-dbsvc.yaml", include_str!("../../assets/lessons/one/3-dbsvc.yaml")),
    ("4-extsvc.yaml", include_str!("../../assets/lessons/one/4-extsvc.yaml")),
];

/// The lesson.
#[derive(Debug)]
pub struct Lesson {
    steps: Vec<Step>,
    /// Without these it is about another cluster.
    needs: Vec<(Kind, ObjectKey)>,
}

/// One step.
#[derive(Debug)]
pub struct Step {
    title: String,
    text: String,
    yaml: &'static str,
    /// The policies that it applies.
    pub policies: Vec<Wanted>,
}

/// A policy as a step wants it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// The manifest.
    pub manifest: Value,
}

#[derive(Deserialize)]
struct Texts {
    steps: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    title: String,
    text: String,
    file: String,
}

impl Lesson {
    /// The lesson that is built in.
    pub fn one() -> Self {
        let texts: Texts = serde_json::from_str(TEXTS).expect("lesson.json is checked by a test");
        let steps = texts.steps.into_iter().map(|text| {
            let yaml = MANIFESTS.iter().find(|(name, _)| *name == text.file).map_or("", |(_, yaml)| yaml);
            let policies = parse_documents(yaml, &text.file).into_iter().map(|document| {
                let manifest = document.expect("the lesson's manifests are checked by a test");
                let field = |path: &str| manifest.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
                Wanted { namespace: field("/metadata/namespace"), name: field("/metadata/name"), manifest }
            });
            Step { title: text.title, text: text.text, yaml, policies: policies.collect() }
        });
        // Pods come and go; these stay while they do.
        let needs = parse_documents(CLUSTER, "0-cluster.yaml").into_iter().filter_map(|document| {
            let manifest = document.expect("the lesson's manifests are checked by a test");
            let field = |path: &str| manifest.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
            let kind = match manifest["kind"].as_str() {
                Some("Namespace") => Kind::Namespace,
                Some("Service") => Kind::Service,
                Some(_) | None => return None,
            };
            Some((kind, ObjectKey { namespace: field("/metadata/namespace"), name: field("/metadata/name") }))
        });
        Self { steps: steps.collect(), needs: needs.collect() }
    }

    /// All steps, step 0 first.
    pub fn all(&self) -> &[Step] {
        &self.steps
    }

    /// The namespaces of its policies.
    pub fn namespaces(&self) -> BTreeSet<String> {
        self.steps.iter().flat_map(|step| &step.policies).map(|policy| policy.namespace.clone()).collect()
    }

    /// The steps as browsers see them; none where the cluster that the lesson is about is not there.
    pub fn steps(&self, objects: &Objects) -> Vec<LessonStep> {
        if !self.needs.iter().all(|(kind, key)| objects.get(*kind, &key.namespace, &key.name).is_some()) {
            return Vec::new();
        }
        let is_applied = |wanted: &Wanted| {
            let live = objects.get(Kind::NetworkPolicy, &wanted.namespace, &wanted.name);
            live.is_some_and(|live| same_spec(&live.value, &wanted.manifest))
        };
        let steps = self.steps.iter().zip(0..).map(|(step, number)| LessonStep {
            number,
            title: step.title.clone(),
            text: step.text.clone(),
            yaml: step.yaml.to_owned(),
            applied: step.policies.iter().all(is_applied),
        });
        steps.collect()
    }
}

/// Whether two manifests want the same, whatever the API server has filled in.
fn same_spec(one: &Value, other: &Value) -> bool {
    let spec = |value: &Value| normal(value.get("spec").cloned().unwrap_or_default());
    spec(one) == spec(other)
}

/// Without what says nothing: nulls, empty lists, the default protocol.
fn normal(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().map(|(name, value)| (name, normal(value)));
            let says_something = |(name, value): &(String, Value)| match value {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                Value::String(text) => !(name == "protocol" && text == "TCP"),
                Value::Object(fields) => !(name == "podSelector" && fields.is_empty()),
                Value::Bool(_) | Value::Number(_) => true,
            };
            Value::Object(kept.filter(says_something).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(normal).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::objects::{Change, Object, ObjectKey};

    #[test]
    fn the_built_in_lesson_can_be_read() {
        let lesson = Lesson::one();
        let policies: Vec<usize> = lesson.all().iter().map(|step| step.policies.len()).collect();
        assert_eq!(policies, [0, 2, 1, 1, 1]);
        for step in lesson.all() {
            assert!(!step.title.is_empty() && !step.text.is_empty());
            assert!(step.policies.iter().all(|policy| !policy.namespace.is_empty() && !policy.name.is_empty()));
        }
    }

    fn put_cluster(lesson: &Lesson, objects: &mut Objects) {
        for (kind, key) in &lesson.needs {
            objects.apply(Change::Applied(*kind, Object { key: key.clone(), version: 1, value: Value::Null }));
        }
    }

    /// The page of a lab without the lesson's cluster showed the lesson's bar, with "0 Wide open, in force" and "all cells are open".
    #[test]
    fn without_the_lessons_cluster_there_is_no_lesson() {
        let lesson = Lesson::one();
        assert_eq!(lesson.needs.len(), 5, "two namespaces and three Services: {:?}", lesson.needs);
        let mut objects = Objects::default();
        assert_eq!(lesson.steps(&objects), []);
        put_cluster(&lesson, &mut objects);
        assert_eq!(lesson.steps(&objects).len(), 5);
        for (kind, key) in &lesson.needs {
            let object = Object { key: key.clone(), version: 1, value: Value::Null };
            objects.apply(Change::Deleted(*kind, object.clone()));
            assert_eq!(lesson.steps(&objects), [], "without {key:?}");
            objects.apply(Change::Applied(*kind, object));
        }
    }

    #[test]
    fn a_step_is_applied_as_long_as_its_policies_say_what_it_wants() {
        let lesson = Lesson::one();
        let mut objects = Objects::default();
        put_cluster(&lesson, &mut objects);
        let applied = |objects: &Objects| lesson.steps(objects).iter().map(|step| step.applied).collect::<Vec<_>>();
        assert_eq!(applied(&objects), [true, false, false, false, false]);
        let put = |objects: &mut Objects, wanted: &Wanted, change: fn(&mut Value)| {
            let mut value = wanted.manifest.clone();
            change(&mut value);
            let key = ObjectKey { namespace: wanted.namespace.clone(), name: wanted.name.clone() };
            objects.apply(Change::Applied(Kind::NetworkPolicy, Object { key, version: 1, value }));
        };
        for wanted in &lesson.all()[1].policies {
            put(&mut objects, wanted, |value| value["spec"]["ingress"] = serde_json::json!([]));
        }
        assert_eq!(applied(&objects), [true, true, false, false, false]);
        put(&mut objects, &lesson.all()[1].policies[0], |value| value["spec"]["ingress"] = serde_json::json!([{}]));
        assert_eq!(applied(&objects), [true, false, false, false, false]);
    }
}
