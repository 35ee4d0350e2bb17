//! Objects that stand twice in one folder. Where kustomize would put the two together, neither of them is what is applied.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde_json::Value;
use signalbox_policy::documents::DocumentError;
use signalbox_policy::names::ObjectRef;

use super::Input;
use crate::source::Origin;
use crate::streams::Streams;

/// How many of them are told one by one.
const TOLD: usize = 20;

/// By what kustomize knows its folders.
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Tells of objects that stand twice among those of a folder, which begin at `first`. Of two files that kustomize would put
/// together the later one is left out, as something that cannot be read by itself.
pub(super) fn tell(input: &mut Input, first: usize, root: &Path, files: &[PathBuf], streams: &mut Streams<'_>) {
    let mut seen: HashMap<ObjectRef, usize> = HashMap::new();
    let (mut pairs, mut dropped) = (Vec::new(), BTreeSet::new());
    for index in first..input.objects.len() {
        let Some(id) = ObjectRef::of(&input.objects[index]) else { continue };
        let Some(before) = seen.insert(id.clone(), index) else { continue };
        match kustomization(root, &input.origins[before], &input.origins[index]) {
            Some(folder) => {
                input.broken.push(put_together(input, before, index, &folder));
                dropped.insert(index);
                seen.insert(id, before);
            }
            None => pairs.push((before, index)),
        }
    }
    for (before, index) in pairs.iter().take(TOLD) {
        let [one, other] = [before, index].map(|index| place(&input.origins[*index]));
        streams
            .note(&format!("note: {} is in {one} and in {other}; the later one counts", title(&input.objects[*index])));
    }
    if pairs.len() > TOLD {
        streams.note(&format!("note: {} more objects stand twice", pairs.len() - TOLD));
    }
    if dropped.is_empty() {
        // Overlays come behind their bases by name; the last folder is as good a guess as any.
        let folder = files.iter().rev().filter_map(|file| file.parent()).find(|folder| has_kustomization(folder));
        if let Some(folder) = folder {
            let folder = folder.display();
            streams.note(&format!(
                "note: {folder}: namespaces, names, labels and patches that kustomize would set are not in these files; to have \
                 them: kustomize build {folder} | signalbox analyze -"
            ));
        }
        return;
    }
    let mut index = 0..;
    input.objects.retain(|_| index.next().is_none_or(|index| !dropped.contains(&index)));
    let mut index = 0..;
    input.origins.retain(|_| index.next().is_none_or(|index| !dropped.contains(&index)));
}

/// The folder that kustomize would be given to have both, if they are in different files and one is there.
fn kustomization(root: &Path, before: &Origin, after: &Origin) -> Option<PathBuf> {
    let file = |origin: &Origin| match origin {
        Origin::Text { name, .. } => Some(PathBuf::from(&**name)),
        Origin::Cluster => None,
    };
    let (before, after) = (file(before)?, file(after)?);
    if before == after {
        return None;
    }
    [after, before].iter().find_map(|file| {
        let mut folders = file.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
        folders.find(|folder| has_kustomization(folder)).map(Path::to_owned)
    })
}

fn has_kustomization(folder: &Path) -> bool {
    KUSTOMIZATIONS.iter().any(|name| folder.join(name).is_file())
}

fn put_together(input: &Input, before: usize, index: usize, folder: &Path) -> DocumentError {
    let (source_name, document, line) = match &input.origins[index] {
        Origin::Text { name, document, line, .. } => (name.to_string(), *document, *line),
        Origin::Cluster => (String::new(), 1, 1),
    };
    let other = place(&input.origins[before]);
    DocumentError {
        source_name,
        document,
        line,
        column: 1,
        reason: format!(
            "{} stands in {other} as well, and kustomize would put the two together, so that this one is left out",
            title(&input.objects[index])
        ),
        remedy: format!("analyse what comes out: kustomize build {} | signalbox analyze -", folder.display()).into(),
    }
}

fn title(object: &Value) -> String {
    let text = |path| object.pointer(path).and_then(Value::as_str);
    let namespace = text("/metadata/namespace").map_or(String::new(), |namespace| format!("{namespace}/"));
    format!("{} {namespace}{}", text("/kind").unwrap_or_default(), text("/metadata/name").unwrap_or_default())
}

fn place(origin: &Origin) -> String {
    match origin {
        Origin::Text { name, line, .. } => format!("{name}:{line}"),
        Origin::Cluster => origin.to_string(),
    }
}
