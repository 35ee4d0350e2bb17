//! The lab's node: what a container runtime, CNI, kubelet, kube-proxy and cluster DNS are together, on one machine.
//!
//! - [`config`]: what a node is given.
//! - [`error`]: why it cannot start or go on, and the remedy.
//! - [`node`]: the node itself: [`create`], [`Node`].
//! - [`reexec`]: what runs inside the namespaces: this program, started anew under another name.
//!
//! Nothing of it lies in the machine's root network namespace, and nothing has a name outside the process: every
//! namespace is held by a process that the kernel kills together with the lab.

pub mod config;
pub mod error;
pub mod node;
pub mod reexec;

pub use config::{Config, ProbeBinary};
pub use error::Error;
pub use node::{Node, create};
pub use reexec::run_if_reexec;
