//! The service proxy: translates Services' addresses on the node, as kube-proxy would.
//!
//! - `rules`: from Services and EndpointSlices to the text that nft reads

mod rules;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::netns;
use crate::node::Node;

/// Changes that come within so long become one transaction.
const COALESCE: Duration = Duration::from_millis(3);
/// After a refusal.
const RETRY: Duration = Duration::from_secs(1);

/// Where nft is.
pub(crate) fn find_nft() -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|folder| folder.join("nft"))
        .find(|program| program.is_file())
        .ok_or(Error::MissingProgram { program: "nft", remedy: "apt-get install nftables" })
}

/// Keeps the node's rules and addresses as the Services want them, until `stop`.
pub(crate) async fn run(node: Arc<Node>, stop: CancellationToken) -> Result<(), Error> {
    let nft = find_nft()?;
    let mut changes = node.directory.changes();
    let mut written = String::new();
    let mut announced = BTreeSet::new();
    loop {
        changes.borrow_and_update();
        let (text, wanted) = {
            let known = node.directory.read();
            let ports = rules::ports(&known);
            (rules::text(&ports, &rules::far_hosts(&known)), rules::load_balancers(&known))
        };
        let mut retry = false;
        if text != written {
            match load(&nft, &node.netns(), text.clone()).await {
                Ok(()) => written = text,
                Err(error) => {
                    tracing::error!(%error, "the Services' rules stay as they were");
                    retry = true;
                }
            }
        }
        retry |= !announce(&node, &mut announced, wanted).await;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(RETRY), if retry => {}
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
        }
        tokio::time::sleep(COALESCE).await;
    }
}

/// Answers on the company network for just these load balancers' addresses.
async fn announce(node: &Node, announced: &mut BTreeSet<Ipv4Addr>, wanted: BTreeSet<Ipv4Addr>) -> bool {
    let mut done = true;
    for &address in wanted.difference(&announced.clone()) {
        match node.network.announce(address).await {
            Ok(()) => {
                announced.insert(address);
            }
            Err(error) => {
                tracing::error!(%error, %address, "a load balancer's address is not announced");
                done = false;
            }
        }
    }
    for &address in announced.clone().difference(&wanted) {
        match node.network.withdraw(address).await {
            Ok(()) => {
                announced.remove(&address);
            }
            Err(error) => {
                tracing::error!(%error, %address, "a load balancer's address is not withdrawn");
                done = false;
            }
        }
    }
    done
}

/// Hands rules to nft inside a network namespace. nft applies a file as one transaction.
pub(crate) async fn load(nft: &Path, netns: &Path, text: String) -> Result<(), Error> {
    let nft = nft.to_owned();
    let output = netns::inside(netns, move || {
        let mut child = Command::new(nft)
            .args(["-f", "-"])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        stdin.write_all(text.as_bytes())?;
        drop(stdin);
        child.wait_with_output()
    })
    .await
    .map_err(Error::io("run nft"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Rules { reason: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}
