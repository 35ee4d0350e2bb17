//! The parse boundary: Kubernetes objects become domain types here, and nowhere else.
//!
//! - [`node`]: a JSON value that knows its path.
//! - [`problem`]: what was not understood, and where.
//! - [`object`]: which kind an object is, and its metadata.
//! - [`policy`], [`selector`], [`port`], [`block`]: NetworkPolicy and its parts.
//! - [`cluster_policy`]: ClusterNetworkPolicy and its ancestors; [`calico`]: Calico's policies.
//! - [`pod`], [`workload`], [`namespace`], [`host`]: what policies select.

pub(crate) mod block;
pub(crate) mod calico;
pub(crate) mod cluster_policy;
pub(crate) mod host;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod object;
pub(crate) mod pod;
pub(crate) mod policy;
pub(crate) mod port;
pub mod problem;
pub(crate) mod selector;
pub(crate) mod workload;
