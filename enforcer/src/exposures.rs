//! How long new pods had an interface, and no policies in the kernel.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use signalbox_api::kernel::Exposure;

/// How many are remembered.
const KEPT: usize = 1024;

/// The latest ones. Cheap to clone: all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Exposures {
    latest: Arc<Mutex<VecDeque<Exposure>>>,
}

impl Exposures {
    /// One more.
    pub fn add(&self, exposure: Exposure) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == KEPT {
            latest.pop_front();
        }
        latest.push_back(exposure);
    }

    /// All that are remembered, the latest last.
    pub fn latest(&self) -> Vec<Exposure> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
