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
    /// Which of the objects given it is in, from 0, so that whoever gave them can say where it stands. Absent: in several.
    pub index: Option<usize>,
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
    #[error("is required; add it")]
    Missing,
    /// A field that this version of the API does not have.
    #[error("is no field of {api}; check its spelling and its indentation")]
    UnknownField {
        /// The version of the API.
        api: String,
    },
    /// A word that is not among those the API knows.
    #[error("must be one of {allowed}, not {found:?}")]
    Word {
        /// The words there are.
        allowed: &'static str,
        /// What is there.
        found: String,
    },
    /// A list that says a thing twice, or too much.
    #[error("has more than {max} items; remove some, or split what holds it in two")]
    TooMany {
        /// How many there may be.
        max: usize,
    },
    /// A list that must say something.
    #[error("must have at least one item; add one")]
    EmptyList,
    /// A text that is too long.
    #[error("must be at most {max} characters long; shorten it")]
    TooLong {
        /// How long it may be.
        max: usize,
    },
    /// A number out of its bounds.
    #[error("must be a whole number from {min} to {max}, not {found}")]
    Number {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
        /// What is there.
        found: String,
    },
    /// An object of which one field says which kind of thing it is.
    #[error("needs exactly one of {fields}, not {found} of them")]
    OneOf {
        /// The fields there are.
        fields: &'static str,
        /// How many of them are there.
        found: usize,
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
    /// A block that is not written in canonical form, where the API asks for that.
    #[error("{found:?} has bits set behind its prefix, which this version of the API refuses; write {canonical}")]
    HostBits {
        /// What is there.
        found: String,
        /// The block it lies in.
        canonical: String,
    },
    /// An exception outside its block.
    #[error("{found} must lie inside {cidr} and be smaller; correct one of the two")]
    Except {
        /// What is there.
        found: String,
        /// The block.
        cidr: String,
    },
    /// Not an address.
    #[error("{found:?} is no IP address; write one, as in 10.0.0.1 or fd00::1")]
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
        "{found:?} is no port name; a name has at most 15 characters of a-z, 0-9 and -, at least one letter, and a number stands without quotes"
    )]
    PortName {
        /// What is there.
        found: String,
    },
    /// A range without a numeric start.
    #[error("needs a numeric port beside it; give it one, or leave endPort out")]
    EndPortAlone,
    /// A range that ends before it starts.
    #[error("{end} is smaller than port {port}; swap them")]
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
    #[error("must not be empty with operator {operator}; name at least one value")]
    ValuesMissing {
        /// The operator.
        operator: &'static str,
    },
    /// An operator with values, although it takes none.
    #[error("must be empty with operator {operator}; leave it out")]
    ValuesForbidden {
        /// The operator.
        operator: &'static str,
    },
    /// Not an object's name.
    #[error(
        "{found:?} is no name that the API takes; write at most 253 characters of a-z, 0-9, - and ., with a letter or digit at both ends of each part"
    )]
    Name {
        /// What is there.
        found: String,
    },
    /// Not a label's key.
    #[error(
        "{found:?} is no label key; write an optional DNS prefix and a slash, then at most 63 characters of A-Z, a-z, 0-9, -, _ and ."
    )]
    LabelKey {
        /// What is there.
        found: String,
    },
    /// Not a label's value.
    #[error("{found:?} is no label value; write at most 63 characters of A-Z, a-z, 0-9, -, _ and .")]
    LabelValue {
        /// What is there.
        found: String,
    },
    /// A range that ends where it starts, or before.
    #[error("{end} must be greater than start {start}; write a single port as {single}")]
    RangeEnd {
        /// `end`.
        end: u16,
        /// `start`.
        start: u16,
        /// The field for one port.
        single: &'static str,
    },
    /// A port's name in a rule whose peers have none.
    #[error("names a port, which counts for pods only, beside {peers}; write its number, or split the rule")]
    NamedPortOfNoPod {
        /// The peers that are no pods.
        peers: &'static str,
    },
    /// Peers that no manifest says the addresses of.
    #[error("depends on what the names resolve to; name networks instead to have it judged")]
    DomainNames,
    /// A second policy of a kind of which there is one.
    #[error("must be default, not {found:?}: there is only one of its kind in a cluster; rename it")]
    Singleton {
        /// What is there.
        found: String,
    },
    /// One of Calico's selector expressions that does not parse.
    #[error("{message} at character {position}; correct it, as in tier == 'front' && !has(legacy)")]
    Expression {
        /// What is wrong.
        message: String,
        /// Where, from 1.
        position: usize,
    },
    /// Something of Calico's that cannot be judged exactly.
    #[error("{what} cannot be judged; {remedy}")]
    Unsupported {
        /// What it is.
        what: &'static str,
        /// What to write instead.
        remedy: &'static str,
    },
    /// A tier of Calico's that may stand anywhere among the others.
    #[error(
        "tier {found:?} cannot be judged, only default, kube-admin and kube-baseline; move the policy into one of them"
    )]
    Tier {
        /// What is there.
        found: String,
    },
    /// A selector of Calico's that may also select addresses by name, which cannot be told.
    #[error("may also select {object}, whose place or addresses cannot be told; name the addresses as nets")]
    NetworkSet {
        /// Kind and name.
        object: String,
    },
    /// A rule that asks for both families at once.
    #[error("holds IPv4 and IPv6 blocks in one rule, which Calico refuses; make a rule for each")]
    MixedFamilies,
    /// A block of another family than the rule's.
    #[error("is of another family than the rule's ipVersion {version}; correct one of the two")]
    OtherFamily {
        /// `ipVersion`.
        version: u8,
    },
    /// Ports of no protocol.
    #[error("needs the rule's protocol to be TCP, UDP or SCTP; add it")]
    PortsWithoutProtocol,
    /// Not one of Calico's ports.
    #[error("{found:?} is no port; write a number, a range as in 8000:8080, or the name of a port")]
    CalicoPort {
        /// What is there.
        found: String,
    },
    /// A workload whose pods would not be its own.
    #[error("does not select the labels of spec.template, so that the API refuses it; make them agree")]
    SelectorMismatch,
    /// A kind of policy, or a version of one, that this engine cannot judge.
    #[error(
        "{found} cannot be judged; write it as a NetworkPolicy (networking.k8s.io/v1), a ClusterNetworkPolicy, or a policy of Calico's default tier"
    )]
    Kind {
        /// Version and kind.
        found: String,
    },
    /// Two pods with one address.
    #[error("{address} is also the address of {other}; remove the older of the two")]
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
