//! Namespaces.

use crate::label::{Labels, NAMESPACE_NAME};

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// `metadata.name`.
    pub name: String,
    /// Always with [`NAMESPACE_NAME`].
    pub labels: Labels,
    /// Whether all its labels could be read. If not, only selectors that ask nothing select it for certain.
    pub is_understood: bool,
}

impl Namespace {
    /// Adds the name's label: clusters before 1.21 and files lack it, and where a file gives it another value the API server
    /// overwrites that (Kubernetes' `SetDefaults_Namespace`).
    pub fn new(name: String, mut labels: Labels) -> Self {
        labels.insert(NAMESPACE_NAME.to_owned(), name.clone());
        Self { name, labels, is_understood: true }
    }
}
