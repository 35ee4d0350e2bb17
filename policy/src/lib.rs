//! The engine: what a set of network policies means. Pure: no I/O, no async, no kube client.
//!
//! - [`names`]: the field's words as domain types: protocols, directions, the names of objects and rules.
//! - [`cluster`]: the parsed cluster, and the questions it answers.
//! - [`verdict`]: the answers: what each side says, the rule that decided, the nearest miss.
//! - [`tables`]: the same model compiled for the kernel.

pub mod cluster;
pub mod names;
pub mod tables;
pub mod verdict;

pub use cluster::{Cluster, Party};
pub use names::{Direction, PodRef, PolicyRef, Protocol, RuleRef};
pub use verdict::{Side, Verdict};
