//! What the API server holds, as far as the server wants to know it.
//!
//! - [`objects`]: the objects themselves, by kind and name.
//! - [`kind`]: which kinds there are, and where they are kept.
//! - [`watch`]: keeps them up to date.
//! - [`shrink`]: what of an object is kept.
//! - [`external_host`]: the kind for hosts outside the cluster.

pub mod external_host;
pub mod kind;
pub mod objects;
pub mod shrink;
pub mod watch;
