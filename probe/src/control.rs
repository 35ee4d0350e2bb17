//! Who listens in this pod: asked over loopback, where no policy stands in the way.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use signalbox_api::cell::Outcome;
use signalbox_api::flow::Protocol;

use crate::attempt::{Goal, attempt};
use crate::resolve::Resolver;
use crate::resolve::exchange::Unwatched;

/// Loopback answers at once or not at all.
const WITHIN: Duration = Duration::from_millis(500);

/// The ports, of those asked for, that somebody listens on, in the order asked for.
///
/// Tried at 127.0.0.1, at ::1 and at the pod's own addresses, since a listener may be bound to one of them only. A UDP
/// listener that answers nothing counts as listening: over loopback the kernel refuses a datagram that nobody takes.
pub async fn listening(ports: &[(Protocol, u16)], resolver: &Resolver) -> Vec<(Protocol, u16)> {
    let addresses = own_addresses();
    let mut found = Vec::new();
    for (protocol, port) in ports {
        if answers(*protocol, *port, &addresses, resolver).await {
            found.push((*protocol, *port));
        }
    }
    found
}

async fn answers(protocol: Protocol, port: u16, addresses: &[IpAddr], resolver: &Resolver) -> bool {
    for address in addresses {
        let goal = Goal { protocol, host: address.to_string(), port, within: WITHIN };
        match attempt(&goal, resolver, &Unwatched::default(), |_, _| Ok(())).await.outcome {
            Outcome::Open => return true,
            Outcome::Dropped if protocol == Protocol::Udp => return true,
            Outcome::Dropped
            | Outcome::Refused
            | Outcome::Unreachable
            | Outcome::DnsFailed
            | Outcome::NoListener
            | Outcome::ProbeBroken => {}
        }
    }
    false
}

/// Loopback first, then what the interfaces have. Link-local IPv6 needs a scope and is left out.
fn own_addresses() -> Vec<IpAddr> {
    let mut own = BTreeSet::new();
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let Some(address) = interface.address else { continue };
        if let Some(v4) = address.as_sockaddr_in() {
            own.insert(IpAddr::V4(v4.ip()));
        } else if let Some(v6) = address.as_sockaddr_in6()
            && !v6.ip().is_unicast_link_local()
        {
            own.insert(IpAddr::V6(v6.ip()));
        }
    }
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    own.retain(|address| !address.is_loopback());
    loopback.into_iter().chain(own).collect()
}
