//! What a first start puts into the cluster.

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::error::Error;

/// A manifest's name, for errors, and its text.
type Manifest = (&'static str, &'static str);

const NAMESPACES: Manifest = ("assets/lab/0-namespaces.yaml", include_str!("../../../assets/lab/0-namespaces.yaml"));
const BASE: &[Manifest] = &[
    ("assets/lab/1-dns.yaml", include_str!("../../../assets/lab/1-dns.yaml")),
    ("assets/lab/2-outside.yaml", include_str!("../../../assets/lab/2-outside.yaml")),
];
const LESSON: Manifest =
    ("assets/lessons/one/0-cluster.yaml", include_str!("../../../assets/lessons/one/0-cluster.yaml"));

/// Says on the namespace `kube-system` that a first start has put everything in: what is missing later, someone has deleted.
const FURNISHED: &str = "signalbox.dev/furnished";
/// Objects created at once.
const CONCURRENT: usize = 16;

/// Which manifests a first start applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Furniture {
    /// What every cluster has, and the lesson's cluster.
    Lesson,
    /// What every cluster has.
    Base,
}

/// Puts in what a new cluster needs; leaves one that has been furnished before alone.
pub(crate) async fn furnish(client: &Client, furniture: Furniture) -> Result<(), Error> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let system = namespaces.get_opt("kube-system").await.map_err(kube("read the namespace kube-system"))?;
    if system.is_some_and(|system| system.annotations().contains_key(FURNISHED)) {
        return Ok(());
    }
    let mut objects = parse(NAMESPACES)?;
    for manifest in BASE {
        objects.extend(parse(*manifest)?);
    }
    if furniture == Furniture::Lesson {
        objects.extend(parse(LESSON)?);
    }
    let (namespace_objects, others): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|object| object.types.as_ref().is_some_and(|types| types.kind == "Namespace"));
    create_all(client, namespace_objects).await?;
    create_all(client, others).await?;
    let patch = json!({"metadata": {"annotations": {FURNISHED: "true"}}});
    let patched = namespaces.patch("kube-system", &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.map(drop).map_err(kube("annotate the namespace kube-system"))
}

fn parse((name, text): Manifest) -> Result<Vec<DynamicObject>, Error> {
    serde_saphyr::from_multiple(text).map_err(|error| Error::Manifest { name, reason: error.to_string() })
}

async fn create_all(client: &Client, objects: Vec<DynamicObject>) -> Result<(), Error> {
    let mut created =
        futures::stream::iter(objects).map(|object| create(client.clone(), object)).buffer_unordered(CONCURRENT);
    while let Some(result) = created.next().await {
        result?;
    }
    Ok(())
}

async fn create(client: Client, object: DynamicObject) -> Result<(), Error> {
    let types = object.types.clone().unwrap_or_default();
    let what = format!("create the {} {}", types.kind, object.name_any());
    let kind = GroupVersionKind::try_from(&types)
        .map_err(|error| Error::Manifest { name: "embedded", reason: error.to_string() })?;
    let resource = ApiResource::from_gvk(&kind);
    let api = match object.namespace() {
        Some(namespace) => Api::<DynamicObject>::namespaced_with(client, &namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => Ok(()),
        // A first start that was killed half-way had already made it.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(kube(what)(error)),
    }
}

fn kube(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Error {
    let action = action.into();
    move |answer| Error::Kube { action, answer: Box::new(answer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_manifests_are_what_the_documents_say() {
        let mut names = Vec::new();
        for manifest in [NAMESPACES, LESSON].iter().chain(BASE) {
            for object in parse(*manifest).unwrap() {
                let kind = object.types.as_ref().unwrap().kind.clone();
                names.push(format!(
                    "{kind} {}{}",
                    object.namespace().map_or(String::new(), |ns| ns + "/"),
                    object.name_any()
                ));
            }
        }
        for expected in [
            "Namespace default",
            "Namespace kube-system",
            "Namespace frontend",
            "Namespace backend",
            "Deployment frontend/web",
            "Deployment backend/dbsvc",
            "Deployment backend/extsvc",
            "Service frontend/web",
            "Deployment kube-system/coredns",
            "Service kube-system/kube-dns",
            "ExternalHost database",
            "ExternalHost internet",
            "ExternalHost users",
        ] {
            assert!(names.iter().any(|name| name == expected), "no {expected} in {names:?}");
        }
    }
}
