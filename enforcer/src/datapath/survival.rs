//! What outlives the process, and what the process before left: docs/adr/0008.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    os::fd::AsFd,
};

use super::{Datapath, Legacy};
use crate::{
    adopt::{self, Past},
    error::Error,
    plan::{Image, Planner},
    sys,
};

impl Datapath {
    /// Goes on where the process before stopped.
    pub(super) fn resume(&mut self, past: Past) -> Result<(), Error> {
        match past {
            Past::Nothing => {}
            Past::Own(clock) => {
                self.clock = clock.now;
                let found = adopt::read(&self.maps, clock.generation, &self.links.pods())?;
                self.legacy = Some(Legacy { groups: found.groups.clone(), heirs: found.heirs() });
                let last_group = found.last_group();
                self.planner = Planner::resume(clock.generation, found.image, last_group);
                self.node = found.node;
                self.lanes = found.lanes;
                // What appeared meanwhile is not among them.
                self.foreign = self.maps.foreign.entries::<u32, u32>()?.into_iter().map(|(key, _)| key).collect();
                // The programs read the same maps as before: they may be newer, and need not wait.
                self.links.replace_foreign(&self.ebpf, &self.netns)?;
                tracing::info!(generation = clock.generation, "the tables of the process before stay in force");
            }
            Past::Other(clock) => {
                self.clock = clock.now;
                self.legacy = Some(Legacy { groups: BTreeSet::new(), heirs: HashMap::new() });
                // A generation that no flow was judged by.
                self.planner = Planner::resume(clock.generation, Image::default(), 0);
                tracing::info!(
                    generation = clock.generation,
                    "the tables of another version stay in force until these are complete"
                );
            }
        }
        Ok(())
    }

    /// Whether tables of a process before are in force still: the next [`Datapath::apply`] replaces them, so all pods that
    /// are here should be bound by then.
    pub fn is_adopted(&self) -> bool {
        self.legacy.is_some()
    }

    /// The interface at which a pod with this address stood when the process before ended, if that is attached still: it
    /// is the same interface, not another with its number.
    pub fn heir(&self, address: &IpAddr) -> Option<u32> {
        self.legacy.as_ref()?.heirs.get(address).copied()
    }

    /// The interfaces at which pods stood when the process before ended, as far as they are attached still.
    pub fn inherited(&self) -> impl Iterator<Item = u32> {
        self.legacy.iter().flat_map(|legacy| legacy.heirs.values().copied())
    }

    /// Puts back what somebody else has removed: programs, links, qdiscs, pins. One sentence on each. Costs a system call
    /// for each program, or two messages for each interface where they are filters.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn mend(&mut self) -> Result<Vec<String>, Error> {
        let mut mended = self.links.mend(&self.ebpf, &self.netns, self.pins.as_ref())?;
        if let Some(pins) = &self.pins {
            for name in pins.missing_maps() {
                let Some((_, map)) = self.pinned.iter().find(|(known, _)| known == name) else { continue };
                pins.make_folders()?;
                let path = pins.map(name);
                sys::pin(map.as_fd(), &path).map_err(|source| Error::Pin { path, source })?;
                mended.push(format!("the pin of the map {name} had been removed"));
            }
            if self.legacy.is_none() && self.links.has_foreign() {
                self.take_over()?;
            }
        }
        Ok(mended)
    }

    /// The first complete tables are in force in the own maps: puts the programs that read them in the place of others.
    pub(super) fn take_over(&mut self) -> Result<(), Error> {
        self.links.replace_foreign(&self.ebpf, &self.netns)?;
        let mut kept: HashSet<u32> = self.interfaces.values().copied().collect();
        kept.extend(&self.uplinks);
        kept.extend(&self.awaited);
        self.links.keep_only(&self.netns, self.pins.as_ref(), &kept)?;
        if let Some(pins) = &self.pins {
            for path in pins.forget_others()? {
                tracing::info!(path = %path.display(), "pins of another version removed");
            }
        }
        Ok(())
    }

    /// Whether it outlives the process.
    pub fn is_pinned(&self) -> bool {
        self.pins.is_some()
    }
}
