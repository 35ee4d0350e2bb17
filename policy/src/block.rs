//! Address blocks.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// An `ipBlock`: a CIDR without some smaller ones. All of one family, in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpBlock {
    cidr: IpNet,
    except: Vec<IpNet>,
}

impl IpBlock {
    /// `None` where an exception does not lie in `cidr`, or is as large.
    pub fn new(cidr: IpNet, except: impl IntoIterator<Item = IpNet>) -> Option<Self> {
        let cidr = cidr.trunc();
        let mut except: Vec<IpNet> = except.into_iter().map(|net| net.trunc()).collect();
        except.sort_unstable();
        except.dedup();
        except.iter().all(|net| is_inside(cidr, *net)).then_some(Self { cidr, except })
    }

    /// The whole block.
    pub fn cidr(&self) -> IpNet {
        self.cidr
    }

    /// What it leaves out.
    pub fn except(&self) -> &[IpNet] {
        &self.except
    }

    /// Whether the address lies in it. An address of the other family never does.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.cidr.contains(&address) && !self.except.iter().any(|net| net.contains(&address))
    }

    /// Whether all addresses of `net` lie in it, given that no prefix that this block names lies inside `net`.
    pub(crate) fn covers(&self, net: IpNet) -> bool {
        self.cidr.contains(&net) && !self.except.iter().any(|except| except.contains(&net))
    }
}

/// Whether `inner` is a true part of `outer`.
pub(crate) fn is_inside(outer: IpNet, inner: IpNet) -> bool {
    outer.contains(&inner) && outer != inner
}

impl fmt::Display for IpBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cidr)?;
        for (index, net) in self.except.iter().enumerate() {
            f.write_str(if index == 0 { " except " } else { ", " })?;
            write!(f, "{net}")?;
        }
        Ok(())
    }
}
