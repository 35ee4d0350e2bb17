//! Work inside a network namespace: threads that enter it, and netlink.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::Error;

/// Where the kernel shows the network namespace of a process.
pub(crate) fn of_process(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

/// Runs `work` on a thread of its own inside the namespace. The thread ends with it: it could not serve anyone else.
pub(crate) async fn inside<T, F>(netns: &Path, work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    let namespace = File::open(netns)?;
    let (reply, answer) = oneshot::channel();
    std::thread::Builder::new().name("node-netns".to_owned()).spawn(move || {
        let done = setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
        // Whoever asked may be gone; the work is then undone with the namespace.
        let _ = reply.send(done.and_then(|()| work()));
    })?;
    answer.await.map_err(|_| io::Error::other("the thread inside the namespace has ended"))?
}

/// Sets files below `/proc/sys/net` of the namespace.
pub(crate) async fn sysctl(netns: &Path, settings: &'static [(&'static str, &'static str)]) -> Result<(), Error> {
    inside(netns, move || {
        for (name, value) in settings {
            let path = format!("/proc/sys/net/{name}");
            match std::fs::write(&path, value) {
                // A kernel without IPv6 needs no telling to leave it alone.
                Err(error) if error.kind() == io::ErrorKind::NotFound && name.starts_with("ipv6/") => {}
                done => done.map_err(|error| io::Error::new(error.kind(), format!("{path} = {value}: {error}")))?,
            }
        }
        Ok(())
    })
    .await
    .map_err(Error::io("set the network's sysctls"))
}

/// A link of the namespace, by its index.
pub(crate) type Index = u32;
/// The loopback's index in every namespace.
pub(crate) const LOOPBACK: Index = 1;

/// One end of a veth pair.
pub(crate) struct End<'a> {
    pub(crate) name: &'a str,
    pub(crate) index: Index,
    pub(crate) mac: [u8; 6],
}

/// Netlink inside one namespace. It keeps the namespace alive: drop it when the namespace is to go.
#[derive(Debug)]
pub(crate) struct Netlink {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    /// Opens a netlink socket inside the namespace.
    pub(crate) async fn open(netns: &Path) -> Result<Self, Error> {
        let runtime = tokio::runtime::Handle::current();
        let (connection, handle, _) = inside(netns, move || {
            let _reactor = runtime.enter();
            rtnetlink::new_connection()
        })
        .await
        .map_err(Error::io("open netlink in a network namespace"))?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// For what this type has no word for.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Makes a veth pair: one end here, up; the other in another namespace, down.
    pub(crate) async fn veth(&self, here: &End<'_>, there: &End<'_>, netns: &Path) -> Result<(), Error> {
        let namespace = File::open(netns).map_err(Error::io("open a network namespace"))?;
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(there.name)
            .index(there.index)
            .address(there.mac.to_vec())
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let message = LinkMessageBuilder::<LinkVeth>::new(here.name, there.name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .index(here.index)
            .address(here.mac.to_vec())
            .up()
            .build();
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(Error::netlink(format!("make the veth pair {}", here.name)))
    }

    /// Makes a bridge, up.
    pub(crate) async fn bridge(&self, name: &str, index: Index) -> Result<(), Error> {
        let message = LinkMessageBuilder::<LinkBridge>::new(name).index(index).up().build();
        self.handle.link().add(message).execute().await.map_err(Error::netlink(format!("make the bridge {name}")))
    }

    /// Makes a link a port of a bridge, and sets it up.
    pub(crate) async fn enslave(&self, index: Index, bridge: Index) -> Result<(), Error> {
        let message = LinkUnspec::new_with_index(index).controller(bridge).up().build();
        self.handle.link().set(message).execute().await.map_err(Error::netlink("attach a link to its bridge"))
    }

    /// Sets a link up.
    pub(crate) async fn up(&self, index: Index) -> Result<(), Error> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.handle.link().set(message).execute().await.map_err(Error::netlink("set a link up"))
    }

    /// Removes a link. One that is gone already is no error: a veth goes with its peer.
    pub(crate) async fn remove(&self, index: Index) -> Result<(), Error> {
        match self.handle.link().del(index).execute().await {
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => Ok(()),
            done => done.map_err(Error::netlink("remove a link")),
        }
    }

    /// Adds an address to a link.
    pub(crate) async fn address(&self, index: Index, address: Ipv4Net) -> Result<(), Error> {
        self.handle
            .address()
            .add(index, address.addr().into(), address.prefix_len())
            .replace()
            .execute()
            .await
            .map_err(Error::netlink(format!("add the address {address}")))
    }

    /// Adds a route without a gateway.
    pub(crate) async fn direct_route(&self, to: Ipv4Net, index: Index, source: Option<Ipv4Addr>) -> Result<(), Error> {
        let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to.network(), to.prefix_len())
            .output_interface(index)
            .scope(RouteScope::Link);
        if let Some(source) = source {
            route = route.pref_source(source);
        }
        self.handle
            .route()
            .add(route.build())
            .replace()
            .execute()
            .await
            .map_err(Error::netlink(format!("add the route to {to}")))
    }

    /// Adds a route by way of a gateway on this link, whether or not an address of the link covers it.
    pub(crate) async fn route_via(&self, to: Ipv4Net, gateway: Ipv4Addr, index: Index) -> Result<(), Error> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to.network(), to.prefix_len())
            .gateway(gateway)
            .output_interface(index)
            .onlink()
            .build();
        self.handle
            .route()
            .add(route)
            .replace()
            .execute()
            .await
            .map_err(Error::netlink(format!("add the route to {to} via {gateway}")))
    }

    /// Fixes a neighbour's hardware address, so that nobody ever has to ask for it.
    pub(crate) async fn neighbour(&self, index: Index, address: Ipv4Addr, mac: [u8; 6]) -> Result<(), Error> {
        self.handle
            .neighbours()
            .add(index, address.into())
            .link_layer_address(&mac)
            .state(NeighbourState::Permanent)
            .replace()
            .execute()
            .await
            .map_err(Error::netlink(format!("fix the neighbour {address}")))
    }
}
