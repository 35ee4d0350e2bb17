//! Blocks as sets of addresses.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::analyze::AddressRange;
use crate::block::{IpBlock, is_inside};
use crate::names::Family;

/// Addresses of one family, as ranges: ascending, neither touching nor overlapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    family: Family,
    ranges: Vec<(u128, u128)>,
}

impl Addresses {
    /// `None`: it names no CIDR, or several.
    pub(super) fn of(block: &IpBlock) -> Option<Self> {
        let [cidr] = block.cidrs() else { return None };
        let family = Family::of(cidr.addr());
        let except = Self::from_nets(family, block.except());
        Some(Self { family, ranges: subtract(&[bounds(*cidr)], &except.ranges) })
    }

    fn from_nets(family: Family, nets: &[IpNet]) -> Self {
        let nets = nets.iter().filter(|net| Family::of(net.addr()) == family);
        Self { family, ranges: joined(nets.map(|net| bounds(*net)).collect()) }
    }

    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.family == other.family && subtract(&self.ranges, &other.ranges).is_empty()
    }
}

/// Both as one block: the smallest CIDR that holds them, without what is in neither. `None` where that leaves out
/// more CIDRs than the two did. Where both leave out something of all addresses, the whole is not put together: of a pod
/// whose address is not known only a block of all addresses can tell that it holds it.
pub(super) fn together(one: &IpBlock, other: &IpBlock) -> Option<IpBlock> {
    let ([a], [b]) = (one.cidrs(), other.cidrs()) else { return None };
    let (first, second) = (Addresses::of(one)?, Addresses::of(other)?);
    if first.family != second.family {
        return None;
    }
    let mut outer = *a;
    while !outer.contains(b) {
        outer = outer.supernet()?;
    }
    let both = joined(first.ranges.iter().chain(&second.ranges).copied().collect());
    let left_out = subtract(&[bounds(outer)], &both);
    let except: Vec<IpNet> = left_out.into_iter().flat_map(|(low, high)| nets(first.family, low, high)).collect();
    let is_whole = outer.prefix_len() == 0 && except.is_empty();
    let was_whole = [one, other].iter().any(|block| block.cidrs() == [outer] && block.except().is_empty());
    if except.len() > one.except().len() + other.except().len()
        || (is_whole && !was_whole)
        || !except.iter().all(|net| is_inside(outer, *net))
    {
        return None;
    }
    Some(IpBlock::of([outer], except))
}

/// The same block with less left out by name.
pub(super) fn tidied(block: &IpBlock) -> Option<IpBlock> {
    let [cidr] = block.cidrs() else { return None };
    let except = IpNet::aggregate(&block.except().to_vec());
    let is_less = except.len() < block.except().len() && except.iter().all(|net| is_inside(*cidr, *net));
    is_less.then(|| IpBlock::of([*cidr], except))
}

fn bounds(net: IpNet) -> (u128, u128) {
    (number(net.network()), number(net.broadcast()))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn nets(family: Family, low: u128, high: u128) -> Vec<IpNet> {
    let address = |number: u128| match family {
        Family::V4 => IpAddr::V4(u32::try_from(number).unwrap_or(u32::MAX).into()),
        Family::V6 => IpAddr::V6(number.into()),
    };
    AddressRange::new(address(low), address(high)).map(crate::suggest::nets).unwrap_or_default()
}

fn joined(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::new();
    for (low, high) in ranges {
        match joined.last_mut() {
            Some(before) if low <= before.1.saturating_add(1) => before.1 = before.1.max(high),
            Some(_) | None => joined.push((low, high)),
        }
    }
    joined
}

/// What is in `ranges` and not in `less`; both ascend.
fn subtract(ranges: &[(u128, u128)], less: &[(u128, u128)]) -> Vec<(u128, u128)> {
    let mut left = Vec::new();
    for (low, high) in ranges {
        let mut next = Some(*low);
        for (first, last) in less.iter().filter(|(first, last)| last >= low && first <= high) {
            if let Some(from) = next.filter(|from| from < first) {
                left.push((from, first - 1));
            }
            next = last.checked_add(1).filter(|from| from <= high);
        }
        left.extend(next.map(|from| (from, *high)));
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> IpBlock {
        let mut nets = text.split_whitespace().map(|net| net.parse::<IpNet>().expect("the test's CIDRs are sound"));
        let cidr = nets.next().expect("there is one");
        IpBlock::of([cidr], nets)
    }

    #[test]
    fn blocks_are_put_together() {
        let cases = [
            // (one, other, both)
            ("10.0.0.0/25", "10.0.0.128/25", "10.0.0.0/24"),
            ("10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/8"),
            ("10.0.0.0/8 10.1.0.0/16", "10.1.0.0/16", "10.0.0.0/8"),
            ("10.0.0.0/8 10.1.0.0/16 10.2.0.0/16", "10.1.0.0/16", "10.0.0.0/8 except 10.2.0.0/16"),
            ("10.0.0.0/8 10.1.0.0/16", "10.1.0.0/17", "10.0.0.0/8 except 10.1.128.0/17"),
            ("fd00::/65", "fd00:0:0:0:8000::/65", "fd00::/64"),
            ("10.0.0.0/25", "10.0.1.0/25", "-"),
            ("10.0.0.128/25", "10.0.1.0/25", "-"),
            ("0.0.0.0/1", "128.0.0.0/1", "-"),
            ("0.0.0.0/0", "10.0.0.0/8", "0.0.0.0/0"),
            ("0.0.0.0/0", "::/0", "-"),
        ];
        for (one, other, expected) in cases {
            for (one, other) in [(one, other), (other, one)] {
                let both = together(&block(one), &block(other)).map_or("-".to_owned(), |both| both.to_string());
                assert_eq!(both, expected, "{one} with {other}");
            }
        }
        assert_eq!(tidied(&block("10.0.0.0/8 10.0.0.0/25 10.0.0.128/25")), Some(block("10.0.0.0/8 10.0.0.0/24")));
        assert_eq!(tidied(&block("10.0.0.0/30 10.0.0.0/31 10.0.0.2/31")), None, "the whole cannot be left out");
    }
}
