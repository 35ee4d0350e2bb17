//! Lesson one as an example that needs no cluster.

use serde_json::Value;

/// A step of the lesson.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// A few words.
    pub title: String,
    /// What to see.
    pub text: String,
}

const CLUSTER: &str = include_str!("../../../../assets/lessons/one/0-cluster.yaml");
const LESSON: &str = include_str!("../../../../assets/lessons/one/lesson.json");
const FILES: [(&str, &str); 4] = [
    ("1-zero-trust.yaml", include_str!("../../../../assets/lessons/one/1-zero-trust.yaml")),
    ("2-web.yaml", include_str!("../../../../assets/lessons/one/2-web.yaml")),
    ("3-dbsvc.yaml", include_str!("../../../../assets/lessons/one/3-dbsvc.yaml")),
    ("4-extsvc.yaml", include_str!("../../../../assets/lessons/one/4-extsvc.yaml")),
];

/// All steps, from "wide open" on.
pub fn steps() -> Vec<Step> {
    let lesson: Value = serde_json::from_str(LESSON).unwrap_or_default();
    let steps = lesson.get("steps").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |step: &Value, field: &str| step.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    steps.iter().map(|step| Step { title: text(step, "title"), text: text(step, "text") }).collect()
}

/// The manifests that are in force at a step: the cluster, and the policies of all steps so far.
pub fn manifests(step: usize) -> Vec<(&'static str, &'static str)> {
    std::iter::once(("0-cluster.yaml", CLUSTER)).chain(FILES.into_iter().take(step)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_its_words_and_one_manifest_more() {
        let steps = steps();
        assert_eq!(steps.len(), FILES.len() + 1);
        assert!(steps.iter().all(|step| !step.title.is_empty() && !step.text.is_empty()));
        let lesson: Value = serde_json::from_str(LESSON).expect("it is JSON");
        for (at, step) in lesson["steps"].as_array().expect("a list").iter().enumerate().skip(1) {
            assert_eq!(step["file"], manifests(at).last().expect("one at least").0);
        }
    }
}
