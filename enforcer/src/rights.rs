//! What the agent needs of the kernel, and how it gives up the rest.
//!
//! Before anything else it looks whether kernel and rights suffice ([`check`]), and drops every capability that it does not need
//! ([`keep_only_what_is_needed`]): that has to come before there are other threads, since capabilities are a thread's own. When
//! it enforces, it forbids itself all calls of the kernel that it has no use for ([`confine`]).

use std::collections::BTreeMap;

use aya::util::KernelVersion;
use caps::{CapSet, Capability, CapsHashSet};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::config::AttachPreference;

/// A capability, and what it is for.
type Need = (Capability, &'static str);

/// What the agent cannot work without. CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON, too.
const NEEDED: [Need; 5] = [
    (Capability::CAP_BPF, "load programs and maps"),
    (Capability::CAP_PERFMON, "load programs that read packets in place"),
    (Capability::CAP_NET_ADMIN, "attach programs to interfaces"),
    (Capability::CAP_SYS_ADMIN, "enter the network namespaces of pods"),
    (Capability::CAP_SYS_PTRACE, "find the network namespaces of other users' processes"),
];

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel is too old.
    #[error("this kernel is Linux {has}; {feature} needs Linux {needs} or newer: use a newer kernel{remedy}")]
    Kernel {
        /// What it lacks.
        feature: &'static str,
        /// Which version has it.
        needs: &'static str,
        /// The version that runs.
        has: String,
        /// What else helps.
        remedy: &'static str,
    },
    /// Capabilities are missing.
    #[error("rights are missing: {}: run it as root, or add them to `securityContext.capabilities.add`", .missing.join(", "))]
    Missing {
        /// Names, and what each is for.
        missing: Vec<String>,
    },
    /// The kernel refuses to say or to change capabilities.
    #[error("cannot {what} capabilities: {source}")]
    Capabilities {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: caps::errors::CapsError,
    },
    /// The kernel refuses the filter of calls.
    #[error(
        "cannot forbid calls of the kernel that are not needed (seccomp): {0}: the kernel must be built with CONFIG_SECCOMP_FILTER"
    )]
    Confine(String),
}

/// Whether kernel and rights suffice.
///
/// # Errors
///
/// When they do not; the error names the feature and the version that has it, or the capabilities.
pub fn check(attach: AttachPreference) -> Result<(), Error> {
    match KernelVersion::current() {
        Ok(version) => check_kernel(version, attach)?,
        Err(error) => {
            tracing::warn!(%error, "the kernel's version cannot be read: its programs tell whether it suffices")
        }
    }
    let has = read(CapSet::Permitted)?;
    let missing = missing(&has);
    if missing.is_empty() { Ok(()) } else { Err(Error::Missing { missing }) }
}

fn check_kernel(version: KernelVersion, attach: AttachPreference) -> Result<(), Error> {
    let too_old = |feature, needs, remedy| Err(Error::Kernel { feature, needs, has: format!("{version:?}"), remedy });
    if version < KernelVersion::new(5, 10, 0) {
        return too_old("enforcement (ring buffers, batches, and loops that the verifier accepts)", "5.10", "");
    }
    if attach == AttachPreference::Tcx && version < KernelVersion::new(6, 6, 0) {
        return too_old("--attach tcx", "6.6", ", or leave --attach out, which takes clsact here");
    }
    Ok(())
}

/// The needed capabilities that are not there, in words.
fn missing(has: &CapsHashSet) -> Vec<String> {
    let stands_for = |need: Capability| {
        matches!(need, Capability::CAP_BPF | Capability::CAP_PERFMON) && has.contains(&Capability::CAP_SYS_ADMIN)
    };
    let lacking = NEEDED.iter().filter(|(need, _)| !has.contains(need) && !stands_for(*need));
    lacking.map(|(need, purpose)| format!("{need} (to {purpose})")).collect()
}

/// Drops every other capability from all sets of this thread, and whatever execve(2) could give back. Call it while there are no
/// other threads: those that come later inherit what is left.
///
/// # Errors
///
/// When the kernel refuses.
pub fn keep_only_what_is_needed() -> Result<(), Error> {
    let error = |source| Error::Capabilities { what: "drop", source };
    let needed: CapsHashSet = NEEDED.iter().map(|(need, _)| *need).collect();
    let held = read(CapSet::Permitted)?;
    let kept: CapsHashSet = held.intersection(&needed).copied().collect();
    // What may be had again by execve(2); only who has CAP_SETPCAP may drop it, and nobody else could use it: see below.
    if held.contains(&Capability::CAP_SETPCAP) {
        for capability in read(CapSet::Bounding)?.difference(&needed) {
            caps::drop(None, CapSet::Bounding, *capability).map_err(error)?;
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(error)?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).map_err(error)?;
    caps::set(None, CapSet::Effective, &kept).map_err(error)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(error)?;
    nix::sys::prctl::set_no_new_privs().map_err(|errno| Error::Confine(errno.to_string()))
}

fn read(set: CapSet) -> Result<CapsHashSet, Error> {
    caps::read(None, set).map_err(|source| Error::Capabilities { what: "read", source })
}

/// Forbids this process, in all its threads, every call of the kernel that is not on the list: it fails with EPERM. There is no way back.
///
/// # Errors
///
/// When the kernel refuses.
pub fn confine() -> Result<(), Error> {
    let Some(arch) = architecture() else {
        tracing::warn!("no list of calls is known for this processor: none is forbidden");
        return Ok(());
    };
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> = CALLS.iter().map(|call| (*call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let program = SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)
        .and_then(BpfProgram::try_from)
        .map_err(|error| Error::Confine(error.to_string()))?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| Error::Confine(error.to_string()))
}

const fn architecture() -> Option<TargetArch> {
    if cfg!(target_arch = "x86_64") { Some(TargetArch::x86_64) } else { None }
}

/// The calls that the agent has a use for: files, sockets, threads, time, bpf(2) and setns(2). Not among them: to run programs, to
/// mount, to trace, to load modules, to change users, to make namespaces.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const CALLS: &[i64] = &[
    // Files.
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64, libc::SYS_pwrite64,
    libc::SYS_open, libc::SYS_openat, libc::SYS_openat2, libc::SYS_close, libc::SYS_close_range, libc::SYS_lseek,
    libc::SYS_stat, libc::SYS_fstat, libc::SYS_lstat, libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs,
    libc::SYS_access, libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_readlink, libc::SYS_readlinkat,
    libc::SYS_getdents64, libc::SYS_getcwd, libc::SYS_umask, libc::SYS_mkdir, libc::SYS_mkdirat, libc::SYS_rmdir,
    libc::SYS_unlink, libc::SYS_unlinkat, libc::SYS_rename, libc::SYS_renameat, libc::SYS_renameat2, libc::SYS_chmod,
    libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_ftruncate, libc::SYS_flock,
    libc::SYS_dup, libc::SYS_dup2, libc::SYS_dup3, libc::SYS_fcntl, libc::SYS_ioctl, libc::SYS_pipe, libc::SYS_pipe2,
    // Waiting.
    libc::SYS_poll, libc::SYS_ppoll, libc::SYS_select, libc::SYS_pselect6, libc::SYS_epoll_create1, libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_eventfd2, libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime, libc::SYS_timerfd_gettime, libc::SYS_restart_syscall,
    libc::SYS_inotify_init1, libc::SYS_inotify_add_watch, libc::SYS_inotify_rm_watch,
    // Sockets.
    libc::SYS_socket, libc::SYS_socketpair, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept,
    libc::SYS_accept4, libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_setsockopt, libc::SYS_getsockopt,
    libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_sendmmsg, libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    // Memory.
    libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_madvise, libc::SYS_brk,
    // Threads and signals.
    libc::SYS_clone, libc::SYS_clone3, libc::SYS_set_robust_list, libc::SYS_rseq, libc::SYS_futex, libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity, libc::SYS_gettid, libc::SYS_getpid, libc::SYS_getppid, libc::SYS_tgkill, libc::SYS_exit,
    libc::SYS_exit_group, libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_sigaltstack,
    libc::SYS_prctl, libc::SYS_membarrier,
    // Who and where it is.
    libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid, libc::SYS_capget, libc::SYS_uname,
    libc::SYS_sysinfo, libc::SYS_prlimit64, libc::SYS_getrusage,
    // Time and chance.
    libc::SYS_nanosleep, libc::SYS_clock_nanosleep, libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_gettimeofday,
    libc::SYS_time, libc::SYS_getrandom,
    // What it is there for.
    libc::SYS_bpf, libc::SYS_setns,
];
#[cfg(not(target_arch = "x86_64"))]
const CALLS: &[i64] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_told_which_version_has_what() {
        let check = |major, minor, attach| {
            check_kernel(KernelVersion::new(major, minor, 0), attach).map_err(|error| error.to_string())
        };
        assert!(check(6, 6, AttachPreference::Tcx).is_ok() && check(5, 10, AttachPreference::Auto).is_ok());
        let old = check(5, 4, AttachPreference::Auto).expect_err("too old");
        assert!(old.contains("5.10") && old.contains("ring buffers"), "{old}");
        let tcx = check(6, 5, AttachPreference::Tcx).expect_err("too old");
        assert!(tcx.contains("--attach tcx needs Linux 6.6") && tcx.contains("clsact"), "{tcx}");
    }

    #[test]
    fn missing_capabilities_are_named() {
        let all: CapsHashSet = NEEDED.iter().map(|(need, _)| *need).collect();
        assert_eq!(missing(&all), [] as [String; 0]);
        let mut few = all.clone();
        few.remove(&Capability::CAP_NET_ADMIN);
        few.remove(&Capability::CAP_BPF);
        assert_eq!(missing(&few), ["CAP_NET_ADMIN (to attach programs to interfaces)"], "CAP_SYS_ADMIN holds CAP_BPF");
        assert_eq!(missing(&CapsHashSet::new()).len(), NEEDED.len());
    }
}
