//! Sets of fields, as `metadata.managedFields` holds them: a tree whose edges are written as in `fieldsV1`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::kinds::schema::{ListType, Schemas, Type};

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Set {
    /// The field itself is in the set.
    member: bool,
    /// By `f:NAME`, `k:{KEYS}` or `v:VALUE`.
    children: BTreeMap<String, Set>,
}

impl Set {
    /// The fields that an object of this type sets.
    pub(crate) fn of(value: &Value, kind: &Type) -> Self {
        let mut set = Self::default();
        set.add(value, kind, Schemas::get());
        set
    }

    fn leaf() -> Self {
        Self { member: true, children: BTreeMap::new() }
    }

    fn add(&mut self, value: &Value, kind: &Type, schemas: &Schemas) {
        let Some(children) = children(value, kind, schemas) else {
            self.member = true;
            return;
        };
        for (edge, child, child_kind) in children {
            let mut set = Self::default();
            set.add(child, child_kind, schemas);
            let entry_of_map = edge.starts_with("f:") && !matches!(kind, Type::Object(_));
            if entry_of_map || !edge.starts_with("f:") || child.as_object().is_some_and(Map::is_empty) {
                set.member = true;
            }
            self.children.insert(edge, set);
        }
    }

    /// The fields in which `new` differs from `old`, whether added or changed.
    pub(crate) fn changed(old: &Value, new: &Value, kind: &Type) -> Self {
        let mut set = Self::default();
        set.add_changed(Some(old), new, kind, Schemas::get());
        set
    }

    fn add_changed(&mut self, old: Option<&Value>, new: &Value, kind: &Type, schemas: &Schemas) {
        if old == Some(new) {
            return;
        }
        let Some(new_children) = children(new, kind, schemas) else {
            self.member = true;
            return;
        };
        let old_children = old.and_then(|old| children(old, kind, schemas)).unwrap_or_default();
        for (edge, child, child_kind) in new_children {
            let before = old_children.iter().find(|(other, _, _)| *other == edge).map(|(_, value, _)| *value);
            let mut set = Self::default();
            set.add_changed(before, child, child_kind, schemas);
            if before.is_none() && (!edge.starts_with("f:") || !matches!(child_kind, Type::Object(_)) || set.is_empty())
            {
                set.member = true;
            }
            if !set.is_empty() {
                self.children.insert(edge, set);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// Adds another set's fields.
    pub(crate) fn union(&mut self, other: &Self) {
        self.member |= other.member;
        for (edge, set) in &other.children {
            self.children.entry(edge.clone()).or_default().union(set);
        }
    }

    /// Takes another set's fields away.
    pub(crate) fn subtract(&mut self, other: &Self) {
        self.member &= !other.member;
        for (edge, set) in &other.children {
            if let Some(child) = self.children.get_mut(edge) {
                child.subtract(set);
                if child.is_empty() {
                    self.children.remove(edge);
                }
            }
        }
    }

    /// Takes away the whole subtree at a path of edges.
    pub(crate) fn cut(&mut self, path: &[&str]) {
        match path {
            [] => *self = Self::default(),
            [edge, rest @ ..] => {
                if let Some(child) = self.children.get_mut(*edge) {
                    child.cut(rest);
                    if child.is_empty() {
                        self.children.remove(*edge);
                    }
                }
            }
        }
    }

    /// Keeps only the subtree below one edge.
    pub(crate) fn keep_only(&mut self, edge: &str) {
        self.children.retain(|other, _| other == edge);
        self.member = false;
    }

    /// The fields in both.
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self { member: self.member && other.member, children: BTreeMap::new() };
        for (edge, set) in &self.children {
            if let Some(set) =
                other.children.get(edge).map(|other| set.intersection(other)).filter(|set| !set.is_empty())
            {
                both.children.insert(edge.clone(), set);
            }
        }
        both
    }

    /// Keeps only fields that `value` still has.
    pub(crate) fn retain_existing(&mut self, value: &Value, kind: &Type) {
        let existing = children(value, kind, Schemas::get()).unwrap_or_default();
        self.children.retain(|edge, set| match existing.iter().find(|(other, _, _)| other == edge) {
            Some((_, value, kind)) => {
                set.retain_existing(value, kind);
                !set.is_empty()
            }
            None => false,
        });
    }

    fn child(&self, edge: &str) -> Option<&Self> {
        self.children.get(edge)
    }

    /// Every field of the set, written as Kubernetes writes it in conflicts: `.spec.ports[port=80].name`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect(String::new(), &mut paths);
        paths
    }

    fn collect(&self, prefix: String, paths: &mut Vec<String>) {
        if self.member && !prefix.is_empty() {
            paths.push(prefix.clone());
        }
        for (edge, set) in &self.children {
            set.collect(format!("{prefix}{}", printed(edge)), paths);
        }
    }

    /// As `fieldsV1`.
    pub(crate) fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".into(), json!({}));
        }
        for (edge, set) in &self.children {
            map.insert(edge.clone(), set.to_json());
        }
        Value::Object(map)
    }

    /// From `fieldsV1`.
    pub(crate) fn from_json(value: &Value) -> Self {
        let Some(map) = value.as_object() else { return Self::default() };
        let mut set = Self::default();
        for (edge, child) in map {
            if edge == "." {
                set.member = true;
                continue;
            }
            let mut parsed = Self::from_json(child);
            if parsed.is_empty() {
                parsed = Self::leaf();
            }
            set.children.insert(edge.clone(), parsed);
        }
        set
    }

    /// Removes from `value` what this set has and `kept` has not; used when a manager stops applying a field.
    pub(crate) fn prune(&self, value: &mut Value, kind: &Type, kept: &Self) {
        let schemas = Schemas::get();
        match (kind, value) {
            (Type::Object(index), Value::Object(map)) => {
                let object = schemas.object(*index);
                self.prune_map(map, kept, |field| object.fields.get(field).unwrap_or(&Type::Any));
            }
            (Type::Map { values, .. }, Value::Object(map)) => self.prune_map(map, kept, |_| values),
            (Type::List(list), Value::Array(items)) => {
                items.retain_mut(|item| {
                    let Some(edge) = item_edge(item, list) else { return true };
                    let Some(ours) = self.child(&edge) else { return true };
                    let others = kept.child(&edge);
                    if ours.member && others.is_none() {
                        return false;
                    }
                    ours.prune(item, &list.items, others.unwrap_or(&Self::default()));
                    true
                });
            }
            _ => {}
        }
    }

    fn prune_map<'a>(&self, map: &mut Map<String, Value>, kept: &Self, kind: impl Fn(&str) -> &'a Type) {
        for (edge, ours) in &self.children {
            let Some(field) = edge.strip_prefix("f:") else { continue };
            let others = kept.child(edge);
            let Some(value) = map.get_mut(field) else { continue };
            if ours.member && ours.children.is_empty() && others.is_none() {
                map.remove(field);
                continue;
            }
            ours.prune(value, kind(field), others.unwrap_or(&Self::default()));
            let emptied = value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
            if emptied && others.is_none() {
                map.remove(field);
            }
        }
    }
}

type Child<'v, 't> = (String, &'v Value, &'t Type);

/// What a value consists of; `None` where server-side apply sees it as one.
fn children<'v, 't>(value: &'v Value, kind: &'t Type, schemas: &'t Schemas) -> Option<Vec<Child<'v, 't>>> {
    match (kind, value) {
        (Type::Object(index), Value::Object(map)) => {
            let object = schemas.object(*index);
            if object.atomic {
                return None;
            }
            Some(
                map.iter()
                    .map(|(key, value)| (format!("f:{key}"), value, object.fields.get(key).unwrap_or(&Type::Any)))
                    .collect(),
            )
        }
        (Type::Map { values, atomic: false }, Value::Object(map)) => {
            Some(map.iter().map(|(key, value)| (format!("f:{key}"), value, &**values)).collect())
        }
        (Type::List(list), Value::Array(items)) if list.keys.is_some() => {
            Some(items.iter().filter_map(|item| Some((item_edge(item, list)?, item, &list.items))).collect())
        }
        _ => None,
    }
}

/// How an item of a list that is a map or a set is named.
pub(crate) fn item_edge(item: &Value, list: &ListType) -> Option<String> {
    match list.keys? {
        [] => Some(format!("v:{item}")),
        keys => {
            let mut map = Map::new();
            for key in keys {
                match item.get(key) {
                    Some(value) => map.insert((*key).into(), value.clone()),
                    // The one key that Kubernetes gives a default.
                    None if *key == "protocol" => map.insert((*key).into(), "TCP".into()),
                    None => continue,
                };
            }
            Some(format!("k:{}", Value::Object(map)))
        }
    }
}

fn printed(edge: &str) -> String {
    match edge.split_at(2) {
        ("f:", name) => format!(".{name}"),
        ("k:", keys) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        ("v:", value) => format!("[={value}]"),
        (_, other) => format!("[{other}]"),
    }
}
