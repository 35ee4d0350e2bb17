//! A port of a pod through the cluster's API, and why there is no way through.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use tokio::io::DuplexStream;

use super::super::cause::Cause;

/// The end of a stream may come before the reason for it.
const AFTERWARDS: Duration = Duration::from_millis(200);

/// A port of a pod.
pub(super) struct Door {
    pub pods: Box<Api<Pod>>,
    pub pod: String,
    pub port: u16,
    /// The command of the kubeconfig's user's credential plug-in, where it has one.
    pub plugin: Option<String>,
    /// How long the API and the pod may take to answer.
    pub wait: Duration,
}

/// Why it cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the kubeconfig's user may not forward ports to the pod {pod} ({reason}): add the rule {{apiGroups: [\"\"], resources: [pods/portforward], \
         verbs: [{verbs}]}} to a Role in the namespace {namespace} that the user is bound to, or give the server's own address with --server"
    )]
    Forbidden { pod: String, namespace: String, verbs: &'static str, reason: String },
    #[error(
        "the cluster's API does not accept the credentials of the kubeconfig ({0}): log in again, or correct the user there"
    )]
    Unauthorized(String),
    #[error("the pod {0} is gone, perhaps replaced just now: ask again; `kubectl get pods -n {1}` shows what is there")]
    Gone(String, String),
    #[error(
        "the pod {pod} is not ready ({state}): wait for it; `kubectl describe pod -n {namespace} {name}` says what it lacks"
    )]
    NotReady { pod: String, namespace: String, name: String, state: String },
    #[error(
        "nothing listens on port {port} of the pod {pod} ({reason}): the server there starts, or has ended; `kubectl logs -n {namespace} {name}` tells"
    )]
    Refused { pod: String, port: u16, namespace: String, name: String, reason: String },
    #[error(
        "no answer from port {port} of the pod {pod} through the cluster's API within {} ms: look whether the pod's node is ready (`kubectl get nodes`) and \
         the API server reaches its kubelet",
        after.as_millis()
    )]
    Late { pod: String, port: u16, after: Duration },
    #[error(transparent)]
    Cause(#[from] Cause),
    #[error(
        "the cluster's API cannot be reached ({0}): check that its API server runs, and the kubeconfig's address of it"
    )]
    Away(String),
    #[error(
        "the cluster's API did not forward port {port} of the pod {pod}: {reason}; `kubectl port-forward` to it shows whether that is so for all"
    )]
    Failed { pod: String, port: u16, reason: String },
}

impl Door {
    /// Connects, and does `then` with the connection. What the other side tells of the connection goes before what comes of that.
    pub(super) async fn open<T, E, F>(&self, then: impl FnOnce(DuplexStream) -> F) -> Result<Result<T, E>, Error>
    where
        F: Future<Output = Result<T, E>>,
    {
        let late = || Error::Late { pod: self.name(), port: self.port, after: self.wait };
        tokio::time::timeout(self.wait, self.through(then)).await.map_err(|_| late())?
    }

    async fn through<T, E, F>(&self, then: impl FnOnce(DuplexStream) -> F) -> Result<Result<T, E>, Error>
    where
        F: Future<Output = Result<T, E>>,
    {
        let mut forwarder = match self.pods.portforward(&self.pod, &[self.port]).await {
            Ok(forwarder) => forwarder,
            Err(error) => return Err(self.failed(error).await),
        };
        let streams = (forwarder.take_stream(self.port), forwarder.take_error(self.port));
        let (Some(stream), Some(told)) = streams else {
            return Err(self.other("there is no stream".to_owned()));
        };
        // Nothing is told where all is well, and the end of what could be told is no failure either.
        let told = async {
            match told.await {
                Some(reason) => reason,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(told);
        let done = tokio::select! {
            biased;
            reason = &mut told => return Err(self.refused(reason).await),
            done = then(stream) => done,
        };
        if done.is_err()
            && let Ok(reason) = tokio::time::timeout(AFTERWARDS, told).await
        {
            return Err(self.refused(reason).await);
        }
        Ok(done)
    }

    /// What an answer of the API means.
    async fn failed(&self, error: kube::Error) -> Error {
        let status = match error {
            kube::Error::Api(status) => status,
            kube::Error::UpgradeConnection(error) => return self.other(error.to_string()),
            other => {
                let away = || Error::Away(signalbox_server::kube_error::sentence(&other));
                return Cause::of(&other, self.plugin.as_deref()).map_or_else(away, Error::Cause);
            }
        };
        let reason = status.message.clone();
        match status.code {
            401 => Error::Unauthorized(reason),
            403 => {
                // A WebSocket begins with GET: which verb that takes depends on the API server's version, which names it.
                let verbs = ["get", "create"].into_iter().find(|verb| reason.contains(&format!("cannot {verb} ")));
                let verbs = verbs.unwrap_or("get, create");
                Error::Forbidden { pod: self.name(), namespace: self.namespace(), verbs, reason }
            }
            404 => Error::Gone(self.name(), self.namespace()),
            _ => self.refused(reason).await,
        }
    }

    /// What is so of the pod decides, where the way to it is open.
    async fn refused(&self, reason: String) -> Error {
        let (pod, name, namespace) = (self.name(), self.pod.clone(), self.namespace());
        let only = ListParams::default().fields(&format!("metadata.name={}", self.pod));
        if let Ok(found) = self.pods.list(&only).await {
            let Some(found) = found.items.into_iter().find(|found| found.metadata.name.as_ref() == Some(&self.pod))
            else {
                return Error::Gone(pod, namespace);
            };
            if !super::super::forward::is_ready(&found) {
                let phase = found.status.and_then(|status| status.phase).unwrap_or_else(|| "no phase yet".to_owned());
                return Error::NotReady { pod, namespace, name, state: format!("{phase}; {reason}") };
            }
        }
        if reason.to_lowercase().contains("connection refused") {
            return Error::Refused { pod, port: self.port, namespace, name, reason };
        }
        self.other(reason)
    }

    fn other(&self, reason: String) -> Error {
        Error::Failed { pod: self.name(), port: self.port, reason }
    }

    fn name(&self) -> String {
        format!("{}/{}", self.namespace(), self.pod)
    }

    fn namespace(&self) -> String {
        self.pods.namespace().unwrap_or("default").to_owned()
    }
}

#[cfg(test)]
mod tests;
