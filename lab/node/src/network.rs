//! The lab's network: the node, the pods' links to it, and the two networks outside.
//!
//! ```text
//!  pod ── eth0 ═ podN ── node ── company  ═ node ── bridge ── database, users
//!  169.254.1.1 is the pod's    └─ internet ═ node ── bridge ── internet hosts
//!  gateway, on no link at all
//! ```
//!
//! Each box is a network namespace that a process holds. None of them has a link to the machine's own, and the node
//! has no default route, so there is no way out.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use ipnet::Ipv4Net;

use crate::channel::{Report, Request};
use crate::error::Error;
use crate::netns::{self, End, Index, LOOPBACK, Netlink};
use crate::reexec::Role;
use crate::sandbox::Helper;
use crate::spawner::Spawner;

/// The pods' range.
pub(crate) const PODS: Ipv4Net = net([10, 244, 0, 0], 16);
/// The Services' range.
pub(crate) const SERVICES: Ipv4Net = net([10, 96, 0, 0], 16);
/// The node's address on the company network, and its `InternalIP`.
pub(crate) const NODE_COMPANY: Ipv4Net = net([198, 51, 100, 10], 24);
/// The node's address towards the internet.
pub(crate) const NODE_INTERNET: Ipv4Net = net([203, 0, 113, 1], 24);
/// Load balancers' addresses are handed out from here: 200 to 250 of it.
const LOAD_BALANCERS: Ipv4Net = net([198, 51, 100, 192], 26);
/// What a pod takes for its gateway. No link carries this address: the pod's neighbour table names the node's end.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The hardware address of the node's end of every pod's link.
const NODE_MAC: [u8; 6] = [0xee; 6];

/// The node's uplinks, by name.
pub(crate) const UPLINKS: [&str; 2] = ["company", "internet"];
const COMPANY: Index = 10;
const INTERNET: Index = 11;
const BRIDGE: Index = 10;
const TO_NODE: Index = 11;
/// Links of pods and hosts count from here.
const FIRST: Index = 100;
/// `eth0` of a pod or host.
const ETH0: Index = 2;

const QUIET_V6: [(&str, &str); 2] = [("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")];
/// Every ICMP error is told: by default a host tells one peer of one a second, and to a probe the rest look like drops.
const ALL_ICMP: (&str, &str) = ("ipv4/icmp_ratemask", "0");
const NODE_SYSCTLS: &[(&str, &str)] = &[
    QUIET_V6[0],
    QUIET_V6[1],
    ALL_ICMP,
    ("ipv4/ip_forward", "1"),
    // Strict: an answer to the packet's source must leave by the link that it came in by.
    ("ipv4/conf/all/rp_filter", "1"),
    ("ipv4/conf/default/rp_filter", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
];
const OUTSIDE_SYSCTLS: &[(&str, &str)] = &[QUIET_V6[0], QUIET_V6[1]];
const POD_SYSCTLS: &[(&str, &str)] = &[
    QUIET_V6[0],
    QUIET_V6[1],
    ALL_ICMP,
    // Low ports without a capability.
    ("ipv4/ip_unprivileged_port_start", "0"),
    // `ping` without a raw socket. The ids are the machine's: pods' lie far up.
    ("ipv4/ping_group_range", "0 2147483647"),
];

const fn net(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]), prefix)
}

fn host_route(address: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::new_assert(address, 32)
}

/// Locally administered, distinct per address.
fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// One of the two networks outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The company's network, 198.51.100.0/24.
    Company,
    /// Everything else.
    Internet,
}

#[derive(Debug)]
struct Outside {
    netlink: Netlink,
    holder: Helper,
}

/// The lab's network.
#[derive(Debug)]
pub(crate) struct Network {
    node: Helper,
    netlink: Netlink,
    company: Outside,
    internet: Outside,
    next: AtomicU32,
}

/// The node's end of a pod's or host's link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attached {
    index: Index,
    side: Option<Side>,
}

impl Network {
    /// Makes the node's namespace and the two outside. Returns the programs that pods find in `/bin`, too.
    pub(crate) async fn create(spawner: &Spawner, programs: &[File]) -> Result<(Self, Vec<String>), Error> {
        let ((node, programs), company, internet) = tokio::try_join!(
            node_holder(spawner, programs),
            Outside::create(spawner, "the company network"),
            Outside::create(spawner, "the internet"),
        )?;
        let netns = node.netns();
        netns::sysctl(&netns, NODE_SYSCTLS).await?;
        let netlink = Netlink::open(&netns).await?;
        netlink.up(LOOPBACK).await?;
        for (outside, name, index, address) in
            [(&company, UPLINKS[0], COMPANY, NODE_COMPANY), (&internet, UPLINKS[1], INTERNET, NODE_INTERNET)]
        {
            let here = End { name, index, mac: mac_of(address.addr()) };
            let [a, b, c, _] = address.addr().octets();
            let there = End { name: "node", index: TO_NODE, mac: mac_of(Ipv4Addr::new(a, b, c, 0)) };
            netlink.veth(&here, &there, &outside.holder.netns()).await?;
            outside.netlink.enslave(TO_NODE, BRIDGE).await?;
            netlink.address(index, address).await?;
        }
        Ok((Self { node, netlink, company, internet, next: AtomicU32::new(FIRST) }, programs))
    }

    /// Where the node's network namespace is.
    pub(crate) fn netns(&self) -> PathBuf {
        self.node.netns()
    }

    /// The process whose mount namespace holds the tree that pods share.
    pub(crate) fn holder(&self) -> i32 {
        self.node.pid()
    }

    fn outside(&self, side: Side) -> &Outside {
        match side {
            Side::Company => &self.company,
            Side::Internet => &self.internet,
        }
    }

    /// Links a pod to the node.
    pub(crate) async fn attach_pod(&self, netns: &Path, address: Ipv4Addr) -> Result<Attached, Error> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("pod{index}");
        let mac = mac_of(address);
        netns::sysctl(netns, POD_SYSCTLS).await?;
        let here = End { name: &name, index, mac: NODE_MAC };
        self.netlink.veth(&here, &End { name: "eth0", index: ETH0, mac }, netns).await?;
        let attached = Attached { index, side: None };
        let done = async {
            self.netlink.neighbour(index, address, mac).await?;
            let pod = Netlink::open(netns).await?;
            pod.up(LOOPBACK).await?;
            pod.address(ETH0, host_route(address)).await?;
            pod.up(ETH0).await?;
            pod.neighbour(ETH0, GATEWAY, NODE_MAC).await?;
            pod.direct_route(host_route(GATEWAY), ETH0, None).await?;
            pod.route_via(net([0, 0, 0, 0], 0), GATEWAY, ETH0).await?;
            self.netlink.direct_route(host_route(address), index, Some(NODE_COMPANY.addr())).await
        };
        match done.await {
            Ok(()) => Ok(attached),
            Err(error) => {
                // The first error says more than what follows from it.
                let _ = self.detach(attached).await;
                Err(error)
            }
        }
    }

    /// Links a host outside to its network.
    pub(crate) async fn attach_host(
        &self,
        netns: &Path,
        side: Side,
        addresses: &[Ipv4Addr],
    ) -> Result<Attached, Error> {
        let outside = self.outside(side);
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("host{index}");
        let first = addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
        let mac = mac_of(first);
        let [_, rest @ ..] = mac;
        let [a, b, c, d, e] = rest;
        netns::sysctl(netns, POD_SYSCTLS).await?;
        let here = End { name: &name, index, mac: [0x0e, a, b, c, d, e] };
        outside.netlink.veth(&here, &End { name: "eth0", index: ETH0, mac }, netns).await?;
        let attached = Attached { index, side: Some(side) };
        let done = async {
            outside.netlink.enslave(index, BRIDGE).await?;
            let host = Netlink::open(netns).await?;
            host.up(LOOPBACK).await?;
            let gateway = match side {
                Side::Company => NODE_COMPANY,
                Side::Internet => NODE_INTERNET,
            };
            for &address in addresses {
                let inside = gateway.contains(&address);
                let prefix = if inside { gateway.prefix_len() } else { 32 };
                host.address(ETH0, Ipv4Net::new_assert(address, prefix)).await?;
                if !inside {
                    self.netlink.direct_route(host_route(address), INTERNET, None).await?;
                }
            }
            host.up(ETH0).await?;
            for range in [PODS, SERVICES] {
                host.route_via(range, gateway.addr(), ETH0).await?;
            }
            if side == Side::Internet {
                host.route_via(LOAD_BALANCERS, gateway.addr(), ETH0).await?;
            }
            Ok(())
        };
        match done.await {
            Ok(()) => Ok(attached),
            Err(error) => {
                // The first error says more than what follows from it.
                let _ = self.detach(attached).await;
                Err(error)
            }
        }
    }

    /// Removes a link, and with it every route over it.
    pub(crate) async fn detach(&self, attached: Attached) -> Result<(), Error> {
        match attached.side {
            None => self.netlink.remove(attached.index).await,
            Some(side) => self.outside(side).netlink.remove(attached.index).await,
        }
    }

    /// Answers for a load balancer's address on the company network.
    pub(crate) async fn announce(&self, address: Ipv4Addr) -> Result<(), Error> {
        self.netlink.address(COMPANY, host_route(address)).await
    }

    /// No longer answers for it.
    pub(crate) async fn withdraw(&self, address: Ipv4Addr) -> Result<(), Error> {
        use futures::TryStreamExt;
        let handle = self.netlink.handle();
        let mut addresses =
            handle.address().get().set_link_index_filter(COMPANY).set_address_filter(address.into()).execute();
        let action = format!("withdraw the address {address}");
        while let Some(message) = addresses.try_next().await.map_err(Error::netlink(&action))? {
            handle.address().del(message).execute().await.map_err(Error::netlink(&action))?;
        }
        Ok(())
    }

    /// Ends the processes that hold the namespaces; the kernel removes the rest.
    pub(crate) async fn destroy(&self) {
        tokio::join!(self.node.end(), self.company.holder.end(), self.internet.holder.end());
    }
}

impl Outside {
    async fn create(spawner: &Spawner, who: &str) -> Result<Self, Error> {
        let holder = Helper::start(spawner, &Role::Holder).await?;
        ready(&holder, who).await?;
        let netns = holder.netns();
        netns::sysctl(&netns, OUTSIDE_SYSCTLS).await?;
        let netlink = Netlink::open(&netns).await?;
        netlink.up(LOOPBACK).await?;
        netlink.bridge("br0", BRIDGE).await?;
        Ok(Self { netlink, holder })
    }
}

async fn node_holder(spawner: &Spawner, programs: &[File]) -> Result<(Helper, Vec<String>), Error> {
    let who = "the node";
    let holder = Helper::start(spawner, &Role::NodeHolder).await?;
    let programs: Vec<BorrowedFd<'_>> = programs.iter().map(AsFd::as_fd).collect();
    holder.send(&Request::Template, &programs).await.map_err(Error::io("talk to the node's process"))?;
    let programs = ready(&holder, who).await?;
    Ok((holder, programs))
}

async fn ready(holder: &Helper, who: &str) -> Result<Vec<String>, Error> {
    match holder.expect(who).await? {
        Report::Ready { programs } => Ok(programs),
        other => Err(Error::Setup { who: who.to_owned(), reason: format!("unexpected report {other:?}") }),
    }
}
