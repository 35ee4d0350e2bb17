//! The hosts outside the cluster, as `ExternalHost` objects say.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::kubelet::event::{Kind, Recorder};
use crate::network::{NODE_COMPANY, NODE_INTERNET, Side};
use crate::node::{Node, Place, environment};

/// A host's process that has ended starts again after so long.
const RESTART: Duration = Duration::from_millis(500);

/// The kind, as the API serves it.
pub(crate) fn resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("signalbox.dev", "v1alpha1", "ExternalHost"),
        "externalhosts",
    )
}

/// What an `ExternalHost` says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HostSpec {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) names: Vec<String>,
    ports: Vec<Port>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Port {
    port: u16,
    #[serde(default = "tcp")]
    protocol: String,
}

fn tcp() -> String {
    "TCP".to_owned()
}

/// Reads an object's spec.
pub(crate) fn spec(object: &DynamicObject) -> Result<HostSpec, serde_json::Error> {
    HostSpec::deserialize(&object.data["spec"])
}

/// Runs until `stop`.
pub(crate) async fn run(node: Arc<Node>, client: Client, stop: CancellationToken) -> Result<(), Error> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource());
    let mut events = watch_objects(api, watcher::Config::default()).default_backoff().boxed();
    let mut hosts = Hosts { node, client, running: HashMap::new() };
    let mut listed = HashSet::new();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => break,
            event = events.next() => event,
        };
        match event {
            None => break,
            Some(Err(error)) => tracing::warn!(%error, "the watch of external hosts was interrupted"),
            Some(Ok(Event::Init)) => listed.clear(),
            Some(Ok(Event::InitApply(object))) => {
                listed.insert(object.name_any());
                hosts.apply(&object).await;
            }
            Some(Ok(Event::InitDone)) => {
                let gone: Vec<String> = hosts.running.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                for name in gone {
                    hosts.remove(&name).await;
                }
            }
            Some(Ok(Event::Apply(object))) => hosts.apply(&object).await,
            Some(Ok(Event::Delete(object))) => hosts.remove(&object.name_any()).await,
        }
    }
    Ok(())
}

struct Running {
    spec: HostSpec,
    stop: CancellationToken,
}

struct Hosts {
    node: Arc<Node>,
    client: Client,
    running: HashMap<String, Running>,
}

impl Hosts {
    async fn apply(&mut self, object: &DynamicObject) {
        let name = object.name_any();
        let about = ObjectReference {
            api_version: Some("signalbox.dev/v1alpha1".to_owned()),
            kind: Some("ExternalHost".to_owned()),
            name: Some(name.clone()),
            uid: object.uid(),
            ..Default::default()
        };
        let events = Recorder::new(self.client.clone(), self.node.name(), about);
        let spec = match spec(object) {
            Ok(spec) => spec,
            Err(error) => {
                events.record(Kind::Warning, "Refused", format!("spec: {error}"));
                return self.remove(&name).await;
            }
        };
        if self.running.get(&name).is_some_and(|running| running.spec == spec) {
            return;
        }
        self.remove(&name).await;
        let taken: HashSet<IpAddr> = self.running.values().flat_map(|host| host.spec.addresses.clone()).collect();
        let (side, addresses) = match place(&spec.addresses, &taken) {
            Ok(place) => place,
            Err(reason) => {
                tracing::warn!(host = %name, %reason, "external host refused");
                return events.record(Kind::Warning, "Refused", reason);
            }
        };
        match self.node.open(&format!("host {name}"), &name, Place::Outside(side, addresses)).await {
            Ok(instance) => {
                self.node.register_host(&name, &instance);
                let stop = CancellationToken::new();
                let serving = serve(instance, name.clone(), spec.ports.clone());
                tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
                self.running.insert(name, Running { spec, stop });
            }
            Err(error) => {
                tracing::error!(host = %name, %error, "external host not started");
                events.record(Kind::Warning, "Failed", format!("cannot start the host: {error}"));
            }
        }
    }

    async fn remove(&mut self, name: &str) {
        if let Some(running) = self.running.remove(name) {
            running.stop.cancel();
        }
        if let Some(instance) = self.node.unregister_host(name) {
            self.node.close(&instance).await;
        }
    }
}

/// Keeps the host's listeners up.
async fn serve(instance: Arc<crate::instance::Instance>, name: String, ports: Vec<Port>) {
    let mut argv: Vec<String> = ["/bin/signalbox-probe", "serve", "--name", &name].map(str::to_owned).into();
    for port in &ports {
        argv.extend(["--port".to_owned(), format!("{}/{}", port.protocol, port.port)]);
    }
    loop {
        match instance.start("host", argv.clone(), environment(&name)).await {
            Ok(process) => {
                let Ok(end) = process.exit.await else { return };
                tracing::warn!(host = %name, ?end, "its process ended");
            }
            Err(error) => tracing::error!(host = %name, %error, "its process did not start"),
        }
        tokio::time::sleep(RESTART).await;
    }
}

/// On which side a host with these addresses lives. Only the ranges that documentation owns are taken, so that no
/// lab ever stands in for a host that exists.
fn place(addresses: &[IpAddr], taken: &HashSet<IpAddr>) -> Result<(Side, Vec<Ipv4Addr>), String> {
    let mut found: Option<Side> = None;
    let mut own = Vec::new();
    for address in addresses {
        let IpAddr::V4(v4) = *address else {
            return Err(format!("spec.addresses: {address}: the lab's networks carry IPv4 only"));
        };
        if !v4.is_documentation() {
            return Err(format!(
                "spec.addresses: {address} is in none of the documentation ranges 192.0.2.0/24, 198.51.100.0/24, \
                 203.0.113.0/24; the lab takes no others"
            ));
        }
        let last = v4.octets()[3];
        if v4 == NODE_COMPANY.addr() || v4 == NODE_INTERNET.addr() || matches!(last, 0 | 255) {
            return Err(format!("spec.addresses: {address} is the node's own or no host's"));
        }
        let side = if NODE_COMPANY.contains(&v4) { Side::Company } else { Side::Internet };
        if side == Side::Company && (200..=250).contains(&last) {
            return Err(format!("spec.addresses: {address}: 198.51.100.200 to 250 are the load balancers'"));
        }
        if taken.contains(address) {
            return Err(format!("spec.addresses: {address} is another host's"));
        }
        if found.is_some_and(|found| found != side) {
            return Err("spec.addresses: a host is either in the company's network or outside it".to_owned());
        }
        found = Some(side);
        own.push(v4);
    }
    match found {
        Some(side) => Ok((side, own)),
        None => Err("spec.addresses: a host needs an address".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let taken = HashSet::from(["198.51.100.20".parse().expect("an address")]);
        let cases = [
            ("198.51.100.100", Some(Side::Company)),
            ("203.0.113.10", Some(Side::Internet)),
            ("192.0.2.7", Some(Side::Internet)),
            ("8.8.8.8", None),
            ("10.244.0.9", None),
            ("198.51.100.10", None),
            ("198.51.100.20", None),
            ("198.51.100.222", None),
            ("203.0.113.255", None),
            ("2001:db8::1", None),
        ];
        for (address, expected) in cases {
            let placed = place(&[address.parse().expect("an address")], &taken).ok().map(|(side, _)| side);
            assert_eq!(placed, expected, "{address}");
        }
        let both = ["198.51.100.7", "203.0.113.7"].map(|address| address.parse().expect("an address"));
        assert!(place(&both, &taken).is_err());
        assert!(place(&[], &taken).is_err());
    }
}
