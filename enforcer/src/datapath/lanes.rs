//! Pods behind bridges: docs/adr/0001.

use std::collections::{BTreeSet, HashMap};

use signalbox_enforcer_common::CONTROL_BRIDGED;

use super::Datapath;
use crate::{discover::View, error::Error};

impl Datapath {
    /// Tells the kernel which pods are behind which bridge, as the node has it now.
    ///
    /// # Errors
    ///
    /// When the node does not answer, or the kernel refuses a write.
    pub fn look_for_bridges(&mut self) -> Result<(), Error> {
        let view = View::of(&self.netns)?;
        self.set_masters(view.masters)
    }

    /// The interfaces of the node that are ports of a bridge, and which.
    pub(crate) fn set_masters(&mut self, masters: HashMap<u32, u32>) -> Result<(), Error> {
        self.masters = masters;
        self.number_lanes()
    }

    /// Numbers the pods behind bridges.
    pub(super) fn number_lanes(&mut self) -> Result<(), Error> {
        let pods: BTreeSet<u32> = self.interfaces.values().chain(&self.awaited).copied().collect();
        let change = self.lanes.update(&pods, &self.masters);
        self.maps.bridged.delete_all(&change.gone_bridged)?;
        self.maps.senders.delete_all(&change.gone_senders)?;
        self.maps.senders.update_all(&change.senders)?;
        self.maps.bridged.update_all(&change.bridged)?;
        self.maps.control.update(&CONTROL_BRIDGED, &u32::from(!self.lanes.is_empty()))
    }
}
