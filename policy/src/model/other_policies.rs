//! The same cluster with other policies.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::model::{Model, read};
use crate::policy::Policy;

impl Model {
    /// All else as it is, also what was not understood. Of two policies with one name the later one counts. For questions
    /// only: the sources are still those of the policies before.
    pub(crate) fn with_policies(&self, policies: impl IntoIterator<Item = Arc<Policy>>) -> Self {
        let named: BTreeMap<_, _> = policies.into_iter().map(|policy| (policy.id.clone(), policy)).collect();
        let mut policies: Vec<Arc<Policy>> = named.into_values().collect();
        let has_calico = self.sources.has_calico();
        policies.sort_by(|a, b| read::order(a, b, has_calico));
        let mut model = Self { policies, standings: OnceLock::new(), ..self.clone() };
        model.family = model.only_family();
        model
    }
}
