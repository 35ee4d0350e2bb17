//! Patches: one module per kind of patch.
//!
//! - [`json`]: JSON patch (RFC 6902) and merge patch (RFC 7386)
//! - [`strategic`]: Kubernetes' strategic merge
//! - [`fields`]: sets of fields, and who manages them
//! - [`apply`]: server-side apply

pub(crate) mod apply;
pub(crate) mod fields;
pub(crate) mod json;
pub(crate) mod strategic;
