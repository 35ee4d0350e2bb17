//! The probe that runs in each pod.
//!
//! - [`cli`]: the command line, and the tools that people call inside a pod.
//! - [`serve`]: listens on the pod's ports and says who it is and whom it saw.
//! - [`agent`]: reads requests and writes results as lines of JSON, as [`signalbox_api::probe`] defines them.
//! - [`attempt`]: one connection, and what it says about the way there.
//! - [`ports`]: source ports, each of which rests after its use.
//! - [`control`]: who listens in this pod, asked over loopback.
//! - [`resolve`]: a resolver of its own. A static binary cannot use the C library's, and only an own one tells
//!   NXDOMAIN, SERVFAIL and silence apart.
//! - [`system`]: what is asked of the kernel besides sockets.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed"))]

pub mod agent;
pub mod attempt;
pub mod cli;
pub mod control;
pub mod ports;
pub mod resolve;
pub mod serve;
pub mod system;

mod journal;
mod questions;
