//! What can go wrong before the server runs.

use std::net::SocketAddr;

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
}
