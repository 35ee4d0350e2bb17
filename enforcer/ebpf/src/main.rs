// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The kernel programs: four hooks, two on the host interface of each pod and two on each uplink.
//!
//! - [`packet`]: what a packet is: addresses, ports, fragments, ICMP errors.
//! - [`endpoint`]: who is at its ends.
//! - [`judge`]: what the policies say.
//! - [`audit`]: what policies in audit would say.
//! - [`conntrack`]: flows that were judged before; [`quick`]: the short way for most of their packets.
//! - [`lane`]: pods behind a bridge.
//! - [`newcomer`]: pods that are not known yet.
//! - [`report`]: events and counts.
//! - [`hook`]: what the four programs do with all that; see docs/adr/0001.
//! - [`maps`]: the tables.
//! - `bench`: what the benches run beside the hooks; not in the object that is shipped.
#![cfg_attr(
    target_arch = "bpf",
    no_std,
    no_main,
    allow(internal_features),
    feature(core_intrinsics, asm_experimental_arch)
)]

#[cfg(target_arch = "bpf")]
mod audit;
#[cfg(all(target_arch = "bpf", feature = "bench"))]
mod bench;
#[cfg(target_arch = "bpf")]
mod conntrack;
#[cfg(target_arch = "bpf")]
mod endpoint;
#[cfg(target_arch = "bpf")]
mod hook;
#[cfg(target_arch = "bpf")]
mod judge;
#[cfg(target_arch = "bpf")]
mod lane;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod newcomer;
#[cfg(target_arch = "bpf")]
mod packet;
#[cfg(target_arch = "bpf")]
mod programs;
#[cfg(target_arch = "bpf")]
mod quick;
#[cfg(target_arch = "bpf")]
mod report;

/// The kernel programs have no life outside of the kernel; this keeps the crate checkable with the others.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
