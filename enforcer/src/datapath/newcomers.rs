//! Interfaces at which a pod is awaited: docs/adr/0009.

use std::collections::BTreeSet;

use signalbox_enforcer_common::policy::Unjudged;

use super::Datapath;
use crate::{error::Error, interfaces, links::Role, pins};

impl Datapath {
    /// Attaches to an interface that may be a pod's, before it is known whose: its packets are counted, and in strict mode
    /// dropped.
    ///
    /// # Errors
    ///
    /// As [`Datapath::bind`].
    pub fn await_pod(&mut self, interface: u32) -> Result<(), Error> {
        if self.awaited.contains(&interface) || self.interfaces.values().any(|known| *known == interface) {
            return Ok(());
        }
        self.maps.unjudged.update(&interface, &Unjudged::default())?;
        self.awaited.insert(interface);
        self.number_lanes()?;
        self.links.attach(&self.ebpf, &self.netns, self.pins.as_ref(), interface, Role::Pod)
    }

    /// No pod is awaited there any more, because it is bound or the interface is gone: the packets that nobody judged.
    /// `None`: none was awaited there.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn awaits_no_more(&mut self, interface: u32) -> Result<Option<Unjudged>, Error> {
        if !self.awaited.remove(&interface) {
            return Ok(None);
        }
        let mut counts = [Unjudged::default()];
        self.maps.unjudged.read(&interface, &mut counts)?;
        self.maps.unjudged.delete_all(&[interface])?;
        if !self.interfaces.values().any(|known| *known == interface) {
            self.links.detach(&self.netns, self.pins.as_ref(), interface)?;
            self.number_lanes()?;
        }
        Ok(Some(counts[0]))
    }

    /// Whether the node has no interface of this number. A list of all of them may lack one, where others come and go meanwhile.
    ///
    /// # Errors
    ///
    /// When the node's namespace cannot be entered.
    pub fn is_gone(&self, interface: u32) -> Result<bool, Error> {
        self.netns.enter(|| !interfaces::is_there(interface))
    }

    /// Lets go of what stood on interfaces that are gone, whoever left it there.
    ///
    /// # Errors
    ///
    /// When the node's namespace cannot be entered.
    pub fn forget_gone(&mut self, is_listed: impl Fn(u32) -> bool) -> Result<(), Error> {
        for interface in self.links.interfaces().into_iter().filter(|interface| !is_listed(*interface)) {
            if self.is_gone(interface)? {
                self.links.detach(&self.netns, self.pins.as_ref(), interface)?;
            }
        }
        // The mark of a qdisc on an interface that was gone before the filter came.
        let Some(pins) = &self.pins else { return Ok(()) };
        for interface in pins::qdiscs(&pins.own()).into_iter().filter(|interface| !is_listed(*interface)) {
            if self.is_gone(interface)? {
                pins::remove(&pins.qdisc(interface))?;
            }
        }
        Ok(())
    }

    /// Interfaces at which a pod is awaited.
    pub fn awaited(&self) -> &BTreeSet<u32> {
        &self.awaited
    }

    /// Interfaces of the node that are no pod's.
    pub fn foreign(&self) -> &BTreeSet<u32> {
        &self.foreign
    }

    /// Interfaces of the node that are no pod's. In strict mode a packet that comes by any other one, and by none of a pod
    /// that is bound, is dropped.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a write, or there are more than it has room for.
    pub fn set_foreign(&mut self, interfaces: BTreeSet<u32>) -> Result<(), Error> {
        let new: Vec<(u32, u32)> = interfaces.difference(&self.foreign).map(|interface| (*interface, 1)).collect();
        let gone: Vec<u32> = self.foreign.difference(&interfaces).copied().collect();
        self.maps.foreign.update_all(&new)?;
        self.maps.foreign.delete_all(&gone)?;
        self.foreign = interfaces;
        Ok(())
    }
}
