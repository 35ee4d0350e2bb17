//! The workspace as JSON: for the browser's memory, and for links.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Workspace;
use super::item::{Item, Origin, key, read_one};

impl Workspace {
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
