//! Finds the host interface of a pod without asking any CNI: from the network namespaces of the node's processes, by the
//! pod's address. [`sandboxes`]: before the address is told.

pub mod sandboxes;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs::{self, File},
    net::IpAddr,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use futures::{StreamExt, TryStreamExt};
use rtnetlink::{
    Handle, RouteMessageBuilder,
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        address::AddressAttribute,
        link::{LinkAttribute, LinkMessage},
        nsid::{NsidAttribute, NsidMessage},
        route::RouteAttribute,
    },
};
use tokio::runtime;

use crate::{error::Error, netns::Netns};

/// What a network namespace holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Addresses, and the interface that has them.
    pub addresses: HashMap<IpAddr, u32>,
    /// Interfaces, and for a veth its other end.
    pub peers: HashMap<u32, Option<Peer>>,
    /// Interfaces that are ports of a bridge (or of anything else that takes their packets), and which.
    pub masters: HashMap<u32, u32>,
}

/// The other end of a veth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its index there.
    pub index: u32,
    /// The number by which this namespace knows the one that it is in; absent where it is this one.
    pub netns_id: Option<i32>,
}

impl Peer {
    /// What a message about a link says of its other end.
    pub fn of(link: &LinkMessage) -> Option<Self> {
        let (mut index, mut netns_id) = (None, None);
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::Link(peer) => index = Some(*peer),
                LinkAttribute::LinkNetNsId(id) => netns_id = Some(*id),
                _ => {}
            }
        }
        index.map(|index| Self { index, netns_id })
    }
}

/// What a message about a link says of the bridge that it is a port of.
fn master_of(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(master) => Some(*master),
        _ => None,
    })
}

impl View {
    /// Reads the namespace that the thread is in.
    fn read() -> Result<Self, Error> {
        ask(async |handle| {
            let mut view = Self::default();
            let mut links = handle.link().get().execute();
            while let Some(link) = links.try_next().await? {
                view.peers.insert(link.header.index, Peer::of(&link));
                view.masters.extend(master_of(&link).map(|master| (link.header.index, master)));
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

    /// Its interfaces that lead to the node, with the index of the other end there. `node_id`: the number by which it knows the node's
    /// namespace.
    fn ends_at<'v>(&'v self, node: &'v Self, node_id: Option<i32>) -> impl Iterator<Item = (u32, u32)> + 'v {
        self.peers.keys().filter_map(move |index| Some((*index, self.end_at(*index, node, node_id)?)))
    }

    /// The other end of one of its interfaces, if that is in the node's namespace. Another node on this machine may have the same
    /// addresses and the same indices: the other end must lie in this very node's namespace, and must name this end.
    fn end_at(&self, index: u32, node: &Self, node_id: Option<i32>) -> Option<u32> {
        let peer = self.peers.get(&index).copied().flatten()?;
        let back = node.peers.get(&peer.index).copied().flatten()?;
        (node_id.is_some() && peer.netns_id == node_id && back.index == index).then_some(peer.index)
    }

    /// The interfaces by which a namespace sends what goes to these addresses; those that it has a route to.
    fn routes(netns: &Netns, addresses: &[IpAddr]) -> Result<HashMap<IpAddr, u32>, Error> {
        let look = async |handle: Handle| {
            let mut ways = HashMap::new();
            for address in addresses {
                let question = RouteMessageBuilder::<IpAddr>::new();
                let length = if address.is_ipv4() { 32 } else { 128 };
                let Ok(question) = question.destination_prefix(*address, length) else { continue };
                // An error is the kernel's "no route".
                if let Ok(Some(route)) = handle.route().get(question.build()).execute().try_next().await {
                    ways.extend(route.attributes.iter().find_map(|attribute| match attribute {
                        RouteAttribute::Oif(index) => Some((*address, *index)),
                        _ => None,
                    }));
                }
            }
            Ok(ways)
        };
        netns.enter(|| ask(look))?
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

/// Asks the kernel about the namespace that the thread is in.
fn ask<T>(question: impl AsyncFnOnce(Handle) -> Result<T, Error>) -> Result<T, Error> {
    let io_error = |source| Error::Io { what: "cannot open a netlink socket", source };
    let runtime = runtime::Builder::new_current_thread().enable_io().build().map_err(io_error)?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(io_error)?;
        let connection = tokio::spawn(connection);
        let answer = question(handle).await;
        connection.abort();
        answer
    })
}

/// The number by which the namespace that the thread is in knows `other`; `None` where it does not know it.
fn netns_id_of(other: &File) -> Result<Option<i32>, Error> {
    let descriptor = u32::try_from(other.as_raw_fd()).expect("an open file's descriptor is not negative");
    ask(async |handle| ask_netns_id(handle, descriptor).await)
}

async fn ask_netns_id(mut handle: Handle, descriptor: u32) -> Result<Option<i32>, Error> {
    let mut question = NsidMessage::default();
    question.attributes.push(NsidAttribute::Fd(descriptor));
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(question));
    message.header.flags = NLM_F_REQUEST;
    let mut answers = handle.request(message)?;
    while let Some(answer) = answers.next().await {
        let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(answer)) = answer.payload else { continue };
        let id = answer.attributes.iter().find_map(|attribute| match attribute {
            NsidAttribute::Id(id) => Some(*id),
            _ => None,
        });
        // -1 is the kernel's "none assigned".
        return Ok(id.filter(|id| *id >= 0));
    }
    Ok(None)
}

/// Looks for the namespaces that have these addresses. `known`: namespaces that need not be looked at.
///
/// # Errors
///
/// When the node's own namespace cannot be opened.
pub fn find(
    netns: &Netns,
    node: &View,
    wanted: &HashSet<IpAddr>,
    known: &HashSet<u64>,
) -> Result<HashMap<IpAddr, Found>, Error> {
    let node_file = netns.file()?;
    let mut found = HashMap::new();
    let mut seen = known.clone();
    for (process, inode) in processes() {
        if !seen.insert(inode) {
            continue;
        }
        let Some((view, node_id)) = view_of(&process.join("ns/net"), &node_file) else {
            continue;
        };
        for (address, index) in view.addresses.iter().filter(|(address, _)| wanted.contains(address)) {
            if let Some(interface) = view.end_at(*index, node, node_id) {
                found.insert(*address, Found { interface, inode });
            }
        }
        if found.len() == wanted.len() {
            break;
        }
    }
    Ok(found)
}

/// All processes, as directories of `/proc`, with the inodes of their network namespaces. One may end while it is looked at: then it is
/// left out, as every failure with its files means just that.
fn processes() -> impl Iterator<Item = (PathBuf, u64)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_process = |name: &str| name.starts_with(|first: char| first.is_ascii_digit());
    entries.filter(move |entry| is_process(&entry.file_name().to_string_lossy())).filter_map(|entry| {
        let inode = fs::metadata(entry.path().join("ns/net")).ok()?.ino();
        Some((entry.path(), inode))
    })
}

/// What a namespace holds, and the number by which it knows the node's.
fn view_of(path: &Path, node: &File) -> Option<(View, Option<i32>)> {
    let netns = Netns::open(Some(path)).ok()?;
    let look = || Ok((View::read()?, netns_id_of(node)?));
    match netns.enter(look).and_then(|view| view) {
        Ok(view) => Some(view),
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "a namespace could not be read");
            None
        }
    }
}
