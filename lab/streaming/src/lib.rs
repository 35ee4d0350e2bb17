//! Exec and logs between a Kubernetes client and a pod's processes.
//!
//! - [`runtime`]: what a node's runtime offers, and what an API server asks of it: the seam between `lab/apiserver` and
//!   `lab/node`, as the container runtime interface is between an API server and a kubelet.

pub mod runtime;
