//! The lab's Kubernetes API: one process, one machine, real enough for `kubectl` and the `kube` crate.
//!
//! - `serve`, `auth`: connections, and who may ask at all
//! - `routes`, `path`, `negotiate`: a request's way to an answer
//! - `kinds`: what is served, with schemas and defaults; `discovery`, `openapi`: how the API tells
//! - `store`, `journal`: the objects, in memory and on disk; `watch`, `selector`: who sees which change
//! - `decode`, `protobuf`, `write`, `binding`, `delete`, `namespaces`, `patch`, `validate`: what happens to an object on its way into the store
//! - [`reviews`]: who a token is, and what somebody may do
//! - `table`: what `kubectl get` prints; [`status`]: errors as Kubernetes words them

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use signalbox_lab_streaming::runtime::PodRuntime;
use tokio_util::sync::CancellationToken;

mod auth;
mod binding;
mod decode;
mod delete;
mod discovery;
mod journal;
mod kinds;
mod namespaces;
mod negotiate;
mod object;
mod openapi;
mod patch;
mod path;
mod protobuf;
pub mod reviews;
mod routes;
mod selector;
mod serve;
pub mod status;
mod store;
mod table;
mod validate;
mod watch;
mod write;

/// Where the API listens and what it remembers.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Directory for objects and credentials; made with mode 0700 where it is missing.
    pub state_dir: PathBuf,
    /// Forget the objects of earlier runs. Credentials stay.
    pub fresh: bool,
}

/// Why the API cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}; choose another address")]
    Bind {
        /// What was tried.
        address: SocketAddr,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A file of the state directory cannot be read or written.
    #[error("cannot use {path}: {source}; choose another state directory or repair this one")]
    State {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// Another process uses the state directory.
    #[error("another lab is using {path}; end it, or choose another state directory")]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// The namespaces that every cluster has cannot be made.
    #[error("cannot set up the cluster's namespaces: {0}")]
    Namespaces(String),
    /// The certificate authority cannot be made or read.
    #[error("cannot make a certificate: {0}; remove the state directory's `credentials` to start with new ones")]
    Certificate(#[source] rcgen::Error),
    /// TLS refuses the certificate.
    #[error("cannot set up TLS: {0}")]
    Tls(#[source] rustls::Error),
}

/// A running API.
pub struct ApiServer {
    credentials: auth::Credentials,
    address: SocketAddr,
    identities: reviews::Identities,
    task: tokio::task::JoinHandle<()>,
}

/// Starts the API; it runs until `shutdown` is cancelled.
pub async fn start(
    config: Config,
    runtime: Arc<dyn PodRuntime>,
    shutdown: CancellationToken,
) -> Result<ApiServer, Error> {
    auth::create_private_dir(&config.state_dir)?;
    let credentials = auth::Credentials::load_or_create(&config.state_dir)?;
    let tls = credentials.tls(config.listen.ip())?;
    let bind = |source| Error::Bind { address: config.listen, source };
    let listener = tokio::net::TcpListener::bind(config.listen).await.map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    let (journal, remembered) = journal::Journal::open(&config.state_dir, config.fresh)?;
    let store = Arc::new(store::Store::new(journal, remembered));
    for namespace in delete::KEPT_NAMESPACES {
        write::ensure_namespace(&store, namespace).map_err(|status| Error::Namespaces(status.message))?;
    }
    tokio::spawn(namespaces::run(store.clone(), shutdown.clone()));
    let gate = auth::Gate::new(&credentials.token, address);
    let identities = reviews::Identities::new(&credentials.token);
    let api = routes::Api::new(store, runtime, gate, address, shutdown.clone()).reviewing(identities.clone());
    let app = routes::router(Arc::new(api));
    let task = tokio::spawn(serve::serve(listener, tls, app, shutdown));
    Ok(ApiServer { credentials, address, identities, task })
}

impl ApiServer {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Whom its reviews of tokens and rights know, besides the lab's owner.
    pub fn identities(&self) -> reviews::Identities {
        self.identities.clone()
    }

    /// A kubeconfig that reaches this API. `extension` is put beside the context as `signalbox.dev`.
    pub fn kubeconfig(&self, extension: Option<serde_json::Value>) -> String {
        auth::kubeconfig(&self.credentials, self.address, extension)
    }

    /// Waits until the API has ended after its shutdown token was cancelled.
    pub async fn stopped(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the API's listener failed");
        }
    }
}
