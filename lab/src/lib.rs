//! The lab: an embedded cluster, the enforcer and the server in one process; and the command line around it.
//!
//! - `lab`: starts all parts in the right order, and ends them.
//! - `controllers`: Deployments, ReplicaSets, scheduling, EndpointSlices, load balancers.
//! - [`install`] and [`uninstall`]: what Signalbox has in a real cluster.
//! - `join`: a host outside as a vantage point of a cluster.
//! - [`entry`]: what a kubeconfig says of a cluster's server.
//! - [`access`]: the flags that say who may use a server.
//! - [`cli`]: the subcommands of `signalbox`.
//!
//! Without the feature `lab` neither a lab nor `join` is in it, and no crate of the lab's cluster or of the enforcer: the server's image has no use
//! for them.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed"))]

pub mod access;
pub mod cli;
#[cfg(feature = "lab")]
pub mod controllers;
pub mod entry;
pub mod install;
#[cfg(feature = "lab")]
pub mod join;
#[cfg(feature = "lab")]
pub mod lab;
pub mod uninstall;
