//! The API as its clients see it: the `kube` crate, kubectl, and those who should not get in.

#![allow(clippy::unwrap_used, reason = "a test's surprise is its failure")]

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod kubectl;
mod security;
