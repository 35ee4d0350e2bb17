//! The kind for hosts outside the cluster: `ExternalHost` in `signalbox.dev/v1alpha1`, cluster-scoped.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// Enough of an `ExternalHost` to call its subresource `exec`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExternalHost {
    /// The usual.
    pub metadata: ObjectMeta,
}

impl kube::Resource for ExternalHost {
    type DynamicType = ();
    type Scope = kube::core::ClusterResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        "ExternalHost".into()
    }

    fn group(_: &()) -> Cow<'_, str> {
        "signalbox.dev".into()
    }

    fn version(_: &()) -> Cow<'_, str> {
        "v1alpha1".into()
    }

    fn plural(_: &()) -> Cow<'_, str> {
        "externalhosts".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl kube::api::Execute for ExternalHost {}
