//! Finds the host interface of a pod without asking any CNI: from the network namespaces of the node's processes, by the
//! pod's address.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::Path,
};

use futures::TryStreamExt;
use rtnetlink::packet_route::{address::AddressAttribute, link::LinkAttribute};
use tokio::runtime;

use crate::{error::Error, netns::Netns};

/// What a network namespace holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Addresses, and the interface that has them.
    pub addresses: HashMap<IpAddr, u32>,
    /// Interfaces, and for a veth the index of its other end.
    pub peers: HashMap<u32, Option<u32>>,
}

impl View {
    /// Reads the namespace that the thread is in.
    fn read() -> Result<Self, Error> {
        let io_error = |source| Error::Io { what: "cannot open a netlink socket", source };
        let runtime = runtime::Builder::new_current_thread().enable_io().build().map_err(io_error)?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().map_err(io_error)?;
            let connection = tokio::spawn(connection);
            let mut view = Self::default();
            let mut links = handle.link().get().execute();
            while let Some(link) = links.try_next().await? {
                let peer = link.attributes.iter().find_map(|attribute| match attribute {
                    LinkAttribute::Link(index) => Some(*index),
                    _ => None,
                });
                view.peers.insert(link.header.index, peer);
            }
            let mut addresses = handle.address().get().execute();
            while let Some(address) = addresses.try_next().await? {
                let mut found = None;
                for attribute in &address.attributes {
                    match attribute {
                        // On a point-to-point interface `Address` is the other end.
                        AddressAttribute::Local(local) => found = Some(*local),
                        AddressAttribute::Address(address) if found.is_none() => found = Some(*address),
                        _ => {}
                    }
                }
                view.addresses.extend(found.map(|found| (found, address.header.index)));
            }
            connection.abort();
            Ok(view)
        })
    }

    /// Reads another namespace.
    ///
    /// # Errors
    ///
    /// When it cannot be entered, or does not answer.
    pub fn of(netns: &Netns) -> Result<Self, Error> {
        netns.enter(Self::read)?
    }

    /// All addresses.
    pub fn all_addresses(&self) -> BTreeSet<IpAddr> {
        self.addresses.keys().copied().collect()
    }
}

/// A pod's namespace, found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The index of the pod's host interface in the node's namespace.
    pub interface: u32,
    /// Identifies the pod's namespace while it lives.
    pub inode: u64,
}

/// Looks for the namespaces that have these addresses. `known`: namespaces that need not be looked at.
pub fn find(node: &View, wanted: &HashSet<IpAddr>, known: &HashSet<u64>) -> HashMap<IpAddr, Found> {
    let mut found = HashMap::new();
    let mut seen = known.clone();
    // A process may end while it is looked at: every failure below means just that.
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        if !process.file_name().to_string_lossy().starts_with(|first: char| first.is_ascii_digit()) {
            continue;
        }
        let path = process.path().join("ns/net");
        let Ok(inode) = fs::metadata(&path).map(|metadata| metadata.ino()) else {
            continue;
        };
        if !seen.insert(inode) {
            continue;
        }
        let Some(view) = view_of(&path) else {
            continue;
        };
        for (address, index) in view.addresses.iter().filter(|(address, _)| wanted.contains(address)) {
            let Some(Some(interface)) = view.peers.get(index) else {
                continue;
            };
            // The two ends must name each other: the same address may exist on another node's namespaces here.
            if node.peers.get(interface) == Some(&Some(*index)) {
                found.insert(*address, Found { interface: *interface, inode });
            }
        }
        if found.len() == wanted.len() {
            break;
        }
    }
    found
}

fn view_of(path: &Path) -> Option<View> {
    let netns = Netns::open(Some(path)).ok()?;
    match View::of(&netns) {
        Ok(view) => Some(view),
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "a namespace could not be read");
            None
        }
    }
}
