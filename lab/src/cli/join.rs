//! `signalbox join`: this host becomes a vantage point of a cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use signalbox_enforcer::uplink::{Authority, CertificateName, Door, Server};
use tokio_util::sync::CancellationToken;

use super::{complain, runtime};
use crate::join;

const EXAMPLES: &str = "\
Examples:
  signalbox join --server https://signalbox.example.com:9443 --name users --token-file token --ca ca.crt
      probes of the ExternalHost `users` start from this host, until it is ended

The certificates are in the ConfigMap signalbox-ca, and a token is made with
  kubectl -n signalbox-system create token signalbox-outside --audience signalbox
Its user needs the verb `create` on `externalhosts/exec` in the API group signalbox.dev.";

/// Make this host a vantage point of a cluster
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The server, https://HOST:PORT
    #[arg(long, value_name = "URL")]
    server: Server,
    /// The name that the server's certificate is for, where it is reached by another [default: the host of --server]
    #[arg(long, value_name = "NAME")]
    server_name: Option<CertificateName>,
    /// The name of the ExternalHost that this host is
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The token for the audience `signalbox`; read anew for each connection
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// Whom to trust for the server: certificates, PEM
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
}

/// Runs until it is ended, or the server does not want this host.
pub fn run(args: Args) -> ExitCode {
    super::log();
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let authority = Authority::File(args.ca);
    let door = Door { server: args.server, name: args.server_name, authority, token: args.token_file };
    let ended = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let on_signal = shutdown.clone();
        tokio::spawn(async move {
            // Without the signal's handler the signal itself ends the process.
            let _ended = tokio::signal::ctrl_c().await;
            on_signal.cancel();
        });
        let told = |told: &join::Told| anstream::eprintln!("{told}");
        join::run(&door, &args.name, told, shutdown).await
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}
