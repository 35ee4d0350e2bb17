//! Pods by the control groups of their processes. The kubelet puts the processes of a pod into a group that bears the pod's UID, and its
//! interface is there before the first of them starts; an address it tells the API server a second or more later.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use uuid::Uuid;

use super::{View, processes, view_of};
use crate::{error::Error, netns::Netns};

/// A namespace that processes of pods are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The UIDs of the pods: several where one pod looks into another's namespace, as agents of the network do.
    pub uids: BTreeSet<Uuid>,
    /// The addresses of its interface, in order.
    pub addresses: Vec<IpAddr>,
}

/// Looks for the pods behind some interfaces of the node. `known`: namespaces that need not be looked at. Only an address that the node
/// itself routes to the interface counts: others a pod may have given itself. What is left to the API to tell: a namespace with several
/// interfaces that lead to the node, or with several such addresses of one family.
///
/// # Errors
///
/// When the node's own namespace cannot be opened or asked.
pub fn find(
    netns: &Netns,
    node: &View,
    interfaces: &BTreeSet<u32>,
    known: &HashSet<u64>,
) -> Result<Vec<Sandbox>, Error> {
    let node_file = netns.file()?;
    let node_inode = node_file.metadata().map(|metadata| metadata.ino()).ok();
    let mut sandboxes: HashMap<u64, (PathBuf, BTreeSet<Uuid>)> = HashMap::new();
    for (process, inode) in processes().filter(|(_, inode)| Some(*inode) != node_inode && !known.contains(inode)) {
        let groups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
        // Others may be there as well, for a moment: whatever made the interface.
        if let Some(uid) = pod_of(&groups) {
            sandboxes.entry(inode).or_insert_with(|| (process, BTreeSet::new())).1.insert(uid);
        }
    }
    let mut found = Vec::new();
    for (inode, (process, uids)) in sandboxes {
        let Some((view, node_id)) = view_of(&process.join("ns/net"), &node_file) else { continue };
        // The process may have ended, and its number be another's by now.
        let is_same = fs::metadata(process.join("ns/net")).is_ok_and(|metadata| metadata.ino() == inode)
            && fs::read_to_string(process.join("cgroup"))
                .is_ok_and(|groups| pod_of(&groups).is_some_and(|uid| uids.contains(&uid)));
        if !is_same {
            continue;
        }
        let ends: Vec<(u32, u32)> = view.ends_at(node, node_id).collect();
        let [(index, interface)] = ends[..] else { continue };
        if !interfaces.contains(&interface) {
            continue;
        }
        let own = view.addresses.iter().filter(|(_, at)| **at == index).map(|(address, _)| *address);
        let own: Vec<IpAddr> = own.filter(is_of_pods).collect();
        let routes = View::routes(netns, &own)?;
        let ways = [Some(interface), node.masters.get(&interface).copied()];
        let mut addresses: Vec<IpAddr> = own
            .into_iter()
            .filter(|address| routes.get(address).is_some_and(|way| ways.contains(&Some(*way))))
            .collect();
        addresses.sort_unstable();
        let is_plain = addresses.windows(2).all(|pair| pair[0].is_ipv4() != pair[1].is_ipv4());
        if is_plain && !addresses.is_empty() {
            found.push(Sandbox { uids, addresses });
        }
    }
    Ok(found)
}

/// The pod whose control groups these are, as `/proc/PID/cgroup` tells them (cgroups(7), Linux): the outermost, where a pod keeps a
/// Kubernetes of its own.
fn pod_of(groups: &str) -> Option<Uuid> {
    let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut parts = paths.flat_map(|path| path.split('/'));
    parts.find_map(|part| {
        // `pod<UID>`, or `kubepods-burstable-pod<UID>.slice`, where underscores stand for the dashes.
        let (_, uid) = part.strip_suffix(".slice").unwrap_or(part).rsplit_once("pod")?;
        Uuid::try_parse(&uid.replace('_', "-")).ok()
    })
}

fn is_of_pods(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_named_by_the_outermost_of_its_groups() {
        const UID: &str = "0f1e2d3c-4b5a-4687-9a0b-1c2d3e4f5a6b";
        let id = "c".repeat(64);
        let slice = "kubepods-burstable-pod0f1e2d3c_4b5a_4687_9a0b_1c2d3e4f5a6b.slice";
        let cases = [
            (format!("0::/kubepods.slice/kubepods-burstable.slice/{slice}/cri-containerd-{id}.scope"), Some(UID)),
            (format!("0::/kubepods/besteffort/pod{UID}/{id}"), Some(UID)),
            // As seen from a control group of one's own.
            (format!("0::/../../pod{UID}/{id}"), Some(UID)),
            (format!("3:cpu:/\n2:memory:/node/kubepods/pod{UID}/{id}\n0::/"), Some(UID)),
            (format!("0::/kubepods/pod{UID}/{id}/kubepods/podffffffff-4b5a-4687-9a0b-1c2d3e4f5a6b/x"), Some(UID)),
            ("0::/system.slice/containerd.service".to_owned(), None),
            (format!("0::/kubepods/podium/{id}"), None),
            (String::new(), None),
        ];
        for (groups, expected) in cases {
            assert_eq!(pod_of(&groups).map(|uid| uid.to_string()).as_deref(), expected, "{groups}");
        }
    }
}
