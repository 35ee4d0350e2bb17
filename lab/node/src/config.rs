//! What a node is given.

use std::net::Ipv4Addr;
use std::path::PathBuf;

/// What a node is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name in the cluster: `lab`.
    pub node: String,
    /// A directory of the lab's own. The node keeps nothing there that must outlive it.
    pub state_dir: PathBuf,
    /// The program that serves in every pod.
    pub probe: ProbeBinary,
    /// The cluster's domain, without dots around it.
    pub cluster_domain: String,
    /// The address of the Service `kube-dns`: what pods find in `/etc/resolv.conf`.
    pub dns_address: Ipv4Addr,
}

/// Where the probe comes from. It must be linked statically: a pod's root holds no libraries.
#[derive(Clone, Debug)]
pub enum ProbeBinary {
    /// A file.
    Path(PathBuf),
    /// The file's bytes, embedded in the running program.
    Bytes(&'static [u8]),
}

impl Config {
    /// The lab's usual node, named `lab`.
    pub fn new(state_dir: PathBuf, probe: ProbeBinary) -> Self {
        Self {
            node: "lab".to_owned(),
            state_dir,
            probe,
            cluster_domain: "cluster.local".to_owned(),
            dns_address: Ipv4Addr::new(10, 96, 0, 10),
        }
    }
}
