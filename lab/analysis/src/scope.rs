//! Which connections a command looks at.

use signalbox_policy::analyze::{External, Loopback, Options, Place};

/// Which connections to look at.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Scope {
    /// Look at the outside, too: all other addresses, as ranges that the policies cut
    #[arg(long)]
    external: bool,
    /// How a pod's connections to itself count
    #[arg(long, value_name = "HOW", value_enum, default_value_t = LoopbackArg::Allow)]
    loopback: LoopbackArg,
    /// Look at connections that begin or end in this namespace only; may be given several times
    #[arg(short, long, value_name = "NAME")]
    namespace: Vec<String>,
}

/// `--loopback`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum LoopbackArg {
    /// Leave a pod's connections to itself out
    Omit,
    /// By its own address: no policy can forbid it
    #[default]
    Allow,
    /// As policies have it: so it is through a Service
    Policy,
}

impl Scope {
    pub(crate) fn options(&self) -> Options {
        let loopback = match self.loopback {
            LoopbackArg::Omit => Loopback::Omit,
            LoopbackArg::Allow => Loopback::Allow,
            LoopbackArg::Policy => Loopback::Policy,
        };
        Options { loopback, external: if self.external { External::Ranges } else { External::Omit } }
    }

    /// Whether the outside is looked at.
    pub(crate) fn has_outside(&self) -> bool {
        self.external
    }

    /// Whether a connection between these is looked at.
    pub(crate) fn has(&self, from: &Place, to: &Place) -> bool {
        let is_in = |name: Option<&str>| name.is_some_and(|name| self.namespace.iter().any(|wanted| wanted == name));
        self.namespace.is_empty() || is_in(namespace(from)) || is_in(namespace(to))
    }
}

/// The namespace of a pod; none for what is outside.
pub(crate) fn namespace(place: &Place) -> Option<&str> {
    match place {
        Place::Pod(pod) => Some(&pod.namespace),
        Place::Range(_) => None,
    }
}
