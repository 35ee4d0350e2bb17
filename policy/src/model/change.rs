//! The same cluster with other policies.

use crate::model::Model;
use crate::policy::Policy;

impl Model {
    /// All else as it is. Of two policies with one name the later one counts.
    pub(crate) fn with_policies(&self, policies: impl IntoIterator<Item = Policy>) -> Self {
        let mut model = self.clone();
        let named: std::collections::BTreeMap<_, _> =
            policies.into_iter().map(|policy| (policy.id.clone(), policy)).collect();
        model.policies = named.into_values().collect();
        model.policies.sort_by(|a, b| a.rank.cmp(&b.rank).then_with(|| a.id.cmp(&b.id)));
        model.family = model.only_family();
        model.stand();
        model
    }
}
