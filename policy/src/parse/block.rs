//! Addresses and blocks of them.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::block::{IpBlock, is_inside};
use crate::parse::node::{Node, Problems, shortened};
use crate::parse::problem::Reason;

/// An `ipBlock`. CIDRs with host bits set are read as the block they lie in.
pub(crate) fn block(node: &Node<'_>, problems: &mut Problems) -> Option<IpBlock> {
    let known = node.check_fields(&["cidr", "except"], problems);
    let cidr = match node.field("cidr") {
        Some(cidr) => net(&cidr, problems),
        None => {
            problems.add_at(node, "cidr", Reason::Missing);
            None
        }
    };
    let mut sound = known;
    let mut except = Vec::new();
    if let Some(list) = node.field("except") {
        for item in list.items(problems)? {
            let Some(inner) = net(&item, problems) else {
                sound = None;
                continue;
            };
            match cidr {
                Some(outer) if !is_inside(outer, inner) => {
                    problems.add(&item, Reason::Except { found: inner.to_string(), cidr: outer.to_string() });
                    sound = None;
                }
                Some(_) | None => except.push(inner),
            }
        }
    }
    sound?;
    IpBlock::new(cidr?, except)
}

/// An IP address.
pub(crate) fn address(node: &Node<'_>, problems: &mut Problems) -> Option<IpAddr> {
    let text = node.string(problems)?;
    let address = text.parse().ok();
    if address.is_none() {
        problems.add(node, Reason::Address { found: shortened(text) });
    }
    address
}

pub(crate) fn net(node: &Node<'_>, problems: &mut Problems) -> Option<IpNet> {
    let text = node.string(problems)?;
    checked(node, text, text.parse().ok(), problems)
}

/// The same as Calico has it, where an address alone stands for itself.
pub(crate) fn net_or_address(node: &Node<'_>, problems: &mut Problems) -> Option<IpNet> {
    let text = node.string(problems)?;
    checked(node, text, parse_net_or_address(text), problems)
}

/// Source: Calico's validator of `nets`, which takes an address as fully masked.
pub(crate) fn parse_net_or_address(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn checked(node: &Node<'_>, text: &str, net: Option<IpNet>, problems: &mut Problems) -> Option<IpNet> {
    let Some(net) = net else {
        problems.add(node, Reason::Cidr { found: shortened(text) });
        return None;
    };
    if let IpNet::V6(v6) = net
        && v6.prefix_len() >= 96
        && v6.addr().to_ipv4_mapped().is_some()
    {
        problems.add(node, Reason::MappedCidr { found: shortened(text) });
        return None;
    }
    Some(net.trunc())
}

/// Whether no bit is set behind the prefix of a CIDR.
pub(crate) fn is_canonical(node: &Node<'_>) -> bool {
    node.value().as_str().and_then(|text| text.parse::<IpNet>().ok()).is_some_and(|net| net == net.trunc())
}
