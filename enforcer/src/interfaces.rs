//! News of the node's interfaces, as the kernel tells them.

use futures::{Stream, StreamExt};
use nix::net::if_::if_indextoname;
use rtnetlink::{MulticastGroup, packet_core::NetlinkPayload, packet_route::RouteNetlinkMessage};
use tokio::runtime::Handle;

use crate::{discover::Peer, error::Error, netns::Netns};

/// Whether the namespace that the thread is in has an interface of this number.
pub fn is_there(interface: u32) -> bool {
    // Where there is none, nix 0.31 takes libc's null for success, and gives an empty name.
    if_indextoname(interface).is_ok_and(|name| !name.is_empty())
}

/// What happened to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It is there, or has changed.
    Appeared(u32, Option<Peer>),
    /// It is gone.
    Vanished(u32),
}

/// The kernel's news of a namespace's interfaces. What is lost because nobody reads in time is found by the next comparison.
///
/// # Errors
///
/// When the namespace cannot be entered, or the kernel refuses the socket.
pub fn news(netns: &Netns) -> Result<impl Stream<Item = News> + Send + Unpin + use<>, Error> {
    let runtime = Handle::current();
    // A socket belongs to the namespace in which it was made.
    let opened = netns.enter(|| {
        let _inside = runtime.enter();
        rtnetlink::new_multicast_connection(&[MulticastGroup::Link])
    })?;
    let (connection, _, messages) =
        opened.map_err(|source| Error::Io { what: "cannot listen to the kernel's news of interfaces", source })?;
    // Ends when the stream is dropped.
    tokio::spawn(connection);
    Ok(Box::pin(messages.filter_map(async |(message, _)| match message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
            Some(News::Appeared(link.header.index, Peer::of(&link)))
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => Some(News::Vanished(link.header.index)),
        _ => None,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_gone_is_not_there() {
        assert!(is_there(1), "the loopback");
        assert!(!is_there(i32::MAX as u32));
    }
}
