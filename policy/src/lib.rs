//! The engine: what a set of network policies means. Pure: no I/O, no async, no kube client.
//!
//! - [`names`]: the field's words as domain types: protocols, directions, the names of objects and rules.
//! - [`documents`]: texts, YAML or JSON, become objects, or errors that say where.
//! - [`parse`]: objects become domain types, here and nowhere else; what is not understood is a [`Problem`].
//! - [`label`], [`selector`], [`block`], [`port`], [`peer`]: what rules are made of.
//! - [`namespace`], [`pod`], [`policy`]: the objects.
//! - `model`: all of it with indices; [`cluster`]: the public face of it, and the questions it answers.
//! - [`verdict`]: the answers; `judge` finds them, `nearest` the rule that came closest, `summary` a policy's meaning.
//! - [`manifest`]: policies as YAML.
//! - [`traffic`]: sets of ports; [`reach`]: all that one end may reach at another;
//!   [`analyze`]: all of a cluster; [`diff`]: two states of one; [`alike`]: who may stand for whom.
//! - [`patch`]: what would open a connection; [`suggest`]: policies for what must work; [`simplify`]: the same meaning with
//!   less to read; `choice`: selectors that read well.
//! - [`matrix`]: all pairs of pods at some ports, by classes of pods; and after a change.
//! - [`audit`]: policies that are reported on, and not enforced.
//! - [`lint`]: what a reviewer would say of the policies.
//! - [`tables`]: the same model for the kernel; `compile` makes them with numbers from [`identity`], [`evaluate`] reads
//!   them as the kernel does.

pub mod alike;
pub mod analyze;
pub mod audit;
pub mod block;
mod choice;
pub mod cluster;
mod compile;
pub mod diff;
pub mod documents;
pub mod evaluate;
pub mod identity;
mod judge;
pub mod label;
pub mod lint;
pub mod manifest;
pub mod matrix;
mod model;
pub mod names;
pub mod namespace;
mod nearest;
pub mod parse;
pub mod patch;
pub mod peer;
pub mod pod;
pub mod policy;
pub mod port;
pub mod reach;
pub mod selector;
pub mod simplify;
pub mod suggest;
mod summary;
pub mod tables;
pub mod traffic;
mod turns;
pub mod verdict;

pub use cluster::{Cluster, Connection, Party, Route};
pub use documents::{DocumentError, parse_documents};
pub use identity::IdentityAllocator;
pub use matrix::{Cell, Matrix};
pub use names::{Direction, Family, ObjectRef, PodRef, PolicyRef, Protocol, RuleRef};
pub use parse::problem::{Problem, Reason};
pub use verdict::{Side, Verdict};
