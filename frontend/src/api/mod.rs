//! The server: its event stream, and the calls that change something.

pub mod events;
pub mod rest;
