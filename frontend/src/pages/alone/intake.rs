//! Files, folders and pasted texts become manifests. They are read in this browser and go nowhere else.

use js_sys::{Array, Function, Promise, Reflect};
use leptos::ev;
use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use super::sim::Sim;
use crate::browser;
use crate::model::alone::workspace::Loader;

/// How many files are read at once.
const MOST_FILES: usize = 2_000;
/// The most that is read at once, in bytes.
const MOST_BYTES: f64 = 64.0 * 1024.0 * 1024.0;

/// Takes files and folders that are dropped anywhere on the page.
pub(crate) fn take_what_is_dropped(sim: Sim) {
    let over = window_event_listener(ev::dragover, |event| {
        event.prevent_default();
        browser::mark_root("data-drop", Some("over"));
    });
    let leave = window_event_listener(ev::dragleave, |event| {
        if event.related_target().is_none() {
            browser::mark_root("data-drop", None);
        }
    });
    let drop = window_event_listener(ev::drop, move |event| {
        event.prevent_default();
        browser::mark_root("data-drop", None);
        let Some(data) = event.data_transfer() else { return };
        // Folders are told from files now: once the event is over, the browser no longer says.
        let items = Reflect::get(&data, &"items".into()).map(|items| Array::from(&items)).unwrap_or_default();
        let entries = items.iter().filter_map(|item| call(&item, "webkitGetAsEntry", &[]));
        let entries: Vec<JsValue> = entries.filter(|entry| !entry.is_null() && !entry.is_undefined()).collect();
        let files = data.files();
        spawn_local(async move {
            let mut found = Vec::new();
            let mut skipped = 0;
            if entries.is_empty() {
                found.extend(files.into_iter().flat_map(list));
            }
            for entry in entries {
                walk(entry, &mut found, &mut skipped).await;
            }
            read(sim, found, skipped).await;
        });
    });
    on_cleanup(move || {
        over.remove();
        leave.remove();
        drop.remove();
    });
}

/// Takes what a file field holds.
pub(crate) fn take_files(sim: Sim, field: &web_sys::HtmlInputElement) {
    let Some(files) = field.files() else { return };
    let found: Vec<_> = list(files).collect();
    // So that choosing the same file again is a change again.
    field.set_value("");
    let all = found.len();
    let found: Vec<_> = found.into_iter().filter(|(path, _)| !path.contains('/') || is_manifest(path)).collect();
    let skipped = all - found.len();
    spawn_local(read(sim, found, skipped));
}

/// Takes a text.
pub(crate) fn take_text(sim: Sim, text: String) {
    let mut loader = Loader::default();
    loader.add("pasted text", &text);
    spawn_local(sim.load(loader, None));
}

/// Files with their paths.
fn list(files: web_sys::FileList) -> impl Iterator<Item = (String, web_sys::File)> {
    (0..files.length()).filter_map(move |at| {
        let file = files.get(at)?;
        let path = Reflect::get(&file, &"webkitRelativePath".into()).ok().and_then(|path| path.as_string());
        Some((path.filter(|path| !path.is_empty()).unwrap_or_else(|| file.name()), file))
    })
}

fn is_manifest(path: &str) -> bool {
    let path = path.to_lowercase();
    [".yaml", ".yml", ".json"].iter().any(|ending| path.ends_with(ending))
}

/// All manifests below a file or folder.
async fn walk(entry: JsValue, found: &mut Vec<(String, web_sys::File)>, skipped: &mut usize) {
    let is = |entry: &JsValue, what: &str| Reflect::get(entry, &what.into()).is_ok_and(|it| it.is_truthy());
    let mut open = vec![(entry, true)];
    while let Some((entry, is_dropped)) = open.pop() {
        if found.len() > MOST_FILES {
            return;
        }
        let path = Reflect::get(&entry, &"fullPath".into()).ok().and_then(|path| path.as_string()).unwrap_or_default();
        let path = path.trim_start_matches('/').to_owned();
        if is(&entry, "isFile") {
            // What was dropped by itself is meant, whatever its name.
            if !is_dropped && !is_manifest(&path) {
                *skipped += 1;
                continue;
            }
            if let Some(file) = promised(&entry, "file").await.and_then(|file| file.dyn_into().ok()) {
                found.push((path, file));
            }
        } else if let Some(reader) = call(&entry, "createReader", &[]) {
            // A reader gives a hundred entries at a time, and none at its end.
            while let Some(entries) = promised(&reader, "readEntries").await {
                let entries: Vec<JsValue> = Array::from(&entries).iter().collect();
                if entries.is_empty() {
                    break;
                }
                open.extend(entries.into_iter().map(|entry| (entry, false)));
            }
        }
    }
}

async fn read(sim: Sim, mut files: Vec<(String, web_sys::File)>, skipped: usize) {
    let mut loader = Loader::default();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    let mut bytes = 0.0;
    for (at, (path, file)) in files.into_iter().enumerate() {
        bytes += file.size();
        if at >= MOST_FILES || bytes > MOST_BYTES {
            loader.refuse(&path, "this file and those behind it were not read: at most 2,000 files with 64 MB in all are read at once; put in fewer");
            break;
        }
        match JsFuture::from(file.text()).await.ok().and_then(|text| text.as_string()) {
            Some(text) => loader.add(&path, &text),
            None => loader.refuse(&path, "the browser could not read this file; try to choose it again"),
        }
    }
    sim.load(loader, None).await;
    if skipped > 0 {
        sim.said.update(|said| {
            said.push_str(&match skipped {
                1 => " One file that is no .yaml, .yml or .json was passed over.".to_owned(),
                _ => format!(" {skipped} files that are no .yaml, .yml or .json were passed over."),
            });
        });
    }
}

/// Calls a method; `None` where there is none, or it fails.
fn call(object: &JsValue, method: &str, arguments: &[JsValue]) -> Option<JsValue> {
    let method: Function = Reflect::get(object, &method.into()).ok()?.dyn_into().ok()?;
    method.apply(object, &arguments.iter().collect::<Array>()).ok()
}

/// Calls a method that takes one callback for success and one for failure.
async fn promised(object: &JsValue, method: &str) -> Option<JsValue> {
    let promise = Promise::new(&mut |resolve, reject| {
        let _ = call(object, method, &[resolve.into(), reject.into()]);
    });
    JsFuture::from(promise).await.ok()
}
