//! Sockets on all addresses of both families.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt};
use signalbox_api::flow::Protocol;
use socket2::{Domain, Type};
use tokio::net::{TcpListener, UdpSocket};

use super::{Port, ServeError};

/// Connections that the kernel accepts before the probe does; it lowers this to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// A listening socket.
pub enum Socket {
    /// TCP or SCTP.
    Stream(TcpListener),
    /// UDP.
    Datagram(UdpSocket),
}

/// One socket per family: two sockets, so that a peer's address never shows as an IPv4-mapped one.
///
/// A namespace without IPv6 has only one; a family that is there and cannot be bound is an error.
pub fn sockets(port: Port) -> Result<Vec<Socket>, ServeError> {
    let mut sockets = Vec::new();
    for address in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        match open(port, address) {
            Ok(socket) => sockets.push(socket),
            Err(error) if address.is_ipv6() && is_absent(&error) => {}
            Err(source) => return Err(ServeError::Listen { address, port, source }),
        }
    }
    Ok(sockets)
}

fn is_absent(error: &io::Error) -> bool {
    let absent = [nix::errno::Errno::EAFNOSUPPORT, nix::errno::Errno::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|number| absent.iter().any(|errno| *errno as i32 == number))
}

fn open(port: Port, address: IpAddr) -> io::Result<Socket> {
    let address = SocketAddr::new(address, port.number);
    let (kind, protocol) = match port.protocol {
        Protocol::Tcp => (Type::STREAM, socket2::Protocol::TCP),
        Protocol::Sctp => (Type::STREAM, socket2::Protocol::SCTP),
        Protocol::Udp => (Type::DGRAM, socket2::Protocol::UDP),
    };
    let socket = socket2::Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if port.protocol == Protocol::Udp {
        // Tells for each datagram which of the pod's addresses it was sent to.
        if address.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        socket.bind(&address.into())?;
        return Ok(Socket::Datagram(UdpSocket::from_std(socket.into())?));
    }
    // A restarted container listens again at once. For UDP the same option would let two sockets share a port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(Socket::Stream(TcpListener::from_std(socket.into())?))
}
