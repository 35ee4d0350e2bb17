//! The ServiceAccount `default` of each namespace.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::cluster::Cluster;
use super::command::Command;
use super::worker::{Controller, Inputs, Pass};

const DEFAULT: &str = "default";

/// Runs [`decide`].
pub(crate) struct ServiceAccounts {
    pub(crate) cluster: Arc<Cluster>,
}

impl Controller for ServiceAccounts {
    const NAME: &'static str = "serviceaccount";

    fn inputs(&self) -> Inputs {
        Inputs::default().and(&self.cluster.namespaces).and(&self.cluster.accounts)
    }

    async fn pass(&mut self) -> Pass {
        let cluster = &self.cluster;
        let commands = decide(&cluster.namespaces.list(), &cluster.accounts.list());
        Pass { failed: cluster.accounts.carry_out(&cluster.client, commands).await, wake_in: None }
    }
}

fn decide(namespaces: &[Arc<Namespace>], accounts: &[Arc<ServiceAccount>]) -> Vec<Command<ServiceAccount>> {
    let have: BTreeSet<_> = accounts
        .iter()
        .filter(|account| account.name_any() == DEFAULT)
        .filter_map(|account| account.namespace())
        .collect();
    namespaces
        .iter()
        .filter(|namespace| !is_ending(namespace) && !have.contains(&namespace.name_any()))
        .map(|namespace| {
            Command::Create(Box::new(ServiceAccount {
                metadata: ObjectMeta {
                    name: Some(DEFAULT.to_owned()),
                    namespace: Some(namespace.name_any()),
                    ..ObjectMeta::default()
                },
                ..ServiceAccount::default()
            }))
        })
        .collect()
}

/// Nothing new may be made in a namespace that is being deleted.
fn is_ending(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    namespace.metadata.deletion_timestamp.is_some() || phase == Some("Terminating")
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    fn namespace(name: &str) -> Namespace {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.into());
        namespace
    }

    fn account(namespace: &str, name: &str) -> Arc<ServiceAccount> {
        let mut account = ServiceAccount::default();
        account.metadata.name = Some(name.into());
        account.metadata.namespace = Some(namespace.into());
        Arc::new(account)
    }

    #[test]
    fn each_living_namespace_has_a_default_account() {
        let mut ending = namespace("ending");
        ending.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        let namespaces = [namespace("with"), namespace("without"), namespace("other-name"), ending].map(Arc::new);
        let accounts = [account("with", "default"), account("other-name", "robot")];
        let created: Vec<_> = decide(&namespaces, &accounts).iter().map(ToString::to_string).collect();
        assert_eq!(created, ["create without/default", "create other-name/default"]);
    }
}
