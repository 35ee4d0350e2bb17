//! Texts become objects: multi-document YAML, JSON, and `List`s.
//!
//! A line that starts with `---` ends a document wherever it stands, also within a string, so that documents can be told
//! apart before any of them is parsed: one that is broken does not hide the others.

mod json;

use std::borrow::Cow;

use serde_json::Value;
use serde_saphyr::DuplicateKeyPolicy;

/// The largest text that is read. Kubernetes takes about 1.5 MiB in one object.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;

/// How many documents one text may hold.
pub const MAX_DOCUMENTS: usize = 200_000;

/// How deep a value may be nested.
const MAX_DEPTH: usize = 64;

/// How deep Lists may hold Lists.
const MAX_LISTS: usize = 4;

/// An object and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The object.
    pub value: Value,
    /// Which document of the text, from 1. Empty documents count.
    pub document: usize,
    /// The line of the text at which that document starts, from 1.
    pub line: usize,
    /// Where in the document the object is: `items[3]` of a `List`. Empty: it is the document.
    pub path: String,
}

/// Why a document that still is a template cannot be read.
pub const TEMPLATE: &str = "looks like a Helm template, with {{ }} in it";

/// Why a document that is a list, a text or a number is none.
pub const NO_OBJECT: &str = "the document is no object";

/// A document that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{from}: document {document}, line {line}, column {column}: {reason}; {remedy}", from = self.source_name)]
pub struct DocumentError {
    /// The text's name: a file's path, or what the caller calls it.
    pub source_name: String,
    /// Which document of the text, from 1. Empty documents count.
    pub document: usize,
    /// Line in the whole text, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: Cow<'static, str>,
}

/// Reads all documents of a text. Empty ones are left out, a `List` becomes its items.
pub fn parse_documents(text: &str, source: &str) -> Vec<Result<Value, DocumentError>> {
    locate_documents(text, source).into_iter().map(|result| result.map(|document| document.value)).collect()
}

/// The same, and where each object stands.
pub fn locate_documents(text: &str, source: &str) -> Vec<Result<Document, DocumentError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let place = |document, line| Place { source, document, line };
    if text.len() > MAX_BYTES {
        let reason = format!("the text has {} bytes, more than {MAX_BYTES}", text.len());
        return vec![Err(place(1, 1).error(1, 1, reason, "split it into several files"))];
    }
    let mut results = Vec::new();
    for chunk in split(text) {
        let here = place(chunk.document, chunk.line);
        if chunk.document > MAX_DOCUMENTS {
            let reason = format!("there are more than {MAX_DOCUMENTS} documents");
            results.push(Err(here.error(1, 1, reason, "split the text into several files")));
            break;
        }
        read(chunk.text, &here, &mut results);
    }
    results
}

/// Part of a text that holds one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'t> {
    /// With its marker, if it has one.
    pub text: &'t str,
    /// Which document of the text, from 1. Blank ones count.
    pub document: usize,
    /// The line it starts at, from 1.
    pub line: usize,
}

impl Chunk<'_> {
    /// Whether there is nothing but comments, markers and directives in it.
    pub fn is_blank(&self) -> bool {
        is_blank(self.text)
    }
}

/// Where a document is.
struct Place<'s> {
    source: &'s str,
    document: usize,
    line: usize,
}

impl Place<'_> {
    /// An error at a line and column of the document.
    fn error(&self, line: usize, column: usize, reason: String, remedy: &'static str) -> DocumentError {
        DocumentError {
            source_name: self.source.to_owned(),
            document: self.document,
            line: self.line + line.max(1) - 1,
            column: column.max(1),
            reason,
            remedy: remedy.into(),
        }
    }
}

/// Cuts the text at its document markers. The text behind a `---` belongs to the document that it starts; what stands
/// before the first one is a document of its own only if it holds more than comments and directives.
pub fn split(text: &str) -> Vec<Chunk<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chunks: Vec<Chunk<'_>> = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 1, 0);
    let mut marked = false;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let rest = line.strip_prefix("---");
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])) {
            let before = &text[start..offset];
            if marked || !is_blank(before) {
                chunks.push(Chunk { text: before, document: chunks.len() + 1, line: start_line });
            }
            (start, start_line, marked) = (offset, index + 1, true);
        }
        offset += line.len();
    }
    chunks.push(Chunk { text: &text[start..], document: chunks.len() + 1, line: start_line });
    chunks
}

/// Whether there is nothing but comments, markers and directives.
fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.trim();
        let rest = line.strip_prefix("---").unwrap_or(line).trim();
        rest.is_empty() || rest.starts_with('#') || line.starts_with('%') || line == "..."
    })
}

fn read(text: &str, place: &Place<'_>, results: &mut Vec<Result<Document, DocumentError>>) {
    if is_blank(text) {
        return;
    }
    if text.trim_start().starts_with('{') {
        // JSON, perhaps several objects in a row. What is no JSON may still be YAML's flow style, and if it is not, then
        // the error comes from there.
        let values: Result<Vec<json::Strict>, serde_json::Error> =
            serde_json::Deserializer::from_str(text).into_iter().collect();
        if let Ok(values) = values {
            for json::Strict(value) in values {
                flatten(value, place, &Within::default(), results);
            }
            return;
        }
    }
    match serde_saphyr::from_str_with_options::<Value>(text, options()) {
        Ok(Value::Null) => {}
        Ok(value) if !is_template(&value) => flatten(value, place, &Within::default(), results),
        Ok(_) => results.push(Err(template(text, place))),
        Err(_) if template_at(text).is_some() => results.push(Err(template(text, place))),
        Err(error) => {
            let (line, column) = error.location().map_or((1, 1), |at| (number(at.line()), number(at.column())));
            let reason = one_line(&error.without_snippet().to_string());
            results.push(Err(place.error(
                line,
                column,
                reason,
                "mend the YAML there: check indentation, colons and quotes",
            )));
        }
    }
}

/// Whether a document that is YAML has only become so by its quotes: names never have braces.
fn is_template(value: &Value) -> bool {
    let is_open = |path| value.pointer(path).and_then(Value::as_str).is_some_and(|text| text.contains("{{"));
    ["/metadata/name", "/metadata/namespace", "/kind"].into_iter().any(is_open)
}

/// Line and column, from 1, of the first action of a template that is no comment of YAML's.
fn template_at(text: &str) -> Option<(usize, usize)> {
    text.lines().enumerate().find_map(|(index, line)| {
        let at = line.find("{{").filter(|at| line[*at..].contains("}}"))?;
        (!line.trim_start().starts_with('#')).then(|| (index + 1, line[..at].chars().count() + 1))
    })
}

fn template(text: &str, place: &Place<'_>) -> DocumentError {
    let (line, column) = template_at(text).unwrap_or((1, 1));
    place.error(
        line,
        column,
        TEMPLATE.to_owned(),
        "render it first, as with helm template CHART, and read what comes out",
    )
}

/// Where in a document a value is.
#[derive(Default)]
struct Within {
    path: String,
    /// How many Lists are around it.
    depth: usize,
}

/// A `List`'s items one by one, each with the kind that the list implies, and those of an array of objects. Anything else as
/// it is.
fn flatten(value: Value, place: &Place<'_>, within: &Within, results: &mut Vec<Result<Document, DocumentError>>) {
    let value = match value {
        // Some tools write objects as a plain array; nobody else's array has a kind and a version in each item.
        Value::Array(items) if within.path.is_empty() && are_objects(&items) => {
            for (index, item) in items.into_iter().enumerate() {
                flatten(item, place, &Within { path: format!("[{index}]"), depth: 1 }, results);
            }
            return;
        }
        other => other,
    };
    let Value::Object(mut object) = value else {
        let reason = NO_OBJECT.to_owned();
        results.push(Err(place.error(1, 1, reason, "a Kubernetes object has apiVersion, kind and metadata")));
        return;
    };
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_list = kind.ends_with("List") && object.get("items").is_some_and(Value::is_array);
    if !is_list {
        results.push(Ok(Document {
            value: Value::Object(object),
            document: place.document,
            line: place.line,
            path: within.path.clone(),
        }));
        return;
    }
    if within.depth == MAX_LISTS {
        let reason = format!("Lists hold Lists more than {MAX_LISTS} deep");
        results.push(Err(place.error(1, 1, reason, "put the items into one List")));
        return;
    }
    let item_kind = kind.strip_suffix("List").filter(|kind| !kind.is_empty()).map(str::to_owned);
    let version = object.get("apiVersion").cloned();
    let Some(Value::Array(items)) = object.remove("items") else { return };
    for (index, mut item) in items.into_iter().enumerate() {
        // The API leaves kind and version out of the items of a PodList: they go without saying.
        if let (Some(kind), Value::Object(item)) = (&item_kind, &mut item) {
            item.entry("kind").or_insert_with(|| Value::String(kind.clone()));
            if let Some(version) = &version {
                item.entry("apiVersion").or_insert_with(|| version.clone());
            }
        }
        let dot = if within.path.is_empty() { "" } else { "." };
        let path = format!("{}{dot}items[{index}]", within.path);
        flatten(item, place, &Within { path, depth: within.depth + 1 }, results);
    }
}

/// Whether each item says what it is.
fn are_objects(items: &[Value]) -> bool {
    let says = |item: &Value, field: &str| item.get(field).is_some_and(Value::is_string);
    !items.is_empty() && items.iter().all(|item| says(item, "apiVersion") && says(item, "kind"))
}

/// Bounds that no real manifest meets, and duplicate keys refused: one of the two would be lost in silence.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        // YAML 1.2: a namespace may be called `y` or `no`, and is a text.
        strict_booleans: true,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_documents: 1,
            max_anchors: 1_000,
            max_aliases: 10_000,
            max_nodes: 2_000_000,
            max_events: 4_000_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
            max_alias_expansions_per_anchor: 1_000,
        },
    }
}

fn number(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// What the parser says in one line, without its own place, which counts from the document's start, and its own remedy.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.rsplit_once(" at line ").map_or(line.as_str(), |(reason, _)| reason);
    line.split(", set DuplicateKeyPolicy").next().unwrap_or(line).to_owned()
}
