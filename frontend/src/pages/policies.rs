//! Policies.
use leptos::prelude::*;
/// Policies.
#[component]
pub fn PoliciesPage() -> impl IntoView {}
