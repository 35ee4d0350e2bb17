//! What the reader put in: objects with the texts they came from, and a baseline to compare with.
//!
//! - [`item`]: one object with its text; [`loader`]: texts become objects; [`stored`]: all of it as JSON.

mod item;
mod loader;
mod stored;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use item::{Item, Origin};
pub use loader::{Loader, Refused};

use item::{key, read_one};

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
