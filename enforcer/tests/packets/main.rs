//! Packets of every shape through the programs, by `BPF_PROG_TEST_RUN`: each row of the table from errors to verdicts, at
//! the programs' entry, where a policy has a word and where none has. SEMANTICS.md, points 19, 20 and 22.
//!
//! - [`shape`]: what a packet is by its headers, and what cannot be read.
//! - [`reason`]: each reason, and what becomes of the packet.
//! - [`connection`]: what belongs to a flow.
//! - [`place`]: at whose interface it is.

mod bench;
mod connection;
mod place;
mod reason;
mod shape;
#[path = "../support/shapes.rs"]
mod shapes;
#[path = "../support/mod.rs"]
mod support;
