//! Which interfaces lead out of the node, where nobody has named them: those that carry one of the node's own addresses, those that a
//! default route takes, and tunnels to other nodes. What leaves by any other interface than these and the pods' own is judged nowhere.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures::TryStreamExt;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::{
        address::AddressAttribute,
        link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage},
        route::RouteAttribute,
    },
};
use tokio::runtime;

use crate::{error::Error, netns::Netns};

/// What is known of the node's interfaces.
#[derive(Debug, Default)]
struct Links {
    names: HashMap<u32, String>,
    tunnels: BTreeSet<u32>,
    addresses: Vec<(IpAddr, u32)>,
    /// Interfaces that default routes take.
    defaults: BTreeSet<u32>,
}

/// The interfaces that lead out of the node that has these addresses, by name.
///
/// # Errors
///
/// When the namespace cannot be entered or does not answer, or when nothing leads out: then they have to be named.
pub fn find(netns: &Netns, own: &[IpAddr]) -> Result<BTreeSet<String>, Error> {
    let links = netns.enter(read)??;
    let found = choose(&links, own);
    if found.is_empty() { Err(Error::NoUplink) } else { Ok(found) }
}

fn choose(links: &Links, own: &[IpAddr]) -> BTreeSet<String> {
    let by_address = links.addresses.iter().filter(|(address, _)| own.contains(address)).map(|(_, index)| index);
    let all = by_address.chain(&links.defaults).chain(&links.tunnels);
    all.filter_map(|index| links.names.get(index).cloned()).collect()
}

fn read() -> Result<Links, Error> {
    let io_error = |source| Error::Io { what: "cannot open a netlink socket", source };
    let runtime = runtime::Builder::new_current_thread().enable_io().build().map_err(io_error)?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(io_error)?;
        let connection = tokio::spawn(connection);
        let mut found = Links::default();
        let mut links = handle.link().get().execute();
        while let Some(link) = links.try_next().await? {
            let name = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
            found.names.extend(name.map(|name| (link.header.index, name)));
            if is_tunnel(&link) {
                found.tunnels.insert(link.header.index);
            }
        }
        let mut addresses = handle.address().get().execute();
        while let Some(message) = addresses.try_next().await? {
            let own = |attribute: &AddressAttribute| match attribute {
                AddressAttribute::Local(address) | AddressAttribute::Address(address) => Some(*address),
                _ => None,
            };
            found.addresses.extend(message.attributes.iter().filter_map(own).map(|it| (it, message.header.index)));
        }
        for family in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()] {
            let mut routes = handle.route().get(family).execute();
            while let Some(route) = routes.try_next().await? {
                if route.header.destination_prefix_length == 0 {
                    found.defaults.extend(route.attributes.iter().filter_map(|attribute| match attribute {
                        RouteAttribute::Oif(index) => Some(*index),
                        _ => None,
                    }));
                }
            }
        }
        connection.abort();
        // The loopback interface has index 1 in every namespace; IPv6 keeps an unreachable default route there.
        found.defaults.remove(&1);
        Ok(found)
    })
}

/// Whether an interface wraps what goes through it and sends it to other nodes. Ones that came with the kernel's module and have no other end
/// (`tunl0`, `sit0`) count, too: nothing passes them.
fn is_tunnel(link: &LinkMessage) -> bool {
    let kinds = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    kinds.flatten().any(|info| {
        matches!(
            info,
            LinkInfo::Kind(
                InfoKind::Vxlan
                    | InfoKind::Geneve
                    | InfoKind::Wireguard
                    | InfoKind::IpIp
                    | InfoKind::Ip6Tnl
                    | InfoKind::SitTun
                    | InfoKind::GreTun
                    | InfoKind::GreTap
                    | InfoKind::GreTun6
                    | InfoKind::GreTap6
            )
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

    use super::*;

    fn links() -> Links {
        let names = [(1, "lo"), (2, "eth0"), (3, "eth1"), (4, "veth1"), (5, "flannel.1"), (6, "cni0")];
        let address = |text: &str, index| (text.parse().unwrap(), index);
        Links {
            names: names.into_iter().map(|(index, name)| (index, name.to_owned())).collect(),
            tunnels: [5].into(),
            addresses: vec![
                address("127.0.0.1", 1),
                address("192.0.2.7", 2),
                address("198.51.100.7", 3),
                address("10.244.1.1", 4),
                address("10.244.1.1", 6),
            ],
            defaults: [3].into(),
        }
    }

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn by_the_nodes_address_by_default_routes_and_by_kind() {
        let own = ["192.0.2.7".parse().unwrap()];
        assert_eq!(choose(&links(), &own), names(&["eth0", "eth1", "flannel.1"]));
        assert_eq!(choose(&links(), &[]), names(&["eth1", "flannel.1"]), "pods' interfaces are none");
        assert_eq!(choose(&Links::default(), &own), BTreeSet::new());
    }
}
