//! `signalbox uninstall`: takes everything away again, in order, and says what it did.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};

use super::{complain, duration};
use crate::install::names;
use crate::uninstall::{self, Error, Outcome};

const EXAMPLES: &str = "\
Examples:
  signalbox uninstall
      from the cluster of $KUBECONFIG or ~/.kube/config
  signalbox uninstall --kubeconfig admin.conf --context staging --namespace signalbox-system

Exit status: 0 if nothing is left, 1 if something is, 2 if the cluster could not be asked. To run it again does no harm.";

/// Take Signalbox out of a cluster, what the enforcer has on the nodes included
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// How to reach the cluster [default: $KUBECONFIG, then ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Which of its contexts [default: the current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The namespace that Signalbox was installed into
    #[arg(long, value_name = "NAME", default_value = names::NAMESPACE)]
    namespace: String,
    /// How long each of its parts may take to go
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration::parse)]
    timeout: Duration,
}

pub(super) fn run(args: Args) -> ExitCode {
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::from(2);
        }
    };
    let done = runtime.block_on(async {
        let client = client(&args).await?;
        uninstall::run(&client, &args.namespace, args.timeout, &mut |line| println!("{line}")).await
    });
    match done {
        Ok(Outcome::NothingLeft) => ExitCode::SUCCESS,
        Ok(Outcome::Left(what)) => {
            for what in what {
                complain(&what);
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(&error);
            ExitCode::from(2)
        }
    }
}

async fn client(args: &Args) -> Result<kube::Client, Error> {
    let unusable = |source| Error::Kubeconfig(Box::new(source));
    let kubeconfig = match &args.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig.map_err(unusable)?, &options).await.map_err(unusable)?;
    kube::Client::try_from(config)
        .map_err(|source| Error::Api { what: "make a client".to_owned(), source: Box::new(source) })
}
