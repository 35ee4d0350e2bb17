//! Debian packages that are missing.

use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};

use crate::step::{command, output, run, step};

/// What must be there: a file that shows it, or a program that may lie anywhere on PATH, and the package that brings it.
pub type Need = (&'static str, &'static str);

/// To compile: crates with C code, and the toolchain for the browser and the kernel.
pub const BUILD: &[Need] =
    &[("/usr/bin/cc", "gcc"), ("/usr/bin/c++", "g++"), ("/usr/lib/x86_64-linux-gnu/libc.a", "libc6-dev")];

/// The toolchain for the browser and the kernel, where rustup has not got these targets.
pub const TOOLCHAIN: &[Need] = &[
    ("/usr/bin/cargo", "cargo-web"),
    ("/usr/bin/rustc", "rustc-web"),
    ("/usr/lib/rustlib/src/rust/library/std/src/lib.rs", "rust-web-src"),
    ("/usr/lib/rustlib/bpfel-unknown-none/lib", "libstd-rust-web-dev-bpf"),
    ("/usr/bin/wasm-ld-22", "lld-22"),
];

/// The linter of that toolchain. Debian's `rust-clippy` is of its older compiler, which cannot read this workspace.
pub const CLIPPY: &[Need] = &[("/usr/bin/cargo-clippy", "rust-web-clippy")];

/// The formatter of that toolchain, likewise.
pub const RUSTFMT: &[Need] = &[("/usr/bin/rustfmt", "rustfmt-web")];

/// To run the lab and to follow the README in it: the service proxy's `nft`, a shell inside the pods, and a client.
pub const RUN: &[Need] =
    &[("/usr/sbin/nft", "nftables"), ("/bin/busybox", "busybox-static"), ("kubectl", "kubernetes-client")];

/// To test: the clients that users have.
pub const TEST: &[Need] = &[
    ("/usr/bin/chromium", "chromium"),
    ("/usr/bin/chromedriver", "chromium-driver"),
    ("/usr/sbin/ip", "iproute2"),
    ("/usr/sbin/bpftool", "bpftool"),
    ("/usr/bin/setpriv", "util-linux"),
    ("/usr/bin/xz", "xz-utils"),
    ("/usr/bin/curl", "curl"),
    ("/usr/bin/python3", "python3"),
];

/// To ask a server as a user does.
pub const CLIENT: &[Need] = &[("/usr/bin/curl", "curl")];

/// For the Kubernetes that the end-to-end tests run on: what it is started from, and what its servers are compiled with.
pub const CLUSTER: &[Need] = &[
    ("/usr/bin/etcd", "etcd-server"),
    ("/usr/bin/containerd", "containerd"),
    ("/usr/sbin/runc", "runc"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("/usr/sbin/iptables", "iptables"),
    ("/usr/sbin/conntrack", "conntrack"),
    ("/usr/bin/socat", "socat"),
    ("/usr/sbin/ethtool", "ethtool"),
    ("/usr/sbin/sysctl", "procps"),
    ("/usr/bin/openssl", "openssl"),
    ("/usr/bin/go", "golang-go"),
    ("/usr/share/gocode/src/github.com/modern-go/reflect2", "golang-github-modern-go-reflect2-dev"),
    ("/usr/bin/dpkg-source", "dpkg-dev"),
];

/// Of apt there is one at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Installs whichever of `needs` are not there.
pub fn ensure(needs: &[Need]) -> Result<()> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let missing: Vec<&str> = needs.iter().filter(|(what, _)| !is_there(what)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if output(command("apt-get").arg("--version")).is_none() {
        bail!("missing: {list}. This machine has no apt-get: install what these Debian packages hold by other means");
    }
    crate::need_root(&format!("the Debian packages {list} must be installed"))?;
    step(&format!("install {list}"), || {
        run(command("apt-get").args(["update", "-q"]))?;
        run(command("apt-get")
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    })
}

fn is_there(what: &str) -> bool {
    // Joined to a folder, an absolute path stays itself.
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(what).exists())
}
