//! The server: watches the cluster, plans and runs probes, keeps the matrix, and serves REST, events and the page.
//!
//! - [`config`]: what it can be told.
//! - [`feed`]: what an enforcer in the same process tells it.
//! - [`server`]: the wiring: [`start`] and [`Server`].
//! - [`error`]: what can go wrong before it runs.

pub mod config;
pub mod error;
pub mod feed;
pub mod server;

pub use config::Config;
pub use error::Error;
pub use feed::KernelFeed;
pub use server::{Server, start};
