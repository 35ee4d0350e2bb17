// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! What the kernel programs and user space share: the layout of keys, values and events.
//!
//! - [`address`]: an address of either family in 16 bytes.
//! - [`policy`]: tables that user space writes: pods, identities, what policies allow.
//! - [`flow`]: tables that the kernel writes: flows, fragments, counts.
//! - [`verdict`]: why a packet is denied, and the one table that says what each reason does.
//! - [`plain`]: structures as bytes.
//!
//! A generation is one state of all tables. Values that may change carry two versions; the parity of the generation says
//! which one counts, so that one write of one array cell changes all of them at once.
#![no_std]

pub mod address;
pub mod flow;
pub mod plain;
pub mod policy;
pub mod verdict;

pub use address::Address;
pub use plain::Plain;

/// What the layout of keys and values is, as the object carries it: part of the name under which maps are pinned, so that
/// no process reads another layout as its own. Raise `tables` when a key or value of any map changes its meaning, and
/// `flows` as well when `FLOWS` does; sizes and kinds of maps are seen without it. `CONTROL` only grows.
pub const LAYOUT: [u8; 40] = *b"signalbox-layout tables=0002 flows=0001\n";
/// How [`LAYOUT`] begins.
pub const LAYOUT_BEGIN: &[u8] = b"signalbox-layout ";

/// Index in the map `CONTROL` of the generation in force.
pub const CONTROL_GENERATION: u32 = 0;
/// Index in the map `CONTROL` of the coarse clock: seconds in which user space was there to write it.
pub const CONTROL_CLOCK: u32 = 1;
/// Index in the map `CONTROL` of what becomes of pods that are not known yet: [`MODE_STANDARD`] or [`MODE_STRICT`].
pub const CONTROL_MODE: u32 = 2;
/// Index in the map `CONTROL` of the audit: 1 lets everything pass and only reports what would be denied.
pub const CONTROL_AUDIT: u32 = 3;
/// Index in the map `CONTROL` of pods behind bridges: 1 if there are any.
pub const CONTROL_BRIDGED: u32 = 4;
/// Cells of the map `CONTROL`.
pub const CONTROL_CELLS: u32 = 5;

/// In the map `CONTROL`: a new pod is open until its policies are in.
pub const MODE_STANDARD: u32 = 0;
/// In the map `CONTROL`: a new pod is shut until its policies are in.
pub const MODE_STRICT: u32 = 1;

/// Index in the map `STATISTICS` of the events that the ring buffer had no room for.
pub const STATISTIC_LOST_EVENTS: u32 = 0;
/// Index in the map `STATISTICS` of the events left out by the limit per flow.
pub const STATISTIC_SUPPRESSED_EVENTS: u32 = 1;
/// Index in the map `STATISTICS` of flows that found no room in the flow table.
pub const STATISTIC_FLOW_INSERT_FAILED: u32 = 2;
/// Index in the map `STATISTICS` of verdicts that found no room in the map `VERDICTS`.
pub const STATISTIC_UNCOUNTED: u32 = 3;
/// Cells of the map `STATISTICS`.
pub const STATISTIC_CELLS: u32 = 4;

/// Bit in `skb->mark`: a live entry covers this reply; the egress hook lets it pass. See docs/adr/0001.
pub const MARK_REPLY: u32 = 0x0010_0000;
/// Bit in `skb->mark`: no entry, but policy would have allowed the connection that this is a reply of.
pub const MARK_REPLY_OF_UNKNOWN: u32 = 0x0020_0000;

/// Version of a value that counts in a generation.
pub const fn version(generation: u32) -> usize {
    (generation & 1) as usize
}
