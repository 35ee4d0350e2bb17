//! The API alone, to be driven by hand: `cargo run -p signalbox-lab-apiserver --example api -- DIR`, then
//! `kubectl --kubeconfig DIR/kubeconfig …`. No controller runs, so Deployments make no pods.

use std::sync::Arc;

use signalbox_lab_apiserver::{Config, start};
use tokio_util::sync::CancellationToken;

#[path = "../tests/support/runtime.rs"]
mod runtime;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir: std::path::PathBuf = std::env::args_os().nth(1).ok_or("name a state directory")?.into();
    let begin = std::time::Instant::now();
    let shutdown = CancellationToken::new();
    let listen = "127.0.0.1:0".parse()?;
    let config = Config { listen, state_dir: dir.clone(), fresh: false };
    let api = start(config, Arc::new(runtime::Processes), shutdown.clone()).await?;
    std::fs::write(dir.join("kubeconfig"), api.kubeconfig(None))?;
    println!("listening on {} after {:?}", api.local_addr(), begin.elapsed());
    tokio::signal::ctrl_c().await?;
    shutdown.cancel();
    api.stopped().await;
    Ok(())
}
