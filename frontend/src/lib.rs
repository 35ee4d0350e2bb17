//! The page: one live picture of who can talk to whom.
//!
//! - [`model`]: everything that needs no browser: the picture and the events that change it, sentences, grouping, the
//!   map's layout, drafts. Plain functions, tested natively.
//! - [`route`]: the address bar's hash and the views it names.
//! - [`api`]: the server's event stream and its REST calls.
//! - [`store`]: the picture as signals.
//! - [`components`]: parts that more than one view uses.
//! - [`pages`]: the views.
//! - [`app`]: what is around them.

pub mod api;
pub mod app;
pub mod browser;
pub mod components;
pub mod model;
pub mod pages;
pub mod route;
pub mod store;

/// Starts the page in the document's body.
pub fn run() {
    console_error_panic_hook::set_once();
    leptos::mount::mount_to_body(app::App);
}
