//! The lab's node: what a container runtime, CNI, kubelet, kube-proxy and cluster DNS are together, on one machine.
//!
//! What others use:
//! - [`config`]: what a node is given
//! - [`error`]: why it cannot start or go on, and the remedy
//! - [`node`]: the node itself: [`create`], [`Node`]
//! - [`serve_dns_here`]: the lab's DNS for a real cluster that has none, such as the one of the tests
//! - [`reexec`]: what runs inside the namespaces: this program, started anew under another name
//!
//! The container runtime:
//! - `spawner`, `channel`, `sandbox`: start a pod's processes, and talk to them
//! - `instance`, `exec`, `logs`: what runs in a pod, and its streams
//! - `addresses`, `netns`, `network`: who has which address, and how they are linked
//!
//! The node's agents:
//! - `kubelet`: runs the pods that are bound here
//! - `outside`: runs the hosts outside the cluster
//! - `directory`: what is known of Services, for the next two
//! - `proxy`: translates Services' addresses
//! - `dns`: answers names
//!
//! Nothing of it lies in the machine's root network namespace, and nothing has a name outside the process: every
//! namespace is held by a process that the kernel kills together with the lab.

mod addresses;
mod channel;
pub mod config;
mod directory;
mod dns;
pub mod error;
mod exec;
mod instance;
mod kubelet;
mod logs;
mod netns;
mod network;
pub mod node;
mod outside;
mod proxy;
pub mod reexec;
mod sandbox;
mod spawner;
#[doc(hidden)]
pub mod testing;

pub use config::{Config, ProbeBinary};
pub use dns::serve_here as serve_dns_here;
pub use error::Error;
pub use node::{Node, create};
pub use reexec::run_if_reexec;
