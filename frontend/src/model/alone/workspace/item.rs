//! One object with the text that it came from.

use std::sync::Arc;

use serde_json::Value;

use crate::model::alone::{keep, yaml};

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
    pub(super) own_text: Option<Arc<str>>,
}

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
    pub(super) fn of(source: &str) -> Self {
        Self { source: source.into(), document: 1, line: 1, offset: 0 }
    }
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

/// Reads a text that must hold one object; else says in which line it is wrong, and how.
pub(super) fn read_one(text: &str) -> Result<Value, (usize, String)> {
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
pub(super) fn key(object: &Value, origin: &Origin) -> Arc<str> {
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
