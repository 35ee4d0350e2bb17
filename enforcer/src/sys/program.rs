//! Programs loaded and run by hand: what aya does not offer, where they shall use maps that exist already.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use aya_obj::generated::bpf_insn;

use super::{address, bpf, fd};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;

/// The part of `union bpf_attr` that loads a program, as far as it is used.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The part of `union bpf_attr` that runs a program on a packet.
#[repr(C)]
#[derive(Default)]
struct RunAttributes {
    program: u32,
    result: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// `struct __sk_buff` in linux/bpf.h, in words.
pub type Context = [u32; 48];

/// Loads a classifier for tc.
pub fn load_classifier(instructions: &[bpf_insn], license: &CStr) -> io::Result<OwnedFd> {
    let mut attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_SCHED_CLS,
        instruction_count: u32::try_from(instructions.len()).expect("a program has fewer than 2^32 instructions"),
        instructions: address(instructions.as_ptr()),
        license: address(license.as_ptr()),
        ..LoadAttributes::default()
    };
    // SAFETY: both pointers are valid for the call: a row of instructions of the given length, and a text that ends with 0.
    let number = unsafe { bpf_with_result(BPF_PROG_LOAD, &mut attributes) }?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Runs a classifier once on a packet, from its Ethernet header on: its result. `context` holds what the program finds there, and
/// then what it left.
pub fn run_classifier(program: BorrowedFd<'_>, packet: &[u8], context: &mut Context) -> io::Result<u32> {
    let given = *context;
    let size = u32::try_from(size_of::<Context>()).expect("it is small");
    let mut attributes = RunAttributes {
        program: fd(program),
        data_size_in: u32::try_from(packet.len()).expect("packets are small"),
        data_in: address(packet.as_ptr()),
        repeat: 1,
        context_size_in: size,
        context_size_out: size,
        context_in: address(given.as_ptr()),
        context_out: address(context.as_mut_ptr()),
        ..RunAttributes::default()
    };
    // SAFETY: packet and `given` are valid for reads of their sizes, `context` for a write of its own.
    unsafe { bpf(BPF_PROG_TEST_RUN, &mut attributes) }?;
    Ok(attributes.result)
}

/// As [`bpf`], for commands that answer with a descriptor.
///
/// # Safety
///
/// As for [`bpf`].
unsafe fn bpf_with_result<A>(command: libc::c_long, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: the caller's; the size is that of the structure.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::try_from(result).expect("a descriptor is an int"))
}

/// The number of a map's descriptor, as instructions name it.
pub fn raw(map: BorrowedFd<'_>) -> i32 {
    map.as_raw_fd()
}
