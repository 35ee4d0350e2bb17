//! What the API server holds, as far as the server wants to know it.
//!
//! - [`objects`]: the objects themselves, by kind and name.
//! - [`watch`]: keeps them up to date.
//! - [`external_host`]: the kind for hosts outside the cluster.

pub mod external_host;
pub mod objects;
pub mod watch;
