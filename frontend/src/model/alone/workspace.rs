//! What the reader put in: objects with the texts they came from, and a baseline to compare with.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::keep::{self, Kept};
use super::yaml;

/// Where an object came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// A file's path, or what stands for it.
    pub source: Arc<str>,
    /// Which document of it, from 1.
    pub document: usize,
    /// The line at which that document starts, from 1.
    pub line: usize,
    /// How many lines of that document come before the object's own text.
    pub offset: usize,
}

impl Origin {
    fn of(source: &str) -> Self {
        Self { source: source.into(), document: 1, line: 1, offset: 0 }
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Unique in this workspace, and the same for as long as the object is there.
    pub id: u32,
    /// Kind and name, as the engine writes it: `NetworkPolicy backend/dbsvc`.
    pub key: Arc<str>,
    /// Where it came from.
    pub origin: Origin,
    /// The object; while its text cannot be read, what it was before.
    pub object: Arc<Value>,
    /// Why its text cannot be read, and in which line.
    pub error: Option<(usize, String)>,
    /// As it was written; absent where it can be printed from the object.
    own_text: Option<Arc<str>>,
}

/// A document that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Where it is. The line is that of the error.
    pub origin: Origin,
    /// What is wrong, and the remedy.
    pub reason: String,
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workspace {
    /// The objects as they are now, in the order in which they came.
    pub items: Vec<Item>,
    /// The objects to compare with.
    pub base: Vec<Item>,
    /// Documents that were left out.
    pub refused: Vec<Refused>,
    /// Objects without bearing on policies, counted by kind.
    pub passed_over: BTreeMap<String, usize>,
    /// The step of lesson one that is shown, if it is.
    pub lesson: Option<usize>,
    next_id: u32,
}

impl Item {
    /// `NetworkPolicy`.
    pub fn kind(&self) -> &str {
        self.key.split(' ').next().unwrap_or_default()
    }

    /// `backend/dbsvc`.
    pub fn name(&self) -> &str {
        self.key.split_once(' ').map_or("", |(_, name)| name)
    }

    /// Whether it says who may talk to whom.
    pub fn is_policy(&self) -> bool {
        keep::is_policy(self.object.get("kind").and_then(Value::as_str).unwrap_or_default())
    }

    /// Where a line of its text stands in what was put in: `a.yaml, line 12`. Without a line, or where the text is not that
    /// of the file: `a.yaml, document 3`.
    pub fn place(&self, line: Option<usize>) -> String {
        let Origin { source, document, line: first, offset } = &self.origin;
        match (line, &self.own_text) {
            // A marker takes a line of its own, unless the text stands beside it.
            (Some(line), Some(_)) => format!("{source}, line {}", first + offset + line - 1),
            (_, _) => format!("{source}, document {document}"),
        }
    }

    /// As YAML.
    pub fn text(&self) -> Arc<str> {
        self.own_text.clone().unwrap_or_else(|| yaml::print(&self.object).into())
    }
}

/// Reads texts document by document, so that a page can draw in between.
#[derive(Debug, Default)]
pub struct Loader {
    chunks: VecDeque<Chunk>,
    all_bytes: usize,
    read_bytes: usize,
    items: Vec<(Origin, Value, Option<Arc<str>>)>,
    refused: Vec<Refused>,
    passed_over: BTreeMap<String, usize>,
}

/// Part of a text that holds one document.
#[derive(Debug)]
struct Chunk {
    origin: Origin,
    text: String,
}

impl Loader {
    /// Adds a text.
    pub fn add(&mut self, source: &str, text: &str) {
        self.all_bytes += text.len();
        self.chunks.extend(chunks(source, text));
    }

    /// Adds something that could not even be read as a text.
    pub fn refuse(&mut self, source: &str, reason: &str) {
        let origin = Origin::of(source);
        self.refused.push(Refused { origin, reason: reason.to_owned() });
    }

    /// Reads one document. `false`: there was none left.
    pub fn step(&mut self) -> bool {
        let Some(Chunk { origin, text }) = self.chunks.pop_front() else { return false };
        self.read_bytes += text.len();
        let results = signalbox_policy::parse_documents(&text, &origin.source);
        let is_alone = results.len() == 1;
        for result in results {
            let object = match result {
                Ok(object) => object,
                Err(error) => {
                    let line = origin.line + error.line - 1;
                    let reason = format!("{}; {}", without_place(&error.reason), error.remedy);
                    self.refused.push(Refused { origin: Origin { line, ..origin.clone() }, reason });
                    continue;
                }
            };
            match keep::keep(object) {
                Kept::Object(object) => {
                    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
                    // A policy's own text has its comments; other texts may hold what is not kept. JSON is printed as YAML,
                    // and of a List each item by itself.
                    let is_own = is_alone && keep::is_policy(kind) && !text.trim_start().starts_with('{');
                    let own = is_own.then(|| trimmed(&text));
                    let offset = own.map_or(0, |own| text[..text.len() - own.len()].matches('\n').count());
                    self.items.push((Origin { offset, ..origin.clone() }, object, own.map(Into::into)));
                }
                Kept::PassedOver(kind) => *self.passed_over.entry(kind).or_default() += 1,
                Kept::Nameless => {
                    let reason = "the document does not say what kind it is; a Kubernetes object has apiVersion, kind and metadata";
                    self.refused.push(Refused { origin: origin.clone(), reason: reason.to_owned() });
                }
            }
        }
        true
    }

    /// How much of the text is read, from 0 to 1.
    pub fn progress(&self) -> f64 {
        if self.all_bytes == 0 { 1.0 } else { self.read_bytes as f64 / self.all_bytes as f64 }
    }

    /// How many documents could not be read.
    pub fn refused(&self) -> usize {
        self.refused.len()
    }

    /// How many objects it has found.
    pub fn found(&self) -> usize {
        self.items.len()
    }
}

impl Workspace {
    /// Takes in what was read. An object that is there already is replaced. What comes into an empty workspace becomes
    /// the baseline as well.
    pub fn take(&mut self, loader: Loader) {
        let was_empty = self.items.is_empty();
        self.refused = loader.refused;
        self.passed_over = loader.passed_over;
        let mut places: HashMap<Arc<str>, usize> =
            self.items.iter().enumerate().map(|(at, item)| (item.key.clone(), at)).collect();
        for (origin, object, own_text) in loader.items {
            let key = key(&object, &origin);
            let place = places.get(&key).copied();
            let id = match place {
                Some(at) => self.items[at].id,
                None => self.new_id(),
            };
            let item = Item { id, key: key.clone(), origin, object: Arc::new(object), error: None, own_text };
            match place {
                Some(at) => self.items[at] = item,
                None => {
                    places.insert(key, self.items.len());
                    self.items.push(item);
                }
            }
        }
        if was_empty {
            self.keep_as_base();
        }
    }

    fn new_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// One object.
    pub fn item(&self, id: u32) -> Option<&Item> {
        self.items.iter().find(|item| item.id == id)
    }

    /// The object that the engine calls so.
    pub fn named(&self, key: &str) -> Option<&Item> {
        self.items.iter().find(|item| &*item.key == key)
    }

    /// Gives an object another text. One that cannot be read changes nothing but the text.
    pub fn edit(&mut self, id: u32, text: &str) {
        let Some(item) = self.items.iter_mut().find(|item| item.id == id) else { return };
        item.own_text = Some(text.into());
        match read_one(text) {
            Ok(object) => {
                item.key = key(&object, &item.origin);
                item.object = Arc::new(object);
                item.error = None;
            }
            Err(error) => item.error = Some(error),
        }
    }

    /// Adds an object that is written here; its id.
    pub fn create(&mut self, text: &str) -> u32 {
        let id = self.new_id();
        let origin = Origin::of("written here");
        let object = read_one(text).unwrap_or_default();
        let key = key(&object, &origin);
        self.items.push(Item { id, key, origin, object: Arc::new(object), error: None, own_text: Some(text.into()) });
        id
    }

    /// Takes an object out.
    pub fn remove(&mut self, id: u32) {
        self.items.retain(|item| item.id != id);
    }

    /// Compares with what is here now from now on.
    pub fn keep_as_base(&mut self) {
        self.base.clone_from(&self.items);
    }

    /// Goes back to what it is compared with.
    pub fn back_to_base(&mut self) {
        self.items.clone_from(&self.base);
    }

    /// Takes one object back to what it is compared with.
    pub fn item_back_to_base(&mut self, id: u32) {
        let base = self.base.iter().find(|item| item.id == id).cloned();
        if let (Some(base), Some(item)) = (base, self.items.iter_mut().find(|item| item.id == id)) {
            *item = base;
        }
    }

    /// Whether anything differs from the baseline.
    pub fn is_changed(&self) -> bool {
        self.items.len() != self.base.len()
            || self.items.iter().zip(&self.base).any(|(now, before)| now.object != before.object)
    }

    /// How an object stands to the baseline.
    pub fn standing(&self, item: &Item) -> Standing {
        match self.base.iter().find(|it| it.id == item.id) {
            None => Standing::New,
            Some(base) if base.object != item.object => Standing::Changed,
            Some(_) => Standing::Same,
        }
    }

    /// Everything as one YAML text.
    pub fn export(&self) -> String {
        let texts = self.items.iter().map(|item| item.text());
        texts.map(|text| format!("---\n{}\n", text.trim_end_matches('\n'))).collect()
    }

    /// For the browser's memory, and for links.
    pub fn to_json(&self) -> String {
        let places: HashMap<u32, usize> = self.items.iter().enumerate().map(|(at, item)| (item.id, at)).collect();
        let same = |item: &Item| places.get(&item.id).copied().filter(|at| self.items[*at] == *item);
        let items: Vec<Value> = self.items.iter().map(to_value).collect();
        // Most of the baseline is as it is now.
        let base: Vec<Value> =
            self.base.iter().map(|item| same(item).map_or_else(|| to_value(item), |at| json!(at))).collect();
        json!({"version": 1, "items": items, "base": base, "lesson": self.lesson}).to_string()
    }

    /// Reads [`Self::to_json`]. It may come from anywhere: what does not fit is `None`.
    pub fn from_json(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        if value.get("version")?.as_u64()? != 1 {
            return None;
        }
        let items: Vec<Item> = value.get("items")?.as_array()?.iter().map(from_value).collect::<Option<_>>()?;
        let base = value.get("base")?.as_array()?.iter();
        let base: Vec<Item> = base
            .map(|base| match base.as_u64() {
                Some(at) => items.get(usize::try_from(at).ok()?).cloned(),
                None => from_value(base),
            })
            .collect::<Option<_>>()?;
        let next_id = items.iter().chain(&base).map(|item| item.id).max().unwrap_or(0);
        let lesson = value.get("lesson").and_then(Value::as_u64).and_then(|step| usize::try_from(step).ok());
        Some(Self { items, base, lesson, next_id, ..Self::default() })
    }
}

/// How an object stands to the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is there, and the same.
    Same,
    /// It is there, and another.
    Changed,
    /// It is not there.
    New,
}

fn to_value(item: &Item) -> Value {
    let mut value = json!({
        "id": item.id, "source": &*item.origin.source, "document": item.origin.document, "line": item.origin.line,
        "offset": item.origin.offset,
    });
    match &item.own_text {
        Some(text) => value["text"] = json!(&**text),
        None => value["object"] = (*item.object).clone(),
    }
    // A text that cannot be read goes with the object that stands for it.
    if item.error.is_some() {
        value["object"] = (*item.object).clone();
    }
    value
}

fn from_value(value: &Value) -> Option<Item> {
    let number = |field: &str| value.get(field).and_then(Value::as_u64).and_then(|it| usize::try_from(it).ok());
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let place = |field: &str| number(field).filter(|n| *n < usize::MAX / 4);
    let origin = Origin {
        source: text("source")?.into(),
        document: place("document")?,
        line: place("line")?,
        offset: place("offset")?,
    };
    let own_text: Option<Arc<str>> = text("text").map(Into::into);
    let (object, error) = match own_text.as_deref().map(read_one) {
        Some(Ok(object)) => (object, None),
        Some(Err(error)) => (value.get("object").cloned().unwrap_or_default(), Some(error)),
        None => (value.get("object")?.clone(), None),
    };
    let id = u32::try_from(number("id")?).ok().filter(|id| *id < u32::MAX / 2)?;
    Some(Item { id, key: key(&object, &origin), origin, object: Arc::new(object), error, own_text })
}

/// Reads a text that must hold one object; else says in which line it is wrong, and how.
fn read_one(text: &str) -> Result<Value, (usize, String)> {
    let mut results = signalbox_policy::parse_documents(text, "manifest");
    match (results.pop(), results.len()) {
        (None, _) => Err((1, "there is nothing here; write an object, or remove it".to_owned())),
        (Some(_), 1..) => Err((1, "one object at a time: there are several documents here".to_owned())),
        (Some(Err(error)), 0) => Err((error.line, format!("{}; {}", error.reason, error.remedy))),
        (Some(Ok(object)), 0) if object.get("kind").is_none_or(|kind| !kind.is_string()) => {
            Err((1, "the object does not say what kind it is; write kind: NetworkPolicy".to_owned()))
        }
        (Some(Ok(object)), 0) => Ok(object),
    }
}

/// Kind and name as the engine writes them. An object without a name is told apart by its place.
fn key(object: &Value, origin: &Origin) -> Arc<str> {
    const WITHOUT_NAMESPACE: [&str; 7] = [
        "Namespace",
        "Node",
        "ClusterNetworkPolicy",
        "AdminNetworkPolicy",
        "BaselineAdminNetworkPolicy",
        "GlobalNetworkPolicy",
        "CiliumClusterwideNetworkPolicy",
    ];
    let text = |path: &str| object.pointer(path).and_then(Value::as_str);
    let kind = text("/kind").unwrap_or("Object");
    let is_calicos = kind == "NetworkPolicy" && text("/apiVersion").is_some_and(|it| it.contains("projectcalico.org"));
    let group = if is_calicos { ".projectcalico.org" } else { "" };
    let name = match text("/metadata/name") {
        Some(name) => name.to_owned(),
        None => format!("(without a name, document {} of {})", origin.document, origin.source),
    };
    if WITHOUT_NAMESPACE.contains(&kind) {
        return format!("{kind} {name}").into();
    }
    format!("{kind}{group} {}/{name}", text("/metadata/namespace").unwrap_or("default")).into()
}

/// Cuts a text at its document markers, as the engine does.
fn chunks(source: &str, text: &str) -> Vec<Chunk> {
    let source: Arc<str> = source.into();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chunks: Vec<Chunk> = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 1, 0);
    let mut is_marked = false;
    let mut document = 0;
    let mut cut = |from: usize, to: usize, line: usize| {
        document += 1;
        if !is_blank(&text[from..to]) {
            let origin = Origin { source: source.clone(), document, line, offset: 0 };
            chunks.push(Chunk { origin, text: text[from..to].to_owned() });
        }
    };
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let rest = line.strip_prefix("---");
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])) {
            if is_marked || !is_blank(&text[start..offset]) {
                cut(start, offset, start_line);
            }
            (start, start_line, is_marked) = (offset, index + 1, true);
        }
        offset += line.len();
    }
    cut(start, text.len(), start_line);
    chunks
}

/// A reason without the line that it names: that counts from the beginning of its document, not of the file.
fn without_place(reason: &str) -> String {
    let Some((before, rest)) = reason.split_once(" at line ") else { return reason.to_owned() };
    let is_place = |c: char| c.is_ascii_digit() || c == ',' || c == ' ';
    let rest = rest.trim_start_matches(is_place);
    let rest = rest.strip_prefix("column ").map_or(rest, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    format!("{before}{rest}")
}

fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.trim();
        let rest = line.strip_prefix("---").unwrap_or(line).trim();
        rest.is_empty() || rest.starts_with('#') || line.starts_with('%') || line == "..."
    })
}

/// A document's text without its marker.
fn trimmed(text: &str) -> &str {
    let text = text.strip_prefix("---").map_or(text, |rest| rest.trim_start_matches([' ', '\t', '\r']));
    text.trim_start_matches('\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# a comment\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\nkind: [broken\n---\n---\n# why it is here\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: a}\nspec: {podSelector: {}}\n---\nreplicas: 3\n---\nkind: Secret\n";
    const LIST: &str = r#"{"kind": "List", "apiVersion": "v1", "items": [
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "q", "namespace": "a"}, "spec": {"podSelector": {}}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"}}]}"#;

    fn loaded(texts: &[(&str, &str)]) -> Workspace {
        let mut workspace = Workspace::default();
        load(&mut workspace, texts);
        workspace
    }

    fn load(workspace: &mut Workspace, texts: &[(&str, &str)]) {
        let mut loader = Loader::default();
        for (source, text) in texts {
            loader.add(source, text);
        }
        while loader.step() {}
        assert!((loader.progress() - 1.0).abs() < 0.1, "{}", loader.progress());
        workspace.take(loader);
    }

    fn keys(workspace: &Workspace) -> Vec<&str> {
        workspace.items.iter().map(|item| &*item.key).collect()
    }

    #[test]
    fn good_documents_are_used_and_bad_ones_listed_with_file_document_and_line() {
        let workspace = loaded(&[("a.yaml", FILE), ("list.json", LIST)]);
        assert_eq!(keys(&workspace), ["Namespace a", "NetworkPolicy a/p", "NetworkPolicy a/q", "Pod a/p"]);
        let refused: Vec<_> =
            workspace.refused.iter().map(|it| (&*it.origin.source, it.origin.document, it.origin.line)).collect();
        assert_eq!(refused, [("a.yaml", 2, 7), ("a.yaml", 5, 15)]);
        assert!(!workspace.refused[0].reason.contains("line"), "{:?}", workspace.refused[0]);
        assert!(workspace.refused[1].reason.contains("kind"), "{:?}", workspace.refused[1]);
        assert_eq!(workspace.passed_over, BTreeMap::from([("Secret".to_owned(), 1)]));
        // The engine counts documents and lines in the same way.
        let engine: Vec<_> =
            signalbox_policy::parse_documents(FILE, "a.yaml").into_iter().filter_map(Result::err).collect();
        assert_eq!((engine[0].document, engine[0].line), (2, 7));
    }

    #[test]
    fn a_policys_comments_stay_and_what_came_as_json_is_yaml() {
        let workspace = loaded(&[("a.yaml", FILE), ("list.json", LIST)]);
        assert!(workspace.items[1].text().starts_with("# why it is here\napiVersion"));
        assert_eq!(workspace.items[1].place(Some(2)), "a.yaml, line 11");
        assert_eq!(FILE.lines().nth(10), workspace.items[1].text().lines().nth(1));
        assert_eq!(workspace.items[2].place(Some(2)), "list.json, document 1");
        assert!(workspace.items[2].text().starts_with("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"));
        let again = loaded(&[("export.yaml", &workspace.export())]);
        assert_eq!(keys(&again), keys(&workspace));
        assert_eq!(
            again.items.iter().map(|it| &it.object).collect::<Vec<_>>(),
            workspace.items.iter().map(|it| &it.object).collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_comes_first_is_the_baseline_and_what_comes_later_is_compared_with_it() {
        let mut workspace = loaded(&[("a.yaml", FILE)]);
        assert!(!workspace.is_changed());
        load(
            &mut workspace,
            &[("list.json", LIST), ("b.yaml", &FILE.replace("podSelector: {}", "podSelector: {}, ingress: [{}]"))],
        );
        assert_eq!(keys(&workspace), ["Namespace a", "NetworkPolicy a/p", "NetworkPolicy a/q", "Pod a/p"]);
        assert!(workspace.is_changed());
        let standings: Vec<_> = workspace.items.iter().map(|item| workspace.standing(item)).collect();
        assert_eq!(standings, [Standing::Same, Standing::Changed, Standing::New, Standing::New]);
        workspace.back_to_base();
        assert!(!workspace.is_changed() && workspace.items.len() == 2);
    }

    #[test]
    fn an_edit_counts_as_soon_as_it_can_be_read() {
        let mut workspace = loaded(&[("a.yaml", FILE)]);
        let id = workspace.items[1].id;
        let text = workspace.items[1].text();
        workspace.edit(id, &format!("{text}  - [broken"));
        let item = workspace.item(id).expect("it is there");
        assert!(item.error.as_ref().is_some_and(|(line, _)| *line > 1) && item.text().ends_with("[broken"));
        assert!(!workspace.is_changed(), "the last text that could be read counts");
        for (text, why) in [("", "nothing"), ("kind: A\n---\nkind: B\n", "several"), ("a: b\n", "kind")] {
            workspace.edit(id, text);
            let (_, reason) = workspace.item(id).and_then(|item| item.error.clone()).expect("an error");
            assert!(reason.contains(why), "{reason}");
        }
        workspace.edit(id, &text.replace("name: p,", "name: r,"));
        assert_eq!(workspace.item(id).map(|item| &*item.key), Some("NetworkPolicy a/r"));
        assert!(workspace.is_changed() && workspace.named("NetworkPolicy a/r").is_some());
        workspace.item_back_to_base(id);
        assert!(!workspace.is_changed());
        let new = workspace.create("kind: NetworkPolicy\nmetadata: {name: n}\n");
        assert_eq!(workspace.item(new).map(|item| (item.name(), item.is_policy())), Some(("default/n", true)));
        workspace.remove(new);
        assert!(!workspace.is_changed());
    }

    #[test]
    fn what_is_stored_reads_back_and_nonsense_does_not() {
        let mut workspace = loaded(&[("a.yaml", FILE), ("list.json", LIST)]);
        let id = workspace.items[1].id;
        workspace.edit(id, "kind: [");
        workspace.lesson = Some(3);
        let stored = workspace.to_json();
        let back = Workspace::from_json(&stored).expect("it reads back");
        assert_eq!((&back.items, &back.base, back.lesson), (&workspace.items, &workspace.base, Some(3)));
        for nonsense in [
            "",
            "{}",
            "[]",
            "{\"version\":2}",
            r#"{"version":1,"items":[{}],"base":[]}"#,
            r#"{"version":1,"items":[],"base":[0]}"#,
        ] {
            assert_eq!(Workspace::from_json(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn objects_without_a_name_are_all_kept() {
        let text = "kind: NetworkPolicy\nspec: {}\n---\nkind: NetworkPolicy\nspec: {}\n";
        assert_eq!(loaded(&[("a", text)]).items.len(), 2);
    }
}
