//! The names of endpoints as people read them.

use std::collections::HashMap;
use std::sync::Arc;

use signalbox_api::state::{Endpoint, EndpointKind};

/// All endpoints by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directory {
    all: Arc<Vec<Endpoint>>,
    by_id: HashMap<String, usize>,
    replicas: HashMap<String, usize>,
}

impl Directory {
    /// Indexes the endpoints.
    pub fn new(all: Arc<Vec<Endpoint>>) -> Self {
        let by_id = all.iter().enumerate().map(|(at, endpoint)| (endpoint.id.clone(), at)).collect();
        let mut replicas = HashMap::new();
        for pod in all.iter().filter(|endpoint| endpoint.kind == EndpointKind::Pod) {
            *replicas.entry(pod.workload.clone()).or_default() += 1;
        }
        Self { all, by_id, replicas }
    }

    /// All of them, in the server's order.
    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.all.iter()
    }

    /// One of them.
    pub fn get(&self, id: &str) -> Option<&Endpoint> {
        self.by_id.get(id).map(|at| &self.all[*at])
    }

    /// `frontend/web`; with the pod's own ending where its workload has several.
    pub fn long(&self, id: &str) -> String {
        match self.get(id) {
            Some(endpoint) => match self.ending(endpoint) {
                Some(ending) => format!("{}·{ending}", endpoint.workload),
                None => endpoint.workload.clone(),
            },
            None => id.split_once(':').map_or(id, |(_, rest)| rest).to_owned(),
        }
    }

    /// `web`: [`Self::long`] without the namespace.
    pub fn short(&self, id: &str) -> String {
        let long = self.long(id);
        match long.split_once('/') {
            Some((_, name)) => name.to_owned(),
            None => long,
        }
    }

    /// What stands above the name: the namespace, or `outside`.
    pub fn place(&self, id: &str) -> String {
        self.get(id).and_then(|endpoint| endpoint.namespace.clone()).unwrap_or_else(|| "outside".to_owned())
    }

    fn ending<'a>(&self, endpoint: &'a Endpoint) -> Option<&'a str> {
        let several =
            endpoint.kind == EndpointKind::Pod && self.replicas.get(&endpoint.workload).is_some_and(|n| *n > 1);
        several.then(|| endpoint.name.rsplit('-').next()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;

    #[test]
    fn replicas_carry_their_ending_and_lone_pods_do_not() {
        let mut endpoints = sample::wide_open().endpoints;
        let alone = Directory::new(Arc::new(endpoints.clone()));
        assert_eq!(alone.long("pod:frontend/web-6d4-aaaaa"), "frontend/web");
        assert_eq!(alone.short("service:backend/dbsvc"), "dbsvc");
        assert_eq!(alone.place("outside:internet"), "outside");

        let mut twin = endpoints[0].clone();
        twin.id = "pod:frontend/web-6d4-bbbbb".into();
        twin.name = "web-6d4-bbbbb".into();
        endpoints.push(twin);
        let two = Directory::new(Arc::new(endpoints));
        assert_eq!(two.long("pod:frontend/web-6d4-bbbbb"), "frontend/web·bbbbb");
        assert_eq!(two.short("pod:frontend/web-6d4-aaaaa"), "web·aaaaa");
    }

    #[test]
    fn an_endpoint_that_is_gone_still_has_a_name() {
        assert_eq!(Directory::default().long("pod:a/b-1"), "a/b-1");
    }
}
