//! The types that cross the wire between browser, server, probe and enforcer; nothing else.
//!
//! - [`flow`]: protocols, directions and the names of rules: the words that every other module uses.
//! - [`cell`]: one cell of the matrix and the facts that stand side by side in it.
//! - [`state`]: the whole picture that a browser starts from, and the events that change it.
//! - [`probe`]: the lines that the server and the probe agent in a pod write to each other.
//! - [`kernel`]: what the enforcer reports: verdicts on flows, and its own condition.
//! - [`node`]: what an enforcer answers about its own node.
//! - [`stream`]: the frames between the server and an enforcer, or a host outside.
//! - [`rest`]: answers of the REST API that are nothing but answers.
//! - [`session`]: who uses a server, and what they may do there.
//! - [`error`]: the one shape of an error that the REST API answers with.
//!
//! Times are Unix milliseconds (`_ms`) or microseconds (`_us`), as the field's name says.

pub mod cell;
pub mod error;
pub mod flow;
pub mod kernel;
pub mod node;
pub mod probe;
pub mod rest;
pub mod session;
pub mod state;
pub mod stream;
