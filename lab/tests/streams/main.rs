//! Server and enforcer, and server and outside host, over a real stream on loopback; the API is the lab's, the kernel is played.

mod inside;
mod join;
mod support;
mod uplink;
