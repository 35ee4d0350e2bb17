//! What a reviewer would say: the engine's lint, with the objects and lines where it is to be mended.

use signalbox_policy::Cluster;
use signalbox_policy::lint::{Finding, Severity};

use super::scene::Scene;
use super::workspace::{Item, Workspace};
use crate::model::check::{self, Mark};

/// One finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// How severe it is.
    pub severity: Severity,
    /// `SB101 selects-nothing`.
    pub rule: String,
    /// Where the rule is described, from the root of the repository.
    pub docs: String,
    /// `NetworkPolicy backend/dbsvc`.
    pub object: String,
    /// The object in the workspace.
    pub item: Option<u32>,
    /// The field's path.
    pub path: String,
    /// Where it stands: file and line of what was put in.
    pub place: Option<String>,
    /// The line in the object's own text.
    pub line: Option<usize>,
    /// What is wrong and why it matters.
    pub message: String,
    /// What to write instead.
    pub remedy: String,
}

/// All findings, the severe ones first.
pub fn review(workspace: &Workspace, scene: &Scene) -> Vec<Note> {
    let findings = scene.now.lint(workspace.items.iter().map(|item| &*item.object));
    let mut notes: Vec<Note> = findings.into_iter().map(|finding| note(workspace, finding)).collect();
    notes.sort_by_key(|note| std::cmp::Reverse(note.severity));
    notes
}

fn note(workspace: &Workspace, finding: Finding) -> Note {
    let item = workspace.named(&finding.object);
    let line = item.and_then(|item| check::line_of(&item.text(), &finding.path));
    Note {
        severity: finding.severity,
        rule: finding.rule.to_string(),
        docs: finding.docs(),
        item: item.map(|item| item.id),
        place: item.map(|item| item.place(line)),
        line,
        object: finding.object,
        path: finding.path,
        message: finding.message,
        remedy: finding.remedy,
    }
}

/// Something that the engine did not understand.
#[derive(Clone, Debug, PartialEq)]
pub struct Unread {
    /// `NetworkPolicy backend/dbsvc`.
    pub object: String,
    /// The object in the workspace.
    pub item: Option<u32>,
    /// File and line, or document.
    pub place: Option<String>,
    /// The field's path.
    pub path: String,
    /// Why, and what to write instead.
    pub reason: String,
}

/// Everything that the engine did not understand. Whatever it bears on is unknown, never open.
pub fn unread(workspace: &Workspace, scene: &Scene) -> Vec<Unread> {
    let problems = scene.now.problems().iter();
    problems
        .map(|problem| {
            let item = workspace.named(&problem.object);
            let line = item.and_then(|item| check::line_of(&item.text(), &problem.path));
            Unread {
                object: problem.object.clone(),
                item: item.map(|item| item.id),
                place: item.map(|item| item.place(line)),
                path: problem.path.clone(),
                reason: problem.reason.to_string(),
            }
        })
        .collect()
}

/// What is wrong with one object's text, line by line.
pub fn marks(item: &Item) -> Vec<Mark> {
    if let Some((line, message)) = &item.error {
        return vec![Mark { line: Some(*line), field: String::new(), message: message.clone() }];
    }
    let text = item.text();
    let cluster = Cluster::from_objects([&*item.object]);
    let mut marks: Vec<Mark> = Vec::new();
    for problem in cluster.problems() {
        if !marks.iter().any(|known| known.field == problem.path) {
            marks.push(Mark {
                line: check::line_of(&text, &problem.path),
                field: problem.path.clone(),
                message: problem.reason.to_string(),
            });
        }
    }
    marks
}

/// One line: what a policy means. Absent for objects that are none.
pub fn meaning(scene: &Scene, item: &Item) -> Option<String> {
    let policy = scene.now.policies().find(|policy| policy.id.to_string() == *item.key)?;
    scene.now.summary(&policy.id)
}

/// In words.
pub const fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "worth knowing",
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn what_is_not_understood_says_where_it_is() {
        let mut workspace = sample::lesson(4);
        let id = workspace.named("NetworkPolicy backend/dbsvc").expect("it is there").id;
        let text = workspace.item(id).expect("it is there").text();
        workspace.edit(id, &text.replace("198.51.100.0/24", "198.51.100.0/99"));
        let scene = Scene::build(&workspace, None);
        let unread = unread(&workspace, &scene);
        assert_eq!(unread.len(), 1, "{unread:#?}");
        assert_eq!((unread[0].item, unread[0].path.as_str()), (Some(id), "spec.egress[0].to[0].ipBlock.cidr"));
        assert_eq!(unread[0].place.as_deref(), Some("3-dbsvc.yaml, line 17"));
        let item = workspace.item(id).expect("it is there");
        assert_eq!(marks(item)[0].line, Some(17));
        workspace.edit(id, &format!("{text}  - [x"));
        assert_eq!(marks(workspace.item(id).expect("it is there")).len(), 1);
        let web = workspace.named("NetworkPolicy frontend/web").expect("it is there");
        assert!(meaning(&scene, web).is_some_and(|words| words.contains("run=web")));
    }

    #[test]
    fn a_finding_says_where_it_is() {
        let mut workspace = sample::lesson(4);
        let id = workspace.named("NetworkPolicy backend/dbsvc").expect("it is there").id;
        let text = workspace
            .item(id)
            .expect("it is there")
            .text()
            .replace("matchLabels: {run: dbsvc}", "matchLabels: {run: dbsv}");
        workspace.edit(id, &text);
        let scene = Scene::build(&workspace, None);
        let notes = review(&workspace, &scene);
        let note =
            notes.iter().find(|note| note.path.starts_with("spec.podSelector")).unwrap_or_else(|| panic!("{notes:#?}"));
        assert_eq!((note.item, note.severity), (Some(id), Severity::Warning));
        let line = text.lines().nth(note.line.expect("a line") - 1).expect("it is there");
        assert!(line.contains("podSelector") || line.contains("dbsv"), "{line}");
        assert!(note.place.as_ref().is_some_and(|place| place.starts_with("3-dbsvc.yaml, line ")), "{note:?}");
        assert!(notes.windows(2).all(|pair| pair[0].severity >= pair[1].severity));
    }
}
