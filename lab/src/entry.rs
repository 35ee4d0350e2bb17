//! What a kubeconfig says of a cluster's server: written by the lab, read by the commands that look for one.

use kube::config::Kubeconfig;
use serde::{Deserialize, Serialize};

/// Where the lab keeps its state, `kubeconfig` among it, when nobody says where.
pub const DEFAULT_STATE: &str = "/var/lib/signalbox/lab";

/// The name of our entry in `extensions`.
const EXTENSION: &str = "signalbox.dev";

/// Where the server is that holds probe's and kernel's facts of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerEntry {
    /// The server's URL.
    pub server: String,
    /// What it asks for.
    pub token: String,
}

impl ServerEntry {
    /// The entry of the kubeconfig's current context, or any if no context is current.
    #[must_use]
    pub fn find(kubeconfig: &Kubeconfig) -> Option<Self> {
        let current = kubeconfig.current_context.as_deref();
        let of_context = kubeconfig
            .contexts
            .iter()
            .filter(|context| current.is_none_or(|current| current == context.name))
            .filter_map(|context| context.context.as_ref()?.extensions.as_ref())
            .flatten();
        let of_file = kubeconfig.extensions.iter().flatten();
        let entry = of_context.chain(of_file).find(|extension| extension.name == EXTENSION)?;
        serde_json::from_value(entry.extension.clone()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts:\n- name: a\n  context:\n    cluster: a\n    user: a\n    extensions:\n    - name: signalbox.dev\n      extension: {server: 'http://127.0.0.1:1', token: t}\n";

    #[test]
    fn the_current_contexts_server_is_found() {
        let kubeconfig = Kubeconfig::from_yaml(OURS).unwrap();
        let entry = ServerEntry { server: "http://127.0.0.1:1".into(), token: "t".into() };
        assert_eq!(ServerEntry::find(&kubeconfig), Some(entry));
        let other = Kubeconfig { current_context: Some("b".into()), ..kubeconfig };
        assert_eq!(ServerEntry::find(&other), None);
    }
}
