//! What the loop says of itself.

use std::time::Duration;

use signalbox_api::kernel::EnforcerStatus;
use signalbox_policy::PodRef;

use super::{Core, PATIENCE};

impl Core {
    /// Tells its condition, where that has changed. `took`: how long the last change took, if there was one.
    pub(super) fn publish(&self, took: Option<Duration>) {
        let ready = self.is_ready();
        let mut problems = self.problems.clone();
        problems.extend(self.store.problems());
        problems.extend(self.failure.iter().chain(&self.mend_failure).cloned());
        if self.is_audit {
            problems.push("this node is in audit: nothing is denied, what would be is only reported".to_owned());
        }
        let mut late: Vec<&PodRef> =
            self.missing.iter().filter(|(_, since)| since.elapsed() > PATIENCE).map(|(pod, _)| pod).collect();
        late.sort();
        problems.extend(late.into_iter().map(|pod| {
            format!("{}/{}: no network namespace with its address is found on the node", pod.namespace, pod.name)
        }));
        if !ready {
            let waits = "the first lists of namespaces, pods and policies are not complete yet";
            let meanwhile =
                if self.datapath.is_adopted() { "; the tables of the process before stay in force" } else { "" };
            problems.push(format!("{waits}{meanwhile}"));
        }
        problems.extend(self.mended.iter().map(|(_, what)| format!("{what} by somebody else; it was put back")));
        let lost_events = self.datapath.lost_events().unwrap_or_default();
        self.status.send_if_modified(|status| {
            let mut next = EnforcerStatus {
                node: self.node.clone(),
                enforcing: ready
                    && self.missing.is_empty()
                    && self.failure.is_none()
                    && self.mend_failure.is_none()
                    && self.datapath.generation() != 0,
                attach: self.datapath.attach_mode(),
                generation: self.datapath.generation(),
                policies_version: status.policies_version,
                pods: u32::try_from(self.pods.len()).unwrap_or(u32::MAX),
                last_apply_us: status.last_apply_us,
                problems,
                lost_events,
                mended: self.mends,
                link: None,
            };
            if ready && self.failure.is_none() {
                next.policies_version = self.store.policies_version();
            }
            if let Some(took) = took {
                next.last_apply_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            }
            let changed = *status != next;
            *status = next;
            changed
        });
    }
}
