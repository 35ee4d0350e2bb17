//! What is wrong with a manifest while it is typed: by the engine itself, which runs in the page.

use signalbox_api::error::FieldCause;
use signalbox_policy::Cluster;

/// One thing that is wrong, where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Line in the text, from 1, where it is known.
    pub line: Option<usize>,
    /// The field's path; empty where the text itself cannot be read.
    pub field: String,
    /// What is wrong, and the remedy.
    pub message: String,
}

/// What the engine makes of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// What is wrong.
    pub marks: Vec<Mark>,
    /// One line: what the policy means, where it can be understood.
    pub summary: Option<String>,
    /// `namespace` and `name` that the text gives.
    pub name: Option<(String, String)>,
}

/// Reads a manifest of one policy.
pub fn check(text: &str) -> Checked {
    let mut checked = Checked::default();
    let mut objects = Vec::new();
    for result in signalbox_policy::parse_documents(text, "manifest") {
        match result {
            Ok(object) => objects.push(object),
            Err(error) => checked.marks.push(Mark {
                line: Some(error.line),
                field: String::new(),
                message: format!("{}; {}", error.reason, error.remedy),
            }),
        }
    }
    if !checked.marks.is_empty() {
        return checked;
    }
    let [object] = objects.as_slice() else {
        let message = match objects.len() {
            0 => "There is nothing here yet: write a NetworkPolicy, or take a template.",
            _ => "One policy at a time: there are several documents here.",
        };
        checked.marks.push(Mark { line: None, field: String::new(), message: message.to_owned() });
        return checked;
    };
    let text_at = |path: &str| object.pointer(path).and_then(serde_json::Value::as_str).map(str::to_owned);
    match text_at("/kind") {
        Some(kind) if kind == "NetworkPolicy" => {}
        other => checked.marks.push(Mark {
            line: line_of(text, "kind"),
            field: "kind".to_owned(),
            message: match other {
                Some(kind) => format!("must be NetworkPolicy, not {kind}"),
                None => "is required: NetworkPolicy".to_owned(),
            },
        }),
    }
    let name = text_at("/metadata/name");
    let namespace = text_at("/metadata/namespace").unwrap_or_else(|| "default".to_owned());
    let cluster = Cluster::from_objects([object]);
    for problem in cluster.problems() {
        let mark = Mark {
            line: line_of(text, &problem.path),
            field: problem.path.clone(),
            message: problem.reason.to_string(),
        };
        if !checked.marks.iter().any(|known| known.field == mark.field) {
            checked.marks.push(mark);
        }
    }
    if let Some(name) = name {
        // The engine sees the text alone, no pods: it cannot say how many the policy selects.
        checked.summary = cluster
            .summary(&signalbox_policy::PolicyRef::network_policy(&namespace, &name))
            .map(|summary| summary.replace(" (0 now)", ""));
        checked.name = Some((namespace, name));
    }
    checked
}

/// What the server found wrong, where it is: by its own line, or else by the field's path.
pub fn marks(text: &str, causes: &[FieldCause]) -> Vec<Mark> {
    let mark = |cause: &FieldCause| Mark {
        line: cause.line.map(|line| line as usize).or_else(|| line_of(text, &cause.field)),
        field: cause.field.clone(),
        message: cause.message.clone(),
    };
    causes.iter().map(mark).collect()
}

/// The text with the version that it was typed upon, so that the server refuses it if the policy is another by now. It
/// stands in a line of its own: the second value says behind which one. Absent where there is no block `metadata:`.
pub fn with_version(text: &str, version: &str) -> Option<(String, usize)> {
    let at = line_of(text, "metadata")?;
    let lines: Vec<&str> = text.split('\n').collect();
    let indent = lines[at..].iter().find(|line| is_content(line)).map(|line| indent_of(line)).filter(|n| *n > 0)?;
    let own = format!("{}resourceVersion: \"{version}\"", " ".repeat(indent));
    let all: Vec<&str> = lines[..at].iter().copied().chain([own.as_str()]).chain(lines[at..].iter().copied()).collect();
    Some((all.join("\n"), at))
}

/// The line, from 1, of a field in block-style YAML: of the innermost part of the path that has a line of its own.
pub fn line_of(text: &str, path: &str) -> Option<usize> {
    // Dashes become blanks as the walk goes into items, so that an item's first key stands where its others do.
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let (mut first, mut end) = (0, lines.len());
    let mut found = None;
    for step in steps(path) {
        let Some(indent) = (first..end).find(|at| is_content(&lines[*at])).map(|at| indent_of(&lines[at])) else {
            break;
        };
        let mut index = 0;
        let hit = (first..end).find(|at| {
            let line = &lines[*at];
            if !is_content(line) || indent_of(line) != indent {
                return false;
            }
            match &step {
                Step::Key(key) => is_key(line.trim_start(), key),
                Step::Index(wanted) => {
                    let item = line.trim_start() == "-" || line.trim_start().starts_with("- ");
                    index += usize::from(item);
                    item && index == wanted + 1
                }
            }
        });
        let Some(hit) = hit else { break };
        found = Some(hit + 1);
        let stop = (hit + 1..end).find(|at| {
            let line = &lines[*at];
            let dash = line.trim_start().starts_with('-');
            let deeper =
                indent_of(line) > indent || (matches!(step, Step::Key(_)) && dash && indent_of(line) == indent);
            is_content(line) && !deeper
        });
        end = stop.unwrap_or(end);
        first = match step {
            Step::Key(_) => hit + 1,
            Step::Index(_) => {
                lines[hit].replace_range(indent..=indent, " ");
                hit
            }
        };
    }
    found
}

enum Step {
    Key(String),
    Index(usize),
}

/// `spec.ingress[0].from[1]` in steps. Keys with dots stand in brackets: `labels[a.b/c]`.
fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (inside, behind) = inner.split_once(']').unwrap_or((inner, ""));
            steps.push(match inside.parse() {
                Ok(index) => Step::Index(index),
                Err(_) => Step::Key(inside.trim_matches('"').to_owned()),
            });
            rest = behind;
        } else {
            let rest_ = rest.trim_start_matches('.');
            let end = rest_.find(['.', '[']).unwrap_or(rest_.len());
            if end > 0 {
                steps.push(Step::Key(rest_[..end].to_owned()));
            }
            rest = &rest_[end..];
            if end == 0 && !rest.starts_with('[') {
                break;
            }
        }
    }
    steps
}

fn is_content(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#') && line != "---"
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn is_key(line: &str, key: &str) -> bool {
    let behind = line.strip_prefix(key).or_else(|| {
        let quote = line.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        line[1..].strip_prefix(key)?.strip_prefix(quote)
    });
    behind.is_some_and(|behind| behind.trim_start().starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "\
# a comment
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: web
  namespace: frontend
spec:
  podSelector:
    matchLabels: {run: web}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - ipBlock: {cidr: 198.51.100.0/24}

      ports:
        - {port: 9000, protocol: TCP}
  egress:
  - to:
    - namespaceSelector:
        matchLabels:
          \"tier\": back
    - podSelector: {}
    ports:
    - port: 9000
      protocol: TCP
";

    #[test]
    fn a_field_is_found_in_its_line() {
        for (path, line) in [
            ("kind", 3),
            ("metadata.name", 5),
            ("spec", 7),
            ("spec.podSelector.matchLabels", 9),
            ("spec.ingress[0].from[0].ipBlock.cidr", 13),
            ("spec.ingress[0].ports[0].port", 16),
            ("spec.egress[0].to[0].namespaceSelector.matchLabels.tier", 21),
            ("spec.egress[0].to[1]", 22),
            ("spec.egress[0].ports[0].protocol", 25),
            ("spec.egress[0].ports[0].endPort", 24),
            ("spec.egress[7].ports", 17),
        ] {
            assert_eq!(line_of(WEB, path), Some(line), "{path}");
        }
        assert_eq!(line_of(WEB, ""), None);
        assert_eq!(line_of(WEB, "status"), None);
        assert_eq!(line_of("", "spec"), None);
    }

    #[test]
    fn a_good_policy_has_a_meaning_and_no_marks() {
        let checked = check(WEB);
        assert_eq!(checked.marks, []);
        assert!(checked.summary.is_some_and(|summary| !summary.is_empty() && !summary.contains(" now)")));
        assert_eq!(checked.name, Some(("frontend".into(), "web".into())));
    }

    #[test]
    fn broken_yaml_is_marked_in_its_line() {
        let checked = check("kind: NetworkPolicy\nmetadata:\n  name: [a\nspec: {}\n");
        assert_eq!(checked.marks.len(), 1);
        assert!(checked.marks[0].line.is_some_and(|line| line >= 3), "{:?}", checked.marks);
        assert_eq!(checked.name, None);
    }

    #[test]
    fn a_bad_field_is_marked_in_its_line() {
        let checked = check(&WEB.replace("198.51.100.0/24", "198.51.100.0/99"));
        assert_eq!(checked.marks.iter().map(|mark| mark.line).collect::<Vec<_>>(), [Some(13)]);
        assert_eq!(checked.marks[0].field, "spec.ingress[0].from[0].ipBlock.cidr");
        let checked = check(&WEB.replace("kind: NetworkPolicy", "kind: Deployment"));
        assert_eq!(checked.marks[0].line, Some(3));
    }

    #[test]
    fn several_documents_or_none_are_no_policy() {
        assert_eq!(check("").marks.len(), 1);
        assert_eq!(check("kind: A\n---\nkind: B\n").marks.len(), 1);
    }

    #[test]
    fn a_version_goes_into_the_metadata() {
        let (text, behind) = with_version(WEB, "42").expect("there is metadata");
        assert_eq!(behind, 4);
        assert!(text.contains("metadata:\n  resourceVersion: \"42\"\n  name: web\n"));
        assert_eq!(text.lines().count(), WEB.lines().count() + 1);
        assert_eq!(with_version("{kind: NetworkPolicy, metadata: {name: a}}", "42"), None);
        assert_eq!(with_version("metadata: {name: a}\nkind: NetworkPolicy\n", "42"), None);
    }

    #[test]
    fn the_server_knows_the_line_or_else_the_field_does() {
        let cause = |field: &str, line| FieldCause { field: field.into(), message: "x".into(), line, column: None };
        let lines: Vec<_> = marks(WEB, &[cause("spec", Some(2)), cause("metadata.name", None), cause("nowhere", None)])
            .into_iter()
            .map(|mark| mark.line)
            .collect();
        assert_eq!(lines, [Some(2), Some(5), None]);
    }
}
