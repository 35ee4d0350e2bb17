//! What the server can be told.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::access::Access;
use crate::access::audit::AuditLog;
use crate::http::listener::Limits;
use crate::http::tls::Tls;
use crate::nodes::StreamsConfig;

/// Which pods probes start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vantages {
    /// Every pod carries the probe, as in the lab.
    #[default]
    All,
    /// Those with the label `signalbox.dev/probe`. Others are rows and columns without a probe of their own.
    Labelled,
}

/// How pods call Services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceHost {
    /// By name, as applications do.
    #[default]
    Name,
    /// By the address that the cluster gave them: where there is no DNS, or where it is none of the question.
    Address,
}

/// What the server can be told. The defaults are those of `signalbox lab`, except for the token.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the page and the API are served. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// How users are told apart.
    pub access: Access,
    /// With [`Access::Loopback`] needed for everything that changes something, and never empty: [`crate::start`] refuses that.
    pub token: String,
    /// With [`Access::Loopback`]: listen on an address that other machines reach all the same.
    pub allow_remote: bool,
    /// Names, besides addresses and `localhost`, under which the page is asked for. What is asked for under another name is
    /// refused.
    pub hosts: Vec<String>,
    /// Serve the page by TLS.
    pub tls: Option<Tls>,
    /// How much of the page's listener anyone can take up.
    pub limits: Limits,
    /// Who changed what.
    pub audit: AuditLog,
    /// The cluster's name, as the page shows it.
    pub cluster: String,
    /// The domain that Services are resolved under.
    pub cluster_domain: String,
    /// Between the end of one round of probes and the start of the next.
    pub interval: Duration,
    /// After how long a probe without an answer counts as dropped.
    pub probe_timeout: Duration,
    /// What `exec` runs in a pod.
    pub probe_command: Vec<String>,
    /// Namespaces whose pods and Services are not in the matrix.
    pub skip_namespaces: Vec<String>,
    /// The run of a command whose namespaces, by their label `signalbox.dev/run`, are the whole matrix, with no host outside. `None`: all
    /// namespaces are in it but those of such runs, which are tried by whoever made them.
    pub run: Option<String>,
    /// How long after a change facts may contradict each other before that counts as a disagreement.
    pub settle: Duration,
    /// How long the first round waits for pods that are not ready yet.
    pub first_round_wait: Duration,
    /// Which pods probes start from.
    pub vantages: Vantages,
    /// How pods call Services.
    pub service_host: ServiceHost,
    /// Up to how many cells there are rows for pods without a probe, too.
    pub max_cells: usize,
    /// The image of the probes that are deployed as stand-ins.
    pub probe_image: String,
    /// How many browsers may follow the events at a time.
    pub max_followers: usize,
    /// Where enforcers of other nodes, and hosts outside, open streams; `None`: nowhere.
    pub streams: Option<StreamsConfig>,
    /// Have enforcers try connections from inside of real pods, for whoever may `create` `probes.signalbox.dev` in the pod's namespace.
    pub allow_real_pods: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            access: Access::Loopback,
            token: String::new(),
            allow_remote: false,
            hosts: Vec::new(),
            tls: None,
            limits: Limits::default(),
            audit: AuditLog::Off,
            cluster: "lab".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            interval: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(1),
            probe_command: vec!["/bin/signalbox-probe".to_owned(), "agent".to_owned()],
            skip_namespaces: vec!["kube-system".to_owned()],
            run: None,
            settle: Duration::from_secs(1),
            first_round_wait: Duration::from_secs(5),
            vantages: Vantages::All,
            service_host: ServiceHost::Name,
            max_cells: 40_000,
            probe_image: concat!("signalbox/probe:", env!("CARGO_PKG_VERSION")).to_owned(),
            max_followers: 64,
            streams: None,
            allow_real_pods: false,
        }
    }
}
