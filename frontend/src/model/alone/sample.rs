//! What the tests of this folder share.

use super::lesson;
use super::workspace::{Loader, Workspace};

/// Lesson one at a step. Its workloads are written as pods with addresses, so that these tests ask nothing of how the
/// engine reads workloads.
pub fn lesson(step: usize) -> Workspace {
    let mut texts: Vec<(&str, String)> =
        lesson::manifests(step).into_iter().map(|(name, text)| (name, text.to_owned())).collect();
    texts[0].1 = pods();
    of(&texts)
}

/// A workspace of these texts.
pub fn of(texts: &[(&str, String)]) -> Workspace {
    let mut workspace = Workspace::default();
    let mut loader = Loader::default();
    for (name, text) in texts {
        loader.add(name, text);
    }
    while loader.step() {}
    workspace.take(loader);
    workspace
}

fn pods() -> String {
    let mut text = String::new();
    for (namespace, tier) in [("frontend", "front"), ("backend", "back")] {
        text += &format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: {{tier: {tier}}}}}\n"
        );
    }
    for (at, (namespace, name)) in [("frontend", "web"), ("backend", "dbsvc"), ("backend", "extsvc")].iter().enumerate()
    {
        text += &format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{run: {name}}}}}\nspec: {{containers: [{{name: c, ports: [{{containerPort: 9000}}]}}]}}\nstatus: {{podIP: 10.244.0.{}}}\n",
            at + 2
        );
    }
    text
}
