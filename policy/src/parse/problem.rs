//! What was not understood, and where.

use std::fmt;

/// One field that was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Kind and name: `NetworkPolicy backend/dbsvc`.
    pub object: String,
    /// The field's path: `spec.ingress[0].from[1].ipBlock.cidr`. Empty: the object as a whole.
    pub path: String,
    /// Why.
    pub reason: Reason,
}

/// Why a field was not understood, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Of another type than the API says.
    #[error("must be {expected}, not {found}")]
    Type {
        /// What the API asks for.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A field that must be there is not.
    #[error("is required")]
    Missing,
    /// A field that this version of the API does not have.
    #[error("is no field of networking.k8s.io/v1; check its spelling and its indentation")]
    UnknownField,
    /// A word that is not among those the API knows.
    #[error("must be one of {allowed}, not {found:?}")]
    Word {
        /// The words there are.
        allowed: &'static str,
        /// What is there.
        found: String,
    },
    /// A list that says a thing twice, or too much.
    #[error("has more than {max} items")]
    TooMany {
        /// How many there may be.
        max: usize,
    },
    /// Not a CIDR.
    #[error("{found:?} is no CIDR; write an address and a prefix length, as in 10.0.0.0/8 or fd00::/8")]
    Cidr {
        /// What is there.
        found: String,
    },
    /// An IPv4 address written as IPv6.
    #[error("{found:?} is an IPv4 block written as IPv6; write it as IPv4")]
    MappedCidr {
        /// What is there.
        found: String,
    },
    /// An exception outside its block.
    #[error("{found} must lie inside {cidr} and be smaller")]
    Except {
        /// What is there.
        found: String,
        /// The block.
        cidr: String,
    },
    /// Not an address.
    #[error("{found:?} is no IP address")]
    Address {
        /// What is there.
        found: String,
    },
    /// Not a port number.
    #[error("must be between 1 and 65535, not {found}")]
    PortNumber {
        /// What is there.
        found: String,
    },
    /// Not a port's name.
    #[error(
        "{found:?} is no port name: at most 15 characters of a-z, 0-9 and -, at least one letter; a number stands without quotes"
    )]
    PortName {
        /// What is there.
        found: String,
    },
    /// A range without a numeric start.
    #[error("needs a numeric port beside it")]
    EndPortAlone,
    /// A range that ends before it starts.
    #[error("{end} is smaller than port {port}")]
    EndPortSmaller {
        /// `endPort`.
        end: u16,
        /// `port`.
        port: u16,
    },
    /// A peer that says nothing.
    #[error("needs a podSelector, a namespaceSelector or an ipBlock")]
    EmptyPeer,
    /// A peer that says too much.
    #[error("ipBlock stands alone; put podSelector and namespaceSelector into an item of their own")]
    MixedPeer,
    /// An operator with no values, although it needs some.
    #[error("must not be empty with operator {operator}")]
    ValuesMissing {
        /// The operator.
        operator: &'static str,
    },
    /// An operator with values, although it takes none.
    #[error("must be empty with operator {operator}")]
    ValuesForbidden {
        /// The operator.
        operator: &'static str,
    },
    /// Not a label's key.
    #[error(
        "{found:?} is no label key: an optional DNS prefix and a slash, then at most 63 characters of A-Z, a-z, 0-9, -, _ and ."
    )]
    LabelKey {
        /// What is there.
        found: String,
    },
    /// Not a label's value.
    #[error("{found:?} is no label value: at most 63 characters of A-Z, a-z, 0-9, -, _ and .")]
    LabelValue {
        /// What is there.
        found: String,
    },
    /// A kind of policy, or a version of one, that this engine cannot judge.
    #[error("{found} is not understood yet; only networking.k8s.io/v1 NetworkPolicy is judged")]
    Kind {
        /// Version and kind.
        found: String,
    },
    /// Two pods with one address.
    #[error("{address} is also the address of {other}")]
    SharedAddress {
        /// The address.
        address: String,
        /// The other pod.
        other: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "{}: {}", self.object, self.reason)
        } else {
            write!(f, "{}: {}: {}", self.object, self.path, self.reason)
        }
    }
}
