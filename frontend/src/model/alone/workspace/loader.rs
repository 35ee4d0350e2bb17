//! Texts become objects, document by document.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use super::item::Origin;
use crate::model::alone::keep::{self, Kept};

/// Reads texts document by document, so that a page can draw in between.
#[derive(Debug, Default)]
pub struct Loader {
    chunks: VecDeque<Chunk>,
    all_bytes: usize,
    read_bytes: usize,
    pub(super) items: Vec<(Origin, Value, Option<Arc<str>>)>,
    pub(super) refused: Vec<Refused>,
    pub(super) passed_over: BTreeMap<String, usize>,
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
        let source: Arc<str> = source.into();
        let chunks = signalbox_policy::documents::split(text).into_iter().filter(|chunk| !chunk.is_blank());
        self.chunks.extend(chunks.map(|chunk| Chunk {
            origin: Origin { source: source.clone(), document: chunk.document, line: chunk.line, offset: 0 },
            text: chunk.text.to_owned(),
        }));
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

/// A document that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Where it is. The line is that of the error.
    pub origin: Origin,
    /// What is wrong, and the remedy.
    pub reason: String,
}

/// A reason without the line that it names: that counts from the beginning of its document, not of the file.
fn without_place(reason: &str) -> String {
    let Some((before, rest)) = reason.split_once(" at line ") else { return reason.to_owned() };
    let is_place = |c: char| c.is_ascii_digit() || c == ',' || c == ' ';
    let rest = rest.trim_start_matches(is_place);
    let rest = rest.strip_prefix("column ").map_or(rest, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    format!("{before}{rest}")
}

/// A document's text without its marker.
fn trimmed(text: &str) -> &str {
    let text = text.strip_prefix("---").map_or(text, |rest| rest.trim_start_matches([' ', '\t', '\r']));
    text.trim_start_matches('\n')
}
