//! The lab: an embedded cluster, the enforcer and the server in one process; and the command line around it.
//!
//! - [`lab`]: starts all parts in the right order, and ends them.
//! - [`controllers`]: Deployments, ReplicaSets, scheduling, EndpointSlices, load balancers.
//! - [`install`] and [`uninstall`]: what Signalbox has in a real cluster.
//! - [`join`]: a host outside as a vantage point of a cluster.
//! - [`access`]: the flags that say who may use a server.
//! - [`cli`]: the subcommands of `signalbox`.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed"))]

pub mod access;
pub mod cli;
pub mod controllers;
pub mod install;
pub mod join;
pub mod lab;
pub mod uninstall;
