//! Why a lab does not start or go on, and the remedy.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use signalbox_server::kube_error::sentence;

/// Why a lab does not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not root.
    #[error("the lab needs root (network namespaces, BPF programs): start it with sudo")]
    NotRoot,
    /// The kernel is too old.
    #[error("the lab needs Linux 5.10 or newer, this is {0}: boot a newer kernel")]
    OldKernel(String),
    /// The kernel has no BPF.
    #[error("this kernel offers no {0}: use a kernel built with {1}, as every distribution's is")]
    KernelLacks(&'static str, &'static str),
    /// The binary was built without the probe.
    #[error("this binary holds no probe for the pods: build it with `cargo xtask build`")]
    NoProbe,
    /// Another lab runs on the same state.
    #[error("a lab already runs on {} ({who}): end it with Ctrl-C in its terminal or `kill {who_pid}`, or start this one elsewhere with --state DIR", state.display())]
    Running {
        /// The state directory.
        state: PathBuf,
        /// Who holds it, in words.
        who: String,
        /// Its process id, or `PID` where it is not known.
        who_pid: String,
    },
    /// The state directory cannot be used.
    #[error("cannot {action} {}: {source}; choose another directory with --state", path.display())]
    State {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Others may change the state directory.
    #[error("{} belongs to another user or others may write to it: choose another directory with --state", .0.display())]
    UnsafeState(PathBuf),
    /// The page's address is taken.
    #[error(
        "--listen {address}: {source}; choose another address with --listen 127.0.0.1:PORT (port 0 takes any free one)"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The page's address can be reached from elsewhere.
    #[error(
        "--listen {0}: other machines could reach the page there; choose a loopback address, or add --allow-remote if that is what you want"
    )]
    Remote(SocketAddr),
    /// The kubeconfig is somebody else's.
    #[error("--kubeconfig {}: this file is not from Signalbox and stays as it is; choose another file, or overwrite it with --force", .0.display())]
    ForeignKubeconfig(PathBuf),
    /// The kubeconfig cannot be written.
    #[error("--kubeconfig {}: {source}; choose a file in a folder that is there and can be written to", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The embedded API.
    #[error("the Kubernetes API: {0}")]
    Api(#[from] signalbox_lab_apiserver::Error),
    /// The node.
    #[error("the node: {0}")]
    Node(#[from] signalbox_lab_node::Error),
    /// The node has ended without being asked to.
    #[error("the node has ended unexpectedly")]
    NodeEnded,
    /// The enforcer.
    #[error("the enforcer: {0}; with --no-enforcer the lab runs without one")]
    Enforcer(#[from] signalbox_enforcer::Error),
    /// The server.
    #[error("the server: {0}")]
    Server(#[from] signalbox_server::Error),
    /// The lab's own client cannot be made.
    #[error("the lab's own kubeconfig: {0}")]
    OwnKubeconfig(#[from] kube::config::KubeconfigError),
    /// A request of the lab's own failed.
    #[error("cannot {action}: {}", sentence(answer))]
    Kube {
        /// What was tried.
        action: String,
        /// The API's answer. Not a `source`: printed as one it repeats its whole `Status`.
        answer: Box<kube::Error>,
    },
    /// An embedded manifest is wrong.
    #[error("the lab's own manifest {name}: {reason}")]
    Manifest {
        /// Which.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_the_api_is_told_once_and_in_its_own_words() {
        let status = kube::core::Status::failure("the disk is full", "InternalError").with_code(507);
        let error = Error::Kube {
            action: "create the Service kube-dns".to_owned(),
            answer: Box::new(kube::Error::Api(status.boxed())),
        };
        assert_eq!(error.to_string(), "cannot create the Service kube-dns: the disk is full");
        assert!(std::error::Error::source(&error).is_none());
    }
}
