//! Datagrams, each answered from the address that it came to: a client whose socket is connected takes no other.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::{Port, Shared};

/// Answers datagrams for ever.
pub async fn answer(socket: UdpSocket, port: Port, shared: Arc<Shared>) {
    loop {
        match socket.async_io(Interest::READABLE, || receive(&socket)).await {
            Ok((peer, to)) => {
                let line = shared.greeting(peer);
                let sent = socket.async_io(Interest::WRITABLE, || send(&socket, &line, peer, &to)).await;
                shared.log(|| match sent {
                    Ok(()) => format!("{port} <- {peer}"),
                    Err(error) => format!("{port} <- {peer}: cannot answer: {error}"),
                });
            }
            Err(error) => {
                shared.log(|| format!("{port}: cannot receive: {error}"));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Which of the pod's addresses a datagram came to.
enum To {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
    Unknown,
}

fn receive(socket: &UdpSocket) -> io::Result<(SocketAddr, To)> {
    // What it says does not matter; what does not fit is cut off.
    let mut payload = [0; 64];
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let mut slices = [IoSliceMut::new(&mut payload)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let mut to = To::Unknown;
    for item in message.cmsgs()? {
        match item {
            ControlMessageOwned::Ipv4PacketInfo(info) => to = To::V4(info),
            ControlMessageOwned::Ipv6PacketInfo(info) => to = To::V6(info),
            _ => {}
        }
    }
    let peer = message.address.and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into())))
    });
    peer.map(|peer| (peer, to)).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn send(socket: &UdpSocket, line: &[u8], peer: SocketAddr, to: &To) -> io::Result<()> {
    let slices = [IoSlice::new(line)];
    let fd = socket.as_raw_fd();
    // Interface 0: the routing table decides the way out, the answer's source is all that is fixed.
    let v4;
    let v6;
    let control = match to {
        To::V4(info) => {
            v4 = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: info.ipi_addr, ipi_addr: info.ipi_addr };
            vec![ControlMessage::Ipv4PacketInfo(&v4)]
        }
        To::V6(info) => {
            // A link-local source means nothing without its interface.
            v6 = *info;
            vec![ControlMessage::Ipv6PacketInfo(&v6)]
        }
        To::Unknown => Vec::new(),
    };
    match peer {
        SocketAddr::V4(peer) => sendmsg(fd, &slices, &control, MsgFlags::MSG_DONTWAIT, Some(&SockaddrIn::from(peer))),
        SocketAddr::V6(peer) => sendmsg(fd, &slices, &control, MsgFlags::MSG_DONTWAIT, Some(&SockaddrIn6::from(peer))),
    }?;
    Ok(())
}
