//! Who may see and change what (docs/security.md).
//!
//! - [`person`]: users, and what they wish to do; [`reviews`]: what the Kubernetes API says of both.
//! - [`tokens`]: bearer tokens, reviewed and remembered for a short while; [`proxy`]: what an authenticating proxy says.
//! - [`view`]: what of the cluster one of them may see; [`sight`]: how that is found out, and remembered.
//! - [`cut`]: the picture and its events, cut down to a view.
//! - [`keeper`]: all of it together, as the page's API asks for it; [`audit`]: who changed what.

pub mod audit;
pub mod cut;
pub mod keeper;
pub mod person;
pub mod proxy;
pub mod reviews;
pub mod sight;
pub mod tokens;
pub mod view;

use std::path::PathBuf;
use std::time::Duration;

/// How users are told apart.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// Not at all: whoever reaches the server may read, and the token of [`crate::Config::token`] lets change. For a lab
    /// and a laptop: only a loopback address is listened on, but for [`crate::Config::allow_remote`].
    #[default]
    Loopback,
    /// Each request comes with a Kubernetes bearer token, or through an authenticating proxy; what its user may see and
    /// change is what the Kubernetes API says. The server needs `create` on `tokenreviews` and `subjectaccessreviews`.
    Kubernetes(Kubernetes),
}

/// What [`Access::Kubernetes`] can be told.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    /// Changes are taken, from those who have the right. Otherwise from nobody.
    pub allow_apply: bool,
    /// Believe an authenticating proxy.
    pub proxy: Option<Proxy>,
    /// How long a token counts after it was reviewed: so long a revoked one may go on being used.
    pub tokens_kept: Duration,
    /// How long what a user may see counts after it was asked for: so long a right that was taken away may go on being used.
    /// Rights to change something are asked for each time.
    pub rights_kept: Duration,
    /// For how long both go on counting where the Kubernetes API does not answer. Nothing can be changed meanwhile.
    pub away_kept: Duration,
    /// How many event streams one user may follow at a time.
    pub followers_each: usize,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            allow_apply: false,
            proxy: None,
            tokens_kept: Duration::from_secs(10),
            rights_kept: Duration::from_secs(30),
            away_kept: Duration::from_secs(120),
            followers_each: 8,
        }
    }
}

/// How an authenticating proxy shows that it is the one. At least one of the two.
#[derive(Clone, Debug, Default)]
pub struct Proxy {
    /// Its client certificate is of one of the authorities in this PEM file. Needs [`crate::Config::tls`].
    pub client_ca: Option<PathBuf>,
    /// The common names that its certificate may have. Empty: any.
    pub names: Vec<String>,
    /// It connects from loopback, and sends the contents of this file in the header `X-Signalbox-Proxy-Secret`.
    pub secret: Option<PathBuf>,
}
