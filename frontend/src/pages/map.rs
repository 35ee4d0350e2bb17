//! The map.
use leptos::prelude::*;
/// The map.
#[component]
pub fn MapPage() -> impl IntoView {}
