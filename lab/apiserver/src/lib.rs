//! The lab's Kubernetes API: one process, one machine, real enough for `kubectl` and the `kube` crate.
//!
//! - [`auth`]: credentials, and who may ask at all
//! - [`serve`]: connections
//! - [`status`]: errors as Kubernetes words them

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use signalbox_lab_streaming::runtime::PodRuntime;
use tokio_util::sync::CancellationToken;

mod auth;
mod serve;
pub mod status;

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
    let gate = Arc::new(auth::Gate::new(&credentials.token, address));
    let _ = runtime;
    let app = axum::Router::new().fallback(async || status::Status::no_such_path()).layer(axum::middleware::from_fn(
        move |request: axum::extract::Request, next: axum::middleware::Next| {
            let gate = gate.clone();
            async move {
                match gate.check(request.uri(), request.headers()) {
                    Ok(()) => next.run(request).await,
                    Err(status) => axum::response::IntoResponse::into_response(status),
                }
            }
        },
    ));
    let task = tokio::spawn(serve::serve(listener, tls, app, shutdown));
    Ok(ApiServer { credentials, address, task })
}

impl ApiServer {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
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
