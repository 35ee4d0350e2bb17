//! Services of type LoadBalancer -> an address of the company network.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Service, ServiceStatus};
use kube::ResourceExt;

use super::cluster::Cluster;
use super::command::Command;
use super::events::{Note, Recorder};
use super::worker::{Controller, Inputs, Pass};

/// The addresses that the node announces on its company side: 198.51.100.200 to 198.51.100.250.
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 200);
const LAST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 250);

/// Runs [`decide`].
pub(crate) struct LoadBalancers {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) events: Recorder,
    /// Uids of Services that have been told that they get none: told once.
    pub(crate) told: BTreeSet<String>,
}

/// What becomes of the Services.
#[derive(Debug, Default)]
pub(crate) struct Decision {
    /// Addresses given, corrected and taken back.
    pub statuses: Vec<Command<Service>>,
    /// Services that get none, and why.
    pub refused: Vec<(Arc<Service>, String)>,
}

impl Controller for LoadBalancers {
    const NAME: &'static str = "loadbalancer";

    fn inputs(&self) -> Inputs {
        Inputs::default().and(&self.cluster.services)
    }

    async fn pass(&mut self) -> Pass {
        let decision = decide(&self.cluster.services.list());
        let refused: BTreeSet<_> = decision.refused.iter().filter_map(|(service, _)| service.uid()).collect();
        self.told.retain(|uid| refused.contains(uid));
        for (service, why) in decision.refused {
            if service.uid().is_some_and(|uid| self.told.insert(uid)) {
                self.events.record(service.as_ref(), Note::warning("SyncLoadBalancerFailed", why));
            }
        }
        let failed = self
            .cluster
            .services
            .carry_out_and_tell(
                &self.cluster.client,
                decision.statuses.into_iter().map(|command| ((), command)).collect(),
                |(), _, answer| {
                    if let Some((service, address)) =
                        answer.and_then(|service| Some((service, addresses(service).pop()?)))
                    {
                        self.events.record(
                            service,
                            Note::normal("EnsuredLoadBalancer", format!("Ensured load balancer: {address}")),
                        );
                    }
                },
            )
            .await;
        Pass { failed, wake_in: None }
    }
}

/// Decides for all Services together: no address belongs to two.
pub(crate) fn decide(services: &[Arc<Service>]) -> Decision {
    let mut decision = Decision::default();
    let mut taken = BTreeSet::new();
    let mut wanting = Vec::new();
    for service in services {
        let held = addresses(service);
        if !is_ours(service) {
            // What another implementation gave is not ours to take back.
            if service_type(service) != Some("LoadBalancer") && !held.is_empty() {
                decision.statuses.push(with_address(service, None));
            }
            continue;
        }
        let asked =
            service.spec.as_ref().and_then(|spec| spec.load_balancer_ip.clone()).filter(|text| !text.is_empty());
        wanting.push((service, held, asked));
    }
    // Who holds a good address keeps it, whoever asks for it; among holders of the same one the older.
    wanting.sort_by_key(|(service, ..)| (service.creation_timestamp().map(|time| time.0), service.uid()));
    let mut open = Vec::new();
    for (service, held, asked) in wanting {
        let keeps = held.len() == 1
            && asked.as_ref().is_none_or(|asked| *asked == held[0])
            && parse(&held[0]).is_some_and(|address| taken.insert(address));
        if !keeps {
            open.push((service, held, asked));
        }
    }
    for (service, held, asked) in open {
        match find(&mut taken, asked.as_deref()) {
            Ok(address) => decision.statuses.push(with_address(service, Some(address))),
            Err(why) => {
                if !held.is_empty() {
                    decision.statuses.push(with_address(service, None));
                }
                decision.refused.push((service.clone(), why));
            }
        }
    }
    decision
}

fn find(taken: &mut BTreeSet<Ipv4Addr>, asked: Option<&str>) -> Result<Ipv4Addr, String> {
    let Some(asked) = asked else {
        let free = (u32::from(FIRST)..=u32::from(LAST)).map(Ipv4Addr::from).find(|address| !taken.contains(address));
        let address = free.ok_or_else(|| {
            format!("spec.type: no address from {FIRST} to {LAST} is free; delete a LoadBalancer Service")
        })?;
        taken.insert(address);
        return Ok(address);
    };
    let address = parse(asked).ok_or_else(|| {
        format!(
            "spec.loadBalancerIP: {asked} is not one of the lab's addresses, {FIRST} to {LAST}; leave it out to get one"
        )
    })?;
    if taken.insert(address) {
        return Ok(address);
    }
    Err(format!("spec.loadBalancerIP: {address} belongs to another Service; leave it out to get a free one"))
}

fn parse(text: &str) -> Option<Ipv4Addr> {
    text.parse().ok().filter(|address| (FIRST..=LAST).contains(address))
}

fn service_type(service: &Service) -> Option<&str> {
    service.spec.as_ref()?.type_.as_deref()
}

fn is_ours(service: &Service) -> bool {
    service.metadata.deletion_timestamp.is_none()
        && service_type(service) == Some("LoadBalancer")
        && service.spec.as_ref().is_some_and(|spec| spec.load_balancer_class.is_none())
}

fn addresses(service: &Service) -> Vec<String> {
    let ingress = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    ingress.into_iter().flatten().filter_map(|ingress| ingress.ip.clone()).collect()
}

fn with_address(service: &Service, address: Option<Ipv4Addr>) -> Command<Service> {
    let ingress = address.map(|address| {
        vec![LoadBalancerIngress {
            ip: Some(address.to_string()),
            ip_mode: Some("VIP".to_owned()),
            ..LoadBalancerIngress::default()
        }]
    });
    let conditions = service.status.as_ref().and_then(|status| status.conditions.clone());
    let status = ServiceStatus { load_balancer: Some(LoadBalancerStatus { ingress }), conditions };
    Command::ReplaceStatus(Box::new(Service { status: Some(status), ..service.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `name type held asked created`, with `-` for nothing.
    fn service(line: &str) -> Arc<Service> {
        let words: Vec<_> = line.split(' ').collect();
        let given = |index: usize| words.get(index).copied().filter(|word| *word != "-");
        let mut value = json!({
            "metadata": {
                "name": words[0], "namespace": "n", "uid": words[0],
                "creationTimestamp": format!("2026-01-01T00:00:0{}Z", given(4).unwrap_or("0")),
            },
            "spec": {"type": words[1]},
        });
        if let Some(held) = given(2) {
            value["status"] = json!({"loadBalancer": {"ingress": [{"ip": format!("198.51.100.{held}")}]}});
        }
        if let Some(asked) = given(3) {
            value["spec"]["loadBalancerIP"] = json!(asked);
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn addresses_are_given_kept_and_taken_back() {
        type Case = (&'static str, &'static [&'static str], &'static [&'static str], &'static [&'static str]);
        let cases: &[Case] = &[
            (
                "the first two free",
                &["a LoadBalancer", "b LoadBalancer"],
                &["a 198.51.100.200", "b 198.51.100.201"],
                &[],
            ),
            ("who holds one keeps it", &["a LoadBalancer - - 1", "b LoadBalancer 200"], &["a 198.51.100.201"], &[]),
            ("another type gives it back", &["a ClusterIP 200"], &["a -"], &[]),
            (
                "the older of two holders keeps it",
                &["a LoadBalancer 200 - 2", "b LoadBalancer 200 - 1"],
                &["a 198.51.100.201"],
                &[],
            ),
            ("asked for", &["a LoadBalancer - 198.51.100.240"], &["a 198.51.100.240"], &[]),
            ("asked for another one", &["a LoadBalancer 200 198.51.100.240"], &["a 198.51.100.240"], &[]),
            ("asked for one that is taken", &["a LoadBalancer 240", "b LoadBalancer - 198.51.100.240"], &[], &["b"]),
            ("asked for one elsewhere", &["a LoadBalancer - 203.0.113.9"], &[], &["a"]),
            ("nothing to do", &["a LoadBalancer 200", "b ClusterIP"], &[], &[]),
        ];
        for (name, services, statuses, refused) in cases {
            let services: Vec<_> = services.iter().map(|line| service(line)).collect();
            let decision = decide(&services);
            let written: Vec<_> = decision
                .statuses
                .iter()
                .map(|command| match command {
                    Command::ReplaceStatus(service) => {
                        format!("{} {}", service.name_any(), addresses(service).pop().unwrap_or("-".into()))
                    }
                    other => panic!("{other}"),
                })
                .collect();
            assert_eq!(written, *statuses, "{name}");
            let told: Vec<_> = decision.refused.iter().map(|(service, _)| service.name_any()).collect();
            assert_eq!(told, *refused, "{name}");
        }
    }

    #[test]
    fn the_pool_ends() {
        let services: Vec<_> = (0..52).map(|n| service(&format!("s{n:02} LoadBalancer"))).collect();
        let decision = decide(&services);
        assert_eq!((decision.statuses.len(), decision.refused.len()), (51, 1));
        assert!(decision.refused[0].1.contains("198.51.100.200 to 198.51.100.250"));
    }
}
