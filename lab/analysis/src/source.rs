//! Where an object comes from, and how it looks there.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::input::{self, Input};

/// Where an object comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A live cluster.
    Cluster,
    /// A document of a text.
    Text {
        /// The file's path, or what standard input is called.
        name: Arc<str>,
        /// The text, where it cannot be read again.
        text: Option<Arc<str>>,
        /// Which document, from 1.
        document: usize,
        /// The line it starts at, from 1.
        line: usize,
        /// Where in the document the object is.
        path: String,
    },
}

/// A place in a file, to be clicked on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// The file's path.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// The lines there, without what indents them all.
    pub excerpt: Vec<String>,
}

/// How many lines an excerpt has at most.
const MOST_LINES: usize = 14;

/// Finds objects by their names, and their fields in the texts. Each text is read, and each document parsed, once.
pub(crate) struct Places<'i> {
    /// Kind, whether it is Calico's, namespace and name. Of several the last, which is the one that counts.
    by_name: HashMap<(&'i str, bool, Option<&'i str>, &'i str), &'i Origin>,
    texts: RefCell<HashMap<Arc<str>, Option<Arc<str>>>>,
    documents: RefCell<Documents>,
}

/// By file and number.
type Documents = HashMap<(Arc<str>, usize), Rc<Document>>;

/// A document's lines, and where its fields stand in it.
struct Document {
    lines: Vec<String>,
    /// Absent where it cannot be parsed as one document.
    tree: Option<Spanned<Tree>>,
}

impl<'i> Places<'i> {
    pub(crate) fn of(input: &'i Input) -> Self {
        let mut by_name = HashMap::with_capacity(input.objects.len());
        for (object, origin) in input.objects.iter().zip(&input.origins) {
            let text = |field: &str| object.pointer(field).and_then(Value::as_str);
            let (Some(kind), Some(name)) = (text("/kind"), text("/metadata/name")) else { continue };
            let is_calico = text("/apiVersion").is_some_and(|version| version.contains("projectcalico.org"));
            let namespace = text("/metadata/namespace").unwrap_or("default");
            by_name.insert((kind, is_calico, Some(namespace), name), origin);
            by_name.insert((kind, is_calico, None, name), origin);
        }
        Self { by_name, texts: RefCell::default(), documents: RefCell::default() }
    }

    /// Where an object's field stands, or the nearest one around it that is there. The object is called as the engine does:
    /// a kind may carry its group, `NetworkPolicy.projectcalico.org`.
    pub(crate) fn locate(&self, kind: &str, namespace: Option<&str>, name: &str, field: &str) -> Option<Location> {
        let (kind, group) = kind.split_once('.').map_or((kind, None), |(kind, group)| (kind, Some(group)));
        let find = |is_calico| self.by_name.get(&(kind, is_calico, namespace, name));
        let origin = match group {
            Some(_) => find(true),
            None => find(false).or_else(|| find(true).filter(|_| kind != "NetworkPolicy")),
        };
        self.locate_in(origin?, field)
    }

    fn locate_in(&self, origin: &Origin, field: &str) -> Option<Location> {
        let Origin::Text { name, line, path, .. } = origin else { return None };
        let document = self.document(origin)?;
        let dot = if path.is_empty() || field.is_empty() { "" } else { "." };
        let steps = steps(&format!("{path}{dot}{field}"));
        let found = document.tree.as_ref().and_then(|tree| find_field(tree, &steps));
        let (at, extent) = found.unwrap_or_else(|| (start(&document.lines), Extent::Head));
        Some(Location { file: name.to_string(), line: line + at, excerpt: excerpt(&document.lines, at, extent) })
    }

    fn document(&self, origin: &Origin) -> Option<Rc<Document>> {
        let Origin::Text { name, document, line, .. } = origin else { return None };
        let key = (name.clone(), *document);
        if let Some(known) = self.documents.borrow().get(&key) {
            return Some(known.clone());
        }
        let text = self.text(origin)?;
        let is_marker = |line: &str| {
            line.strip_prefix("---").is_some_and(|rest| rest.chars().next().is_none_or(char::is_whitespace))
        };
        let mut lines = text.lines().skip(line - 1).map(str::to_owned);
        let first = lines.next()?;
        let lines: Vec<String> = std::iter::once(first).chain(lines.take_while(|line| !is_marker(line))).collect();
        let tree = serde_saphyr::from_str(&lines.join("\n")).ok();
        let document = Rc::new(Document { lines, tree });
        self.documents.borrow_mut().insert(key, document.clone());
        Some(document)
    }

    /// `None`: the text cannot be read again.
    fn text(&self, origin: &Origin) -> Option<Arc<str>> {
        let Origin::Text { name, text, .. } = origin else { return None };
        let read = || Some(input::read_file(Path::new(&**name)).ok()?.ok()?.into());
        let mut texts = self.texts.borrow_mut();
        texts.entry(name.clone()).or_insert_with(|| text.clone().or_else(read)).clone()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("the cluster"),
            Self::Text { name, document, path, .. } if path.is_empty() => write!(f, "{name}: document {document}"),
            Self::Text { name, document, path, .. } => write!(f, "{name}: document {document}, {path}"),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One step of a path: a field's name, or an index.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
}

/// `spec.ingress[0].ports` in steps. In brackets stand indices, and names that hold dots.
fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let end = inner.find(']').unwrap_or(inner.len());
            let name = &inner[..end];
            steps.push(name.parse().map_or_else(|_| Step::Field(name.to_owned()), Step::Index));
            rest = inner.get(end + 1..).unwrap_or_default();
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            steps.push(Step::Field(rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    steps
}

/// Which lines belong to the one that was found. Columns count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// A field's key stands at this column.
    Field(usize),
    /// A list's item begins at this column, behind its dash.
    Item(usize),
    /// A whole object, of which the first lines do.
    Head,
}

/// The line (from 0) of what the steps lead to, or of the last thing on the way that is there.
fn find_field(tree: &Spanned<Tree>, steps: &[Step]) -> Option<(usize, Extent)> {
    let mut found = None;
    let mut here = tree;
    for step in steps {
        let next = match (step, &here.value) {
            (Step::Field(name), Tree::Map(fields)) => {
                fields.iter().find(|(key, _)| key.value == *name).map(|(key, value)| (key.referenced, value))
            }
            (Step::Index(index), Tree::List(items)) => items.get(*index).map(|item| (item.referenced, item)),
            (Step::Field(_) | Step::Index(_), Tree::Map(_) | Tree::List(_) | Tree::Leaf) => None,
        };
        let Some((place, value)) = next else { break };
        found = Some((place, step));
        here = value;
    }
    let (place, step) = found?;
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX).saturating_sub(1);
    let column = number(place.column());
    let extent = match step {
        Step::Field(_) => Extent::Field(column),
        Step::Index(_) => Extent::Item(column),
    };
    Some((number(place.line()), extent))
}

/// The first line that holds something.
fn start(lines: &[String]) -> usize {
    let is_blank = |line: &String| {
        let line = line.trim_start_matches("---").trim();
        line.is_empty() || line.starts_with('#')
    };
    lines.iter().position(|line| !is_blank(line)).unwrap_or(0)
}

/// The line and those that belong to it.
fn excerpt(lines: &[String], at: usize, extent: Extent) -> Vec<String> {
    const HEAD: usize = 4;
    let mut shown: Vec<String> = Vec::new();
    for (index, line) in lines.iter().enumerate().skip(at) {
        let (indent, text) = (line.len() - line.trim_start().len(), line.trim());
        let belongs = match extent {
            // The items of a field's list may stand as far out as the field.
            Extent::Field(column) => indent > column || (indent == column && text.starts_with('-')),
            Extent::Item(column) => indent >= column,
            Extent::Head => shown.len() < HEAD,
        };
        if index > at && (text.is_empty() || !belongs) {
            break;
        }
        if shown.len() == MOST_LINES {
            shown.push("…".to_owned());
            break;
        }
        shown.push(shortened(line.trim_end()));
    }
    let indent = |line: &String| line.len() - line.trim_start().len();
    let common = shown.iter().filter(|line| *line != "…").map(indent).min().unwrap_or(0);
    shown.iter().map(|line| if line == "…" { line.clone() } else { line.chars().skip(common).collect() }).collect()
}

/// A line of a minified file may be the whole of it.
fn shortened(line: &str) -> String {
    const MOST: usize = 160;
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// A document of which only the places matter.
enum Tree {
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
    List(Vec<Spanned<Tree>>),
    Leaf,
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor(PhantomData))
    }
}

struct TreeVisitor(PhantomData<Tree>);

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = map.next_entry()? {
            fields.push(entry);
        }
        Ok(Tree::Map(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Tree::Leaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locate(text: &str, line: usize, path: &str, field: &str) -> Location {
        let (name, text) = ("a.yaml".into(), Some(text.into()));
        let origin = Origin::Text { name, text, document: 1, line, path: path.to_owned() };
        Places::of(&Input::default()).locate_in(&origin, field).unwrap()
    }

    #[test]
    fn fields_are_found_where_they_stand() {
        let text = "\
# a comment
kind: Other
---
kind: NetworkPolicy
metadata:
  name: a
spec:
  ingress:
  - from:
    - podSelector: {}
  - ports:
    - port: 80
      protocol: TCP
    from: []
---
kind: Next
";
        for (field, line, excerpt) in [
            ("spec.ingress[1].ports[0]", 12, vec!["- port: 80", "  protocol: TCP"]),
            ("spec.ingress[0]", 9, vec!["- from:", "  - podSelector: {}"]),
            ("spec.ingress[7]", 8, vec!["ingress:", "- from:"]),
            ("metadata.name", 6, vec!["name: a"]),
            ("", 4, vec!["kind: NetworkPolicy", "metadata:"]),
        ] {
            let found = locate(text, 3, "", field);
            assert_eq!(found.line, line, "{field}");
            assert_eq!(found.excerpt[..excerpt.len()], excerpt, "{field}");
        }
    }

    #[test]
    fn items_of_lists_and_json_are_found() {
        let json = "{\"kind\": \"List\", \"items\": [\n  {\"kind\": \"A\"},\n  {\"kind\": \"B\",\n   \"spec\": {\"x\": [1,\n 2]}}\n]}";
        assert_eq!(locate(json, 1, "items[1]", "spec.x[1]").line, 5);
        assert_eq!(locate(json, 1, "items[1]", "spec").line, 4);
    }

    #[test]
    fn a_path_with_dots_in_a_name_is_one_step() {
        let field = |name: &str| Step::Field(name.to_owned());
        assert_eq!(steps("a.b[0][x.y/z].c"), [field("a"), field("b"), Step::Index(0), field("x.y/z"), field("c")]);
    }
}
