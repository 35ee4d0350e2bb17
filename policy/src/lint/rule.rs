//! The rules of lint. Ids and slugs are stable: a number that is given up is not used again.

use std::fmt;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Worth to know, and often meant so.
    Info,
    /// Very likely not what was meant.
    Warning,
    /// The API refuses it, or it cannot be judged.
    Error,
}

macro_rules! rules {
    ($($name:ident = $id:literal, $slug:literal, $severity:ident, $summary:literal;)+) => {
        /// A rule of lint.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum RuleId {
            $(#[doc = $summary] $name,)+
        }

        impl RuleId {
            /// All, in order of their ids.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// `SB101`.
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)+ }
            }

            /// `selects-nothing`.
            pub fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)+ }
            }

            /// How severe its findings are unless they say otherwise.
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)+ }
            }

            /// One line for tables and `--help`.
            pub fn summary(self) -> &'static str {
                match self { $(Self::$name => $summary,)+ }
            }
        }
    };
}

rules! {
    NotUnderstood = "SB001", "not-understood", Error, "A field was not understood, so that what it bears on cannot be judged.";
    DefinedTwice = "SB002", "defined-twice", Warning, "Two objects have one kind and name: only the later one counts.";
    LimitReached = "SB003", "limit-reached", Info, "There was more to compare than lint compares.";
    SupersededApi = "SB004", "superseded-api", Info, "The kind has a successor, and no cluster serves it for ever.";
    NewerField = "SB005", "newer-field", Info, "An older cluster drops the field in silence, and the policy means something else.";

    SelectsNothing = "SB101", "selects-nothing", Warning, "The policy selects no pod.";
    PeerMatchesNothing = "SB102", "peer-matches-nothing", Warning, "A peer matches no namespace, or no pod there.";
    LabelTypo = "SB103", "label-typo", Warning, "A label that no object has is spelt almost like one that some have.";
    AndOr = "SB104", "and-or", Warning, "Selectors in one item must both match, in two items either: here the other one fits.";
    NamespaceMissing = "SB105", "namespace-missing", Warning, "The policy is in a namespace that does not exist.";
    HostNetwork = "SB106", "host-network", Warning, "The labels are those of pods in their node's network, which no policy selects.";
    NamespaceLabel = "SB107", "namespace-label", Warning, "A namespaceSelector asks for a namespace's name under a label that it does not have.";
    EmptySelectorName = "SB108", "empty-selector-name", Info, "The policy is named after one application and selects all pods.";
    NotIsolated = "SB109", "not-isolated", Info, "Some pods of a namespace are isolated, others are not.";
    Contradiction = "SB110", "contradiction", Warning, "A selector asks for what no labels can meet.";

    ShadowedRule = "SB201", "shadowed-rule", Warning, "Another rule already allows all that this one allows.";
    UnreachableRule = "SB202", "unreachable-rule", Warning, "An earlier rule of the tier decides all that this one matches, and otherwise.";
    Overruled = "SB203", "overruled", Warning, "A tier that is asked before denies all that this rule allows.";
    DuplicatePolicy = "SB204", "duplicate-policy", Warning, "Two policies say the same.";
    RedundantItem = "SB205", "redundant-item", Info, "An item of a list adds nothing to another one of the list.";
    EqualPriority = "SB206", "equal-priority", Warning, "Two policies of one tier and priority contradict each other.";
    NoEffect = "SB207", "no-effect", Info, "Nothing ever comes to this Baseline policy, or nothing follows behind this Pass.";

    PortNotDeclared = "SB301", "port-not-declared", Warning, "No container at the destination declares the port.";
    ServicePort = "SB302", "service-port", Warning, "The port is a Service's, and its pods listen on another one.";
    NamedPortMissing = "SB303", "named-port-missing", Warning, "No pod at the destination has a port of this name.";
    NamedPortDiffers = "SB304", "named-port-differs", Info, "The name stands for different ports on different pods.";
    SctpOnly = "SB305", "sctp-only", Warning, "All rules are for SCTP, and TCP and UDP are shut along with it.";
    WrongProtocol = "SB306", "wrong-protocol", Warning, "The pods have the port in another protocol.";

    CidrNotCanonical = "SB401", "cidr-not-canonical", Warning, "The CIDR has host bits set, or is not written as the API writes it.";
    BlockHoldsPods = "SB402", "block-holds-pods", Info, "An ipBlock holds addresses of pods.";
    InternetOpensPods = "SB403", "internet-opens-pods", Info, "A block that holds every address opens all pods, too.";
    BlockHoldsNodes = "SB404", "block-holds-nodes", Info, "An egress ipBlock holds addresses of nodes.";
    ServiceAddress = "SB405", "service-address", Warning, "An ipBlock names Services' addresses, which policies never see.";
    SourceMasked = "SB406", "source-masked", Info, "Traffic from this ipBlock may arrive with a node's address.";
    WrongFamily = "SB407", "wrong-family", Warning, "The block is of a family of addresses that the pods do not have, or leaves one of theirs out.";
    EmptyBlock = "SB408", "empty-block", Warning, "The exceptions leave nothing of the block.";
    MetadataService = "SB409", "metadata-service", Info, "The block holds the address where clouds hand out credentials.";

    RulesIgnored = "SB501", "rules-ignored", Warning, "The rules are for a direction that policyTypes leaves out.";
    EgressNotIsolated = "SB502", "egress-not-isolated", Warning, "An empty egress without policyTypes isolates nothing.";
    ImplicitIngressDeny = "SB503", "implicit-ingress-deny", Info, "A policy of egress rules without policyTypes shuts all ingress.";
    WideOpen = "SB504", "wide-open", Warning, "A rule allows anyone and anything.";

    DnsForgotten = "SB601", "dns-forgotten", Warning, "Pods may go somewhere, but not to DNS.";
    DnsTcp = "SB602", "dns-tcp", Info, "DNS is allowed over UDP only.";
    DnsShut = "SB603", "dns-shut", Warning, "Pods may go to DNS, and another policy keeps them from it.";

    EgressWithoutIngress = "SB701", "egress-without-ingress", Warning, "Pods may go where the other side does not let them in.";
    IngressWithoutEgress = "SB702", "ingress-without-egress", Warning, "Pods let in others that may not go out to them.";
}

impl RuleId {
    /// Where it is described, from the root of the repository: `docs/lint.md#sb101-selects-nothing`.
    pub fn docs(self) -> String {
        format!("docs/lint.md#{}-{}", self.id().to_ascii_lowercase(), self.slug())
    }

    /// The rule of this id or slug.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.id().eq_ignore_ascii_case(text) || rule.slug() == text)
    }
}

impl Severity {
    /// All, the least first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Error];
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id(), self.slug())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}
