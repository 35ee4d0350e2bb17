//! The lab's DNS as a program of its own, which runs as a pod of a real cluster that has no DNS: the one of the end-to-end tests.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("signalbox-lab-dns: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let client = kube::Client::try_from(kube::Config::incluster()?)?;
    let stop = CancellationToken::new();
    let mut told = signal(SignalKind::terminate())?;
    let ending = stop.clone();
    tokio::spawn(async move {
        told.recv().await;
        ending.cancel();
    });
    Ok(signalbox_lab_node::serve_dns_here(client, "cluster.local", stop).await?)
}
