//! The few things that the page asks of the browser itself.

use wasm_bindgen::JsCast;

/// Unix time in milliseconds.
pub fn now_ms() -> f64 {
    js_sys::Date::now()
}

/// The address bar's hash, with its `#`.
pub fn hash() -> String {
    window().location().hash().unwrap_or_default()
}

/// Sets the hash, which the page then hears of as `hashchange`.
pub fn set_hash(hash: &str) {
    // Cannot fail for a hash: browsers refuse only navigations of sandboxed frames.
    let _ = window().location().set_hash(hash);
}

/// Where the page keeps the server's token: with the page's origin, which has the port in it, as a cookie's has not.
const TOKEN: &str = "signalbox.token";

/// Takes the token of the link by which the page was opened out of the address bar, and keeps it.
pub fn take_token() {
    let location = window().location();
    let query = location.search().unwrap_or_default();
    let Some(token) = query.trim_start_matches('?').split('&').find_map(|pair| pair.strip_prefix("token=")) else {
        return;
    };
    remember(TOKEN, token);
    let bare = format!("{}{}", location.pathname().unwrap_or_default(), hash());
    if let Ok(history) = window().history() {
        // Where it is refused, the token stays in the bar: the page works all the same.
        let _ = history.replace_state_with_url(&wasm_bindgen::JsValue::NULL, "", Some(&bare));
    }
}

/// The token of whoever logged in; else the server's own, if the page was ever opened by its link.
pub fn token() -> Option<String> {
    let login = session_storage().and_then(|storage| storage.get_item(TOKEN).ok().flatten());
    login.or_else(|| recall(TOKEN))
}

/// Keeps the token of whoever logged in: for this tab, until it is closed.
pub fn keep_login(token: &str) {
    if let Some(storage) = session_storage() {
        // Where the browser forbids it, the reader has to log in again.
        let _ = storage.set_item(TOKEN, token);
    }
}

/// Keeps no token any more.
pub fn forget_token() {
    if let Some(storage) = session_storage() {
        let _ = storage.remove_item(TOKEN);
    }
    forget(TOKEN);
}

/// Loads the page anew.
pub fn reload() {
    let _ = window().location().reload();
}

/// The page has no server: it was built into a folder by itself.
pub fn is_alone() -> bool {
    document().document_element().is_some_and(|root| root.has_attribute("data-alone"))
}

/// The page's own address, without its hash.
pub fn address() -> String {
    let href = window().location().href().unwrap_or_default();
    href.split('#').next().unwrap_or_default().to_owned()
}

/// Puts a text into the clipboard; whether that went well.
pub async fn copy(text: &str) -> bool {
    // Browsers have no clipboard for pages that came over plain HTTP from another machine.
    let of = |object: &wasm_bindgen::JsValue, name: &str| js_sys::Reflect::get(object, &name.into()).ok();
    let clipboard = of(&window().navigator(), "clipboard").filter(|it| it.is_object());
    let write = clipboard.as_ref().and_then(|it| of(it, "writeText")?.dyn_into::<js_sys::Function>().ok());
    let promise = clipboard.zip(write).and_then(|(it, write)| write.call1(&it, &text.into()).ok());
    match promise.and_then(|promise| promise.dyn_into::<js_sys::Promise>().ok()) {
        Some(promise) => wasm_bindgen_futures::JsFuture::from(promise).await.is_ok(),
        None => false,
    }
}

/// Hands a text to the reader as a file.
pub fn download(name: &str, kind: &str, text: &str) {
    let Ok(link) = document().create_element("a") else { return };
    let parts = js_sys::Array::of1(&text.into());
    let options = web_sys::BlobPropertyBag::new();
    options.set_type(kind);
    let blob = web_sys::Blob::new_with_str_sequence_and_options(&parts, &options);
    let Some(url) = blob.ok().and_then(|blob| web_sys::Url::create_object_url_with_blob(&blob).ok()) else { return };
    let _ = link.set_attribute("href", &url);
    let _ = link.set_attribute("download", name);
    if let Some(link) = link.dyn_ref::<web_sys::HtmlElement>() {
        link.click();
    }
    let _ = web_sys::Url::revoke_object_url(&url);
}

/// The page is in a background tab.
pub fn hidden() -> bool {
    document().hidden()
}

/// The reader asked for little motion.
pub fn calm() -> bool {
    let query = window().match_media("(prefers-reduced-motion: reduce)");
    query.ok().flatten().is_some_and(|query| query.matches())
}

/// The window has no room to spare.
pub fn narrow() -> bool {
    let query = window().match_media("(max-width: 58rem)");
    query.ok().flatten().is_some_and(|query| query.matches())
}

/// Reads from the browser's memory; absent where it has none, or forbids it.
pub fn recall(key: &str) -> Option<String> {
    storage()?.get_item(key).ok().flatten()
}

/// Writes to the browser's memory; says whether it is kept.
pub fn remember(key: &str, value: &str) -> bool {
    storage().is_some_and(|storage| storage.set_item(key, value).is_ok())
}

/// Removes from the browser's memory.
pub fn forget(key: &str) {
    if let Some(storage) = storage() {
        let _ = storage.remove_item(key);
    }
}

/// Keys in the browser's memory that begin so.
pub fn remembered(prefix: &str) -> Vec<String> {
    let Some(storage) = storage() else { return Vec::new() };
    let count = storage.length().unwrap_or(0);
    (0..count).filter_map(|at| storage.key(at).ok().flatten()).filter(|key| key.starts_with(prefix)).collect()
}

/// Sets or removes an attribute of the document's root.
pub fn mark_root(name: &str, value: Option<&str>) {
    let Some(root) = document().document_element() else { return };
    let _ = match value {
        Some(value) => root.set_attribute(name, value),
        None => root.remove_attribute(name),
    };
}

/// Moves the focus to the first element that matches; says whether there is one.
pub fn focus(selector: &str) -> bool {
    let found = document().query_selector(selector).ok().flatten();
    found.as_ref().inspect(|element| focus_element(element)).is_some()
}

/// Moves the focus to an element of the page or of a drawing in it.
pub fn focus_element(element: &web_sys::Element) {
    if let Some(element) = element.dyn_ref::<web_sys::HtmlElement>() {
        let _ = element.focus();
    } else if let Some(element) = element.dyn_ref::<web_sys::SvgElement>() {
        let _ = element.focus();
    }
}

/// What has the focus; absent where it is on nothing in particular.
pub fn focused() -> Option<web_sys::Element> {
    document().active_element().filter(|element| element.tag_name() != "BODY")
}

/// All elements that match, in the order of the page.
pub fn all(selector: &str) -> Vec<web_sys::Element> {
    let Ok(found) = document().query_selector_all(selector) else { return Vec::new() };
    (0..found.length()).filter_map(|at| found.item(at)?.dyn_into().ok()).collect()
}

/// Scrolls the box that the first matching element lies in, sideways only, until the element is in its middle.
pub fn show_sideways(selector: &str) {
    let Ok(Some(element)) = document().query_selector(selector) else { return };
    let Some(parent) = element.parent_element() else { return };
    let (own, around) = (element.get_bounding_client_rect(), parent.get_bounding_client_rect());
    let off = own.left() + own.width() / 2.0 - around.left() - around.width() / 2.0;
    // Whole pixels will do, and browsers clamp.
    parent.set_scroll_left(parent.scroll_left() + off as i32);
}

/// Closes what hangs open over the page, but not what the reader is in.
pub fn close_pops(touched: Option<web_sys::EventTarget>) {
    let touched = touched.and_then(|target| target.dyn_into::<web_sys::Node>().ok());
    let details = document().get_elements_by_tag_name("details");
    for pop in (0..details.length()).filter_map(|at| details.item(at)) {
        let classes = pop.class_list();
        let hangs = classes.contains("chip") || classes.contains("legend");
        if hangs && !pop.contains(touched.as_ref()) {
            let inside = focused().is_some_and(|element| pop.contains(Some(&element)));
            let _ = pop.remove_attribute("open");
            // Who was in it stands at its handle then, not at the page's beginning.
            if inside && let Ok(Some(handle)) = pop.query_selector("summary") {
                focus_element(&handle);
            }
        }
    }
}

/// Moves an element through keyframes. Where the browser cannot, the element stays where it is.
pub fn animate(element: &web_sys::Element, keyframes: &js_sys::Object, duration_ms: f64) {
    let animate = js_sys::Reflect::get(element, &"animate".into()).ok();
    if let Some(animate) = animate.and_then(|found| found.dyn_into::<js_sys::Function>().ok()) {
        let _ = animate.call2(element, keyframes, &duration_ms.into());
    }
}

/// Gives the focus back to an element that lost it by being drawn anew; not if the reader has gone elsewhere.
pub fn refocus(selector: &str) {
    let lost = document().active_element().is_none_or(|element| element.tag_name() == "BODY");
    let Some(element) = document().query_selector(selector).ok().flatten().filter(|_| lost) else { return };
    // Without scrolling: the reader may have moved the element out of sight on purpose.
    let options = js_sys::Object::new();
    let _ = js_sys::Reflect::set(&options, &"preventScroll".into(), &true.into());
    let focus = js_sys::Reflect::get(&element, &"focus".into()).ok();
    if let Some(focus) = focus.and_then(|found| found.dyn_into::<js_sys::Function>().ok()) {
        let _ = focus.call1(&element, &options);
    }
}

fn session_storage() -> Option<web_sys::Storage> {
    window().session_storage().ok().flatten()
}

fn storage() -> Option<web_sys::Storage> {
    window().local_storage().ok().flatten()
}

fn window() -> web_sys::Window {
    web_sys::window().expect("the page runs in a window")
}

fn document() -> web_sys::Document {
    window().document().expect("a window has a document")
}
