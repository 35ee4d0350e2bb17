//! Interfaces that may be a new pod's: docs/adr/0009.

use std::{
    collections::{BTreeSet, HashSet},
    time::Instant,
};

use signalbox_api::kernel::Exposure;
use signalbox_policy::PodRef;

use super::Core;
use crate::{config::Mode, error::Error, interfaces};

impl Core {
    /// Interfaces came or went.
    pub(super) fn take_interfaces(&mut self, news: &[interfaces::News]) {
        let now = Instant::now();
        for news in news {
            match news {
                interfaces::News::Appeared(interface, peer) => self.newcomers.appear(*interface, *peer, now),
                interfaces::News::Vanished(interface) => self.newcomers.vanish(*interface),
            }
        }
        if let Err(error) = self.await_newcomers() {
            tracing::error!(%error, "new interfaces could not be attached to; it is tried again");
            self.failure = Some(error.to_string());
        }
        self.look_again();
    }

    /// Attaches to interfaces that may be a new pod's, before anything is known of it.
    pub(super) fn await_newcomers(&mut self) -> Result<(), Error> {
        let bound: HashSet<u32> = self.datapath.bound().values().copied().collect();
        let candidates: BTreeSet<u32> =
            self.newcomers.candidates().filter(|interface| !bound.contains(interface)).collect();
        self.datapath.set_foreign(self.newcomers.foreign())?;
        let gone: Vec<u32> = self.datapath.awaited().difference(&candidates).copied().collect();
        for interface in gone {
            self.datapath.awaits_no_more(interface)?;
        }
        for interface in candidates {
            match self.datapath.await_pod(interface) {
                Ok(()) => {}
                // It may have vanished again: the next news, or the next comparison, says so.
                Err(error @ Error::Attach { .. }) => {
                    tracing::debug!(%error, interface, "cannot attach to a new interface")
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The pods that are bound have their policies: how long that took.
    pub(super) fn end_exposure(&mut self, bound: &[(PodRef, u32)]) -> Result<(), Error> {
        for (pod, interface) in bound {
            let since = self.newcomers.since(*interface);
            self.newcomers.bind(*interface);
            let (Some(since), Some(counts)) = (since, self.datapath.awaits_no_more(*interface)?) else {
                continue;
            };
            let exposure = Exposure {
                pod: format!("{}/{}", pod.namespace, pod.name),
                shut: self.mode == Mode::Strict,
                us: u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX),
                passed: counts.passed,
                dropped: counts.dropped,
            };
            tracing::info!(
                pod = exposure.pod,
                shut = exposure.shut,
                exposure_us = exposure.us,
                passed = exposure.passed,
                dropped = exposure.dropped,
                "a new pod has its policies"
            );
            self.meters.exposure.observe(since.elapsed().as_secs_f64());
            self.meters.unjudged_passed.inc_by(exposure.passed);
            self.meters.unjudged_dropped.inc_by(exposure.dropped);
            self.exposures.add(exposure);
        }
        self.datapath.set_foreign(self.newcomers.foreign())
    }
}
