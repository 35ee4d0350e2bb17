//! The server: watches the cluster, plans and runs probes, keeps the matrix, and serves REST, events and the page.
//!
//! - [`config`]: what it can be told; [`feed`]: what an enforcer in the same process tells it.
//! - [`server`]: the wiring: [`start`] and [`Server`]; [`error`]: what can go wrong before it runs.
//! - [`access`]: who may see and change what.
//! - [`cluster`]: the cluster's objects, watched.
//! - [`matrix`]: the pure core: rows, columns, cells, rounds, and which fact belongs to which.
//! - [`run`]: the task that owns the core; [`agent`]: the agents in the pods.
//! - [`standins`]: probes that are deployed in place of pods that have none.
//! - [`nodes`]: streams from the nodes' enforcers, and from hosts outside.
//! - [`hub`]: the picture as browsers see it; [`http`]: REST, events and the page; [`lesson`]: lesson one.

pub mod access;
pub mod agent;
pub mod cluster;
pub mod config;
pub mod error;
pub mod feed;
pub mod http;
pub mod hub;
pub mod kube_error;
pub mod lesson;
pub mod matrix;
pub mod nodes;
pub mod run;
pub mod server;
mod silence;
pub mod standins;

pub use access::{Access, Kubernetes, Proxy};
pub use config::{Config, ServiceHost, Vantages};
pub use error::Error;
pub use feed::KernelFeed;
pub use http::tls::Tls;
pub use nodes::StreamsConfig;
pub use server::{Handle, Server, Watching, start, watch};
