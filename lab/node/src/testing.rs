//! What this crate's own tests need of its inside: pods and hosts without a Kubernetes API.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::Value;

use crate::error::Error;
use crate::network::Side;
use crate::node::{Node, Place, environment};

/// A pod or host that a test has started.
#[derive(Debug)]
pub struct Started {
    instance: Arc<crate::instance::Instance>,
}

impl Started {
    /// Its first address.
    pub fn address(&self) -> Ipv4Addr {
        self.instance.addresses[0]
    }

    /// The process id of its init, as the machine counts.
    pub fn init(&self) -> i32 {
        self.instance.sandbox.init()
    }

    /// The TCP ports that somebody listens on in its network namespace.
    pub fn listens_on(&self, port: u16) -> bool {
        let listener = crate::kubelet::listeners::Listener::Tcp(port);
        crate::kubelet::listeners::of_process(self.init()).is_ok_and(|open| open.contains(&listener))
    }
}

/// Starts a pod whose probe serves these ports.
pub async fn start_pod(node: &Node, namespace: &str, name: &str, ports: &[&str]) -> Result<Started, Error> {
    let instance = node.open(&format!("pod {namespace}/{name}"), name, Place::Pod).await?;
    node.register_pod(namespace, name, &instance);
    serve(&instance, name, ports).await?;
    Ok(Started { instance })
}

/// Starts a host outside.
pub async fn start_host(node: &Node, name: &str, address: Ipv4Addr, ports: &[&str]) -> Result<Started, Error> {
    let side = if crate::network::NODE_COMPANY.contains(&address) { Side::Company } else { Side::Internet };
    let instance = node.open(&format!("host {name}"), name, Place::Outside(side, vec![address])).await?;
    node.register_host(name, &instance);
    serve(&instance, name, ports).await?;
    Ok(Started { instance })
}

async fn serve(instance: &Arc<crate::instance::Instance>, name: &str, ports: &[&str]) -> Result<(), Error> {
    let mut argv: Vec<String> = ["/bin/signalbox-probe", "serve", "--name", name].map(str::to_owned).into();
    for port in ports {
        argv.extend(["--port".to_owned(), (*port).to_owned()]);
    }
    instance
        .start("probe", argv, environment(name))
        .await
        .map(drop)
        .map_err(|error| Error::Setup { who: name.to_owned(), reason: error.to_string() })
}

/// Ends a pod.
pub async fn stop_pod(node: &Node, namespace: &str, name: &str, pod: Started) {
    node.close(&pod.instance).await;
    node.unregister_pod(namespace, name, &pod.instance);
}

/// Says what the cluster's Services, EndpointSlices and hosts are, and has the node follow.
pub fn tell(node: &Node, services: Value, slices: Value, hosts: Value) {
    let known = crate::directory::from_json(services, slices, hosts);
    node.directory.update(|current| *current = known);
}

/// The service proxy, without a Kubernetes API: runs until it is dropped.
pub async fn proxy(node: Arc<Node>) -> Result<(), Error> {
    crate::proxy::run(node, tokio_util::sync::CancellationToken::new()).await
}

/// DNS in a pod, until the guard is dropped.
pub async fn dns(node: &Arc<Node>, pod: &Started) -> Result<impl Send + use<>, Error> {
    crate::dns::serve(node, &pod.instance).await
}
