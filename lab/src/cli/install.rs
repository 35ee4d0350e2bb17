//! `signalbox install`: prints, and changes nothing.

use std::process::ExitCode;

use super::complain;
use crate::install::{self, Enforcement, Options, names};

const EXAMPLES: &str = "\
Examples:
  signalbox install | kubectl apply -f -
      server and enforcer, into the namespace signalbox-system
  signalbox install --enforcer none | kubectl apply -f -
      watch and probe only: another enforcer is there
  signalbox install --enforcer audit | kubectl apply -f -
      see what the policies would deny, before they do
  signalbox install --image-prefix registry.example/team/ --allow-apply > signalbox.yaml
      images from your own registry; users who may, may apply policies on the page";

/// Print the manifests that put Signalbox into a cluster
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The namespace; no other one's objects are touched
    #[arg(long, value_name = "NAME", default_value = names::NAMESPACE)]
    namespace: String,
    /// What stands before the images' names
    #[arg(long, value_name = "PREFIX", default_value = "signalbox/")]
    image_prefix: String,
    /// The images' tag
    #[arg(long, value_name = "TAG", default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
    /// Whether and how policies are enforced
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Enforcement::Standard)]
    enforcer: Enforcement,
    /// Users who may change NetworkPolicies may do so through Signalbox, too
    #[arg(long)]
    allow_apply: bool,
    /// Probes may start from inside of real pods' network namespaces, for users who may
    #[arg(long)]
    allow_real_pods: bool,
    /// Steer probes and start stand-ins in this namespace only; may be given several times [default: in all]
    #[arg(long = "probes-in", value_name = "NAMESPACE")]
    probe_namespaces: Vec<String>,
}

pub(super) fn run(args: Args) -> ExitCode {
    let options = Options {
        namespace: args.namespace,
        image_prefix: args.image_prefix,
        version: args.version,
        enforcement: args.enforcer,
        allow_apply: args.allow_apply,
        allow_real_pods: args.allow_real_pods,
        probe_namespaces: args.probe_namespaces,
    };
    for object in install::objects(&options) {
        match serde_saphyr::to_string(&object) {
            Ok(text) => println!("---\n{}", text.trim_end()),
            Err(error) => {
                complain(&error);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
