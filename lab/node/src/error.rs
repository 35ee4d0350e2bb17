//! Why the node cannot start or go on.

use std::io;
use std::path::PathBuf;

/// What stopped the node, and where there is one, the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process lacks root's rights.
    #[error("the lab's pods need root (namespaces, veth, nftables): run it with sudo")]
    NotRoot,
    /// The kernel lacks something.
    #[error("this kernel does not offer {what}: {remedy}")]
    Kernel {
        /// Which facility.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A program is missing.
    #[error("{program} is missing: {remedy}")]
    MissingProgram {
        /// Its name.
        program: &'static str,
        /// How to install it.
        remedy: &'static str,
    },
    /// The probe cannot be used.
    #[error("the probe at {path} cannot be used: {source}; `cargo xtask build` builds it")]
    Probe {
        /// Where it was looked for.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Something went wrong while a process, a file or a namespace was set up.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The kernel refused a change of the network.
    #[error("cannot {action}: {source}")]
    Netlink {
        /// What was tried.
        action: String,
        /// The kernel's answer.
        source: Box<rtnetlink::Error>,
    },
    /// A process inside a namespace reported that it could not do its work.
    #[error("cannot set up {who}: {reason}")]
    Setup {
        /// Which namespace.
        who: String,
        /// What it said.
        reason: String,
    },
    /// nft refused the rules.
    #[error("nft refused the Services' rules: {reason}")]
    Rules {
        /// What it printed.
        reason: String,
    },
    /// No address is free.
    #[error("no free address in {range}")]
    AddressesExhausted {
        /// The pods' range.
        range: ipnet::Ipv4Net,
    },
    /// The Kubernetes API refused a request.
    #[error("the Kubernetes API refused to {action}: {source}")]
    Kube {
        /// What was asked.
        action: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
}

impl Error {
    /// For `map_err` on calls of the operating system.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// For `map_err` on netlink requests.
    pub(crate) fn netlink(action: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let action = action.into();
        move |source| Self::Netlink { action, source: Box::new(source) }
    }

    /// For `map_err` on requests to the API server.
    pub(crate) fn kube(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Kube { action, source: Box::new(source) }
    }
}
