// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The entry points.

use aya_ebpf::{macros::classifier, programs::TcContext};

use crate::hook::{self, Place};

/// Goes on to the next program on the interface, of whomever it is.
pub const NEXT: i32 = -1;
/// Ends the packet's way.
pub const DROP: i32 = 2;

/// On the ingress of a pod's host interface: packets that come from the pod.
#[classifier]
pub fn from_pod(context: TcContext) -> i32 {
    hook::ingress(&context, Place::Pod)
}

/// On the egress of a pod's host interface: packets for the pod.
#[classifier]
pub fn to_pod(context: TcContext) -> i32 {
    hook::egress(&context, Place::Pod)
}

/// On the ingress of an uplink: packets that come to the node.
#[classifier]
pub fn from_uplink(context: TcContext) -> i32 {
    hook::ingress(&context, Place::Uplink)
}

/// On the egress of an uplink: packets that leave the node.
#[classifier]
pub fn to_uplink(context: TcContext) -> i32 {
    hook::egress(&context, Place::Uplink)
}

/// The kernel lets programs use some helpers only under a licence that it knows.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

/// Which layout of the maps these programs were built with: user space finds it in the object.
#[unsafe(link_section = "layout")]
#[unsafe(no_mangle)]
static LAYOUT: [u8; 40] = signalbox_enforcer_common::LAYOUT;

/// A panic cannot be reached: the verifier would refuse it.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
