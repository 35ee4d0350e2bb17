//! The pure core: state in, commands out, without clock or socket.
//!
//! - [`core`]: the state machine that everything runs through.
//! - [`model`]: rows, columns and cells, made from the cluster's objects.
//! - [`parse`]: Kubernetes objects as the model needs them.
//! - [`spec`]: what the policies say of each cell.
//! - [`enforcers`]: who enforces on which node, and what may be concluded from what each says.
//! - [`flights`]: probes in flight, and the kernel's events that belong to them.
//! - [`questions`]: questions to DNS servers that agents wait for, and the kernel's denials of them.
//! - [`rounds`]: when the next round starts, and why.
//! - [`cells`]: the cells and the merging of facts into them.
//! - [`agreement`]: whether a cell's facts agree.
//! - [`verdict`]: what the kernels concerned make of a cell together.
//! - [`controls`]: refused, or nobody listening?
//! - [`unprobed`]: what the kernel says of pods that no probe runs in.

pub mod agreement;
pub mod cells;
pub mod controls;
pub mod core;
pub mod enforcers;
pub mod flights;
pub mod model;
pub mod parse;
pub mod questions;
pub mod rounds;
pub mod spec;
pub mod unprobed;
pub mod verdict;

/// A moment: for deadlines by a clock that only runs forward, for facts by the wall's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the server started.
    pub tick: u64,
    /// Unix milliseconds.
    pub wall_ms: u64,
}
