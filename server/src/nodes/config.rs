//! What the listener for streams can be told.

use std::net::SocketAddr;
use std::time::Duration;

/// What the listener for streams can be told.
#[derive(Clone, Debug)]
pub struct StreamsConfig {
    /// Where it listens. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// The namespace that the server runs in.
    pub namespace: String,
    /// The Secret that holds the authority, and the certificate.
    pub secret: String,
    /// The ConfigMap that holds the authority's public half.
    pub config_map: String,
    /// Names and addresses that the certificate is for, besides those of the Service.
    pub names: Vec<String>,
    /// The user that enforcers are, `system:serviceaccount:NAMESPACE:NAME`.
    pub enforcer: String,
    /// Streams, and connections that may become one, at a time.
    pub max_connections: usize,
    /// How long a peer may take for TLS, for its request, and for its first frame.
    pub greeting: Duration,
    /// Between two pings. A peer that is silent for four of them is lost.
    pub ping: Duration,
    /// How often a token is reviewed anew while its stream is open.
    pub review: Duration,
}

impl StreamsConfig {
    /// As `signalbox serve` has it in a cluster.
    pub fn new(listen: SocketAddr, namespace: &str) -> Self {
        Self {
            listen,
            namespace: namespace.to_owned(),
            secret: "signalbox-server-tls".to_owned(),
            config_map: "signalbox-ca".to_owned(),
            names: Vec::new(),
            enforcer: format!("system:serviceaccount:{namespace}:signalbox-enforcer"),
            max_connections: 2_048,
            greeting: Duration::from_secs(10),
            ping: Duration::from_secs(5),
            review: Duration::from_secs(60),
        }
    }

    /// How long nothing may be heard of a peer.
    pub fn silence(&self) -> Duration {
        self.ping * 4
    }
}
