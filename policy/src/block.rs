//! Address blocks.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::names::Family;
use crate::peer::Match;

/// Some CIDRs without some smaller ones, in canonical form. An `ipBlock` names one CIDR; `networks` and `nets` of other
/// kinds of policy name several.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpBlock {
    cidrs: Vec<IpNet>,
    except: Vec<IpNet>,
}

impl IpBlock {
    /// `None` where an exception does not lie in `cidr`, or is as large.
    pub fn new(cidr: IpNet, except: impl IntoIterator<Item = IpNet>) -> Option<Self> {
        let block = Self::of([cidr], except);
        block.except.iter().all(|net| is_inside(block.cidrs[0], *net)).then_some(block)
    }

    /// What lies in one of `cidrs` and in none of `except`.
    pub fn of(cidrs: impl IntoIterator<Item = IpNet>, except: impl IntoIterator<Item = IpNet>) -> Self {
        let canonical = |mut nets: Vec<IpNet>| {
            nets.sort_unstable();
            nets.dedup();
            nets
        };
        Self {
            cidrs: canonical(cidrs.into_iter().map(|net| net.trunc()).collect()),
            except: canonical(except.into_iter().map(|net| net.trunc()).collect()),
        }
    }

    /// The whole blocks.
    pub fn cidrs(&self) -> &[IpNet] {
        &self.cidrs
    }

    /// What it leaves out.
    pub fn except(&self) -> &[IpNet] {
        &self.except
    }

    /// All prefixes that it names.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        self.cidrs.iter().chain(&self.except).copied()
    }

    /// Whether the address lies in it. An address of the other family never does.
    pub fn contains(&self, address: IpAddr) -> bool {
        let holds = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        holds(&self.cidrs) && !holds(&self.except)
    }

    /// The same for an address that may not be known; then by its family, if that is.
    pub(crate) fn matches(&self, address: Option<IpAddr>, family: Option<Family>) -> Match {
        match (address, family) {
            (Some(address), _) => self.contains(address).into(),
            (None, Some(family)) => self.matches_any_of(family),
            (None, None) => match (self.matches_any_of(Family::V4), self.matches_any_of(Family::V6)) {
                (v4, v6) if v4 == v6 => v4,
                (_, _) => Match::Maybe,
            },
        }
    }

    /// Whether it has all addresses of a family, or none.
    fn matches_any_of(&self, family: Family) -> Match {
        let is_of = |net: &&IpNet| Family::of(net.addr()) == family;
        let of = |nets: &[IpNet]| nets.iter().filter(is_of).map(IpNet::prefix_len).collect::<Vec<u8>>();
        let (cidrs, except) = (of(&self.cidrs), of(&self.except));
        if cidrs.is_empty() || except.contains(&0) {
            return Match::No;
        }
        if cidrs.contains(&0) && except.is_empty() { Match::Yes } else { Match::Maybe }
    }
}

/// Whether `inner` is a true part of `outer`.
pub(crate) fn is_inside(outer: IpNet, inner: IpNet) -> bool {
    outer.contains(&inner) && outer != inner
}

impl fmt::Display for IpBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |nets: &[IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if self.cidrs.is_empty() {
            return f.write_str("no address");
        }
        f.write_str(&list(&self.cidrs))?;
        if !self.except.is_empty() {
            write!(f, " except {}", list(&self.except))?;
        }
        Ok(())
    }
}
