//! Finds the server that runs in a cluster, and the way to it through the cluster's API: whoever has a kubeconfig needs no address of it.

use http::header::{AUTHORIZATION, HeaderValue};
use http::{Request, Response};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::ListParams;
use kube::client::Body;
use kube::client::middleware::AuthLayer;
use kube::{Api, ResourceExt};
use tower::{BoxError, Layer, ServiceExt};

use super::cause::Cause;
use super::cluster::Cluster;
use super::remote::{self, Remote};
use crate::install::names;

/// Why the server that runs in a cluster is not asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot look for a server in the namespace {namespace}: {source}")]
    Pods { namespace: String, source: Box<kube::Error> },
    #[error("the server's pod {0} is not ready")]
    NotReady(String),
    #[error(
        "cannot read the ConfigMap {name}, which says whom to trust for the server: {why}; this needs `get configmaps`"
    )]
    Authority { name: String, why: String },
    #[error(
        "the kubeconfig's user has no bearer token, by which the server tells users apart; give one with --token-file"
    )]
    NoToken,
    #[error("the kubeconfig's user gets no token: {0}")]
    Token(BoxError),
    #[error(transparent)]
    Cause(#[from] Cause),
    #[error(transparent)]
    Remote(#[from] remote::Error),
}

/// The server that `signalbox install` has put into `namespace`, if there is one. `token` is taken instead of the kubeconfig's user's.
pub(super) async fn find(cluster: &Cluster, namespace: &str, token: Option<&str>) -> Result<Option<Remote>, Error> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let ours = format!("{},app.kubernetes.io/component=server", names::PART);
    let found = match pods.list(&ListParams::default().labels(&ours)).await {
        Ok(found) => found.items,
        // Whoever may not even look has no server, as far as this command goes.
        Err(kube::Error::Api(status)) if status.code == 403 => return Ok(None),
        Err(source) => {
            if let Some(cause) = Cause::of(&source, cluster.plugin.as_deref()) {
                return Err(cause.into());
            }
            return Err(Error::Pods { namespace: namespace.to_owned(), source: Box::new(source) });
        }
    };
    let Some(pod) = found.iter().max_by_key(|pod| is_ready(pod)) else { return Ok(None) };
    if !is_ready(pod) {
        return Err(Error::NotReady(format!("{namespace}/{}", pod.name_any())));
    }
    let authorization = match token {
        Some(token) => HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| remote::Error::Token)?,
        None => bearer(cluster.auth.as_ref()).await.map_err(|error| {
            if let Error::Token(source) = &error
                && let Some(cause) = Cause::of(&**source, cluster.plugin.as_deref())
            {
                return cause.into();
            }
            error
        })?,
    };
    let from = format!("{namespace}/{}", names::AUTHORITY);
    let unreadable = |why: String| Error::Authority { name: from.clone(), why };
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), namespace);
    let map = maps.get(names::AUTHORITY).await.map_err(|error| unreadable(error.to_string()))?;
    let authority = map.data.and_then(|mut data| data.remove("ca.crt"));
    let authority = authority.ok_or_else(|| unreadable("it has no key ca.crt".to_owned()))?;
    let name = format!("{}.{namespace}.svc", names::SERVICE);
    let door = (pod.name_any(), names::PAGE_PORT);
    let pods = (pods, cluster.plugin.clone());
    Ok(Some(Remote::forwarded(pods, door, &name, authorization, (authority.as_bytes(), &from))?))
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

/// What the kubeconfig's user shows to the API: kube puts it into a request's head, wherever it comes from (a file, a plug-in, OIDC).
async fn bearer(auth: Option<&AuthLayer>) -> Result<HeaderValue, Error> {
    let layer = auth.ok_or(Error::NoToken)?;
    let seen = layer.layer(tower::service_fn(|request: Request<Body>| async move {
        Ok::<_, BoxError>(Response::new(request.headers().get(AUTHORIZATION).cloned()))
    }));
    let shown = seen.oneshot(Request::new(Body::empty())).await.map_err(Error::Token)?.into_body();
    shown.filter(|value| value.as_bytes().starts_with(b"Bearer ")).ok_or(Error::NoToken)
}

#[cfg(test)]
mod tests {
    use kube::Config;
    use kube::client::ConfigExt;
    use kube::config::{KubeConfigOptions, Kubeconfig};

    use super::*;

    async fn shown(user: &str) -> Result<HeaderValue, Error> {
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: a, clusters: [{{name: a, cluster: {{server: 'https://127.0.0.1:1'}}}}], \
             contexts: [{{name: a, context: {{cluster: a, user: a}}}}], users: [{{name: a, user: {user}}}]}}"
        );
        let kubeconfig = Kubeconfig::from_yaml(&text).expect("it is a kubeconfig");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let layer = config.expect("it can be used").auth_layer().expect("the user can be used");
        bearer(layer.as_ref()).await
    }

    #[tokio::test]
    async fn the_token_is_what_the_user_shows_to_the_api() {
        assert_eq!(shown("{token: abc}").await.expect("a token"), "Bearer abc");
        let plugin = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, args: ['-c', 'echo \
                      \"{\\\"apiVersion\\\":\\\"client.authentication.k8s.io/v1\\\",\\\"kind\\\":\\\"ExecCredential\\\",\
                      \\\"status\\\":{\\\"token\\\":\\\"of-a-plug-in\\\"}}\"'], interactiveMode: Never}}";
        assert_eq!(shown(plugin).await.expect("a token"), "Bearer of-a-plug-in");
        for user in ["{}", "{username: a, password: b}"] {
            assert!(matches!(shown(user).await, Err(Error::NoToken)), "{user}");
        }
    }
}
