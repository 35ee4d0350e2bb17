//! What can go wrong before the server runs.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing would protect what changes the cluster.
    #[error("no token is set; everything that changes the cluster needs one")]
    NoToken,
    /// Streams of enforcers would have nothing to trust.
    #[error(transparent)]
    Authority(#[from] crate::nodes::AuthorityError),
    /// Others could reach it who need not say who they are, or whose tokens would be read on the way.
    #[error(
        "{0} can be reached from other machines: that takes TLS (a certificate) and users of Kubernetes (--users); \
         or listen on a loopback address"
    )]
    Exposed(SocketAddr),
    /// A file that was named is of no use.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A proxy is to be believed, whoever it is.
    #[error("a proxy is believed by its client certificate or by a shared secret: name a file of one of them")]
    BlindProxy,
    /// A proxy cannot show its certificate without TLS.
    #[error(
        "the proxy's client certificate is asked for by TLS, and the page is served without: name a certificate of its own"
    )]
    ProxyWithoutTls,
    /// Nobody would know who changed what.
    #[error(
        "changes, or probes from inside of pods, are to be taken, and no audit log is kept: name a file, or - for standard output, with --audit-log"
    )]
    NoAudit,
    /// Certificate and key do not go together.
    #[error("TLS cannot be served: {0}")]
    Tls(#[source] rustls::Error),
}
