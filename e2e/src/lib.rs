//! What the end-to-end tests share. They run the built binary as a user would, and need root.
//!
//! - [`lab`]: starts `signalbox lab`, waits for its `ready` line, and ends it whatever happens.
//! - [`shell`]: commands, and HTTP by `curl`, as a user types them.
//! - [`talk`]: a command that goes on while a test reads what it prints and types to it.
//! - [`lesson`]: lesson one's table: what must be open after each step.
//! - [`counters`]: the enforcer's counters, check by check.
//! - [`cells`]: the matrix as the page gets it.
//! - [`processes`]: a lab's processes, found by what they are and where they live.
//! - [`sandbox`]: what the machine holds of one pod: its processes, its network namespace, its link to the node.
//! - [`events`]: the page's event stream.
//! - [`held`]: a connection that is held, and whether it lives.
//! - [`leftovers`]: what a lab could leave on the machine: processes, namespaces, links, pins, mounts.
//! - [`folder`]: the page by itself, served by a web server that knows nothing of it.
//! - [`guide`]: a document whose commands can be run.
//! - [`cluster`]: a real Kubernetes of two nodes, by the scripts in `e2e/cluster`.
//! - [`browser`]: headless Chromium, driven through WebDriver.

pub mod browser;
pub mod cells;
pub mod cluster;
pub mod counters;
pub mod events;
pub mod folder;
pub mod guide;
pub mod held;
pub mod lab;
pub mod leftovers;
pub mod lesson;
pub mod processes;
pub mod sandbox;
pub mod shell;
pub mod talk;
