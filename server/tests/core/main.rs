//! The core without clock or socket: what goes in, what comes out.

mod agents;
mod cells;
mod enforcers;
mod kernel;
mod questions;
mod rounds;
mod support;
