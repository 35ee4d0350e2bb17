//! Programs on interfaces. What they stand at is asked of the kernel again and again: see [`Links::mend`].

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    programs::{ProgramFd, SchedClassifier},
    util::KernelVersion,
};
use signalbox_api::kernel::AttachMode;

use crate::{
    config::AttachPreference,
    error::Error,
    filters::{self, Filter},
    interfaces,
    netns::Netns,
    pins::{self, Pins},
    sys::{self, Hook},
};

/// What an interface is to the enforcer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The host interface of a pod.
    Pod,
    /// It leads out of the node.
    Uplink,
}

impl Role {
    /// The programs for ingress and egress.
    const fn programs(self) -> [(&'static str, Hook); 2] {
        match self {
            Self::Pod => [("from_pod", Hook::Ingress), ("to_pod", Hook::Egress)],
            Self::Uplink => [("from_uplink", Hook::Ingress), ("to_uplink", Hook::Egress)],
        }
    }

    /// The programs of both roles.
    pub const PROGRAMS: [&'static str; 4] = ["from_pod", "to_pod", "from_uplink", "to_uplink"];

    /// The role whose program it is, its name and its hook.
    fn of_program(name: &str) -> Option<(Self, &'static str, Hook)> {
        [Self::Pod, Self::Uplink].into_iter().find_map(|role| {
            let (known, hook) = role.programs().into_iter().find(|(known, _)| *known == name)?;
            Some((role, known, hook))
        })
    }
}

/// A program that stands on an interface.
#[derive(Debug)]
enum Stand {
    /// A link on tcx: it stands while it is open here, or pinned.
    Tcx(OwnedFd),
    /// A filter of clsact: it stands until it is removed.
    Filter,
}

/// One interface.
#[derive(Debug)]
struct Attached {
    role: Role,
    stands: HashMap<&'static str, Stand>,
    /// The programs are another process's, and read another set of maps than ours.
    is_foreign: bool,
}

/// The programs that stand on interfaces.
#[derive(Debug)]
pub struct Links {
    preference: AttachPreference,
    mode: AttachMode,
    attached: HashMap<u32, Attached>,
    /// Looks so far: see [`due`].
    looks: usize,
    /// Something has stood on tcx: the kernel has it.
    has_tcx: bool,
}

/// Filters are asked for interface by interface. Where there are many, a look is at a third of them, so that all are looked at
/// in three looks, which the caller makes within a second.
const FILTERS_AT_ONCE: usize = 64;
const PARTS: usize = 3;

/// The interfaces that are due at one look.
fn due(mut interfaces: Vec<u32>, look: usize) -> Vec<u32> {
    if interfaces.len() > FILTERS_AT_ONCE {
        interfaces.retain(|interface| *interface as usize % PARTS == look % PARTS);
    }
    interfaces
}

impl Links {
    /// Nothing is attached yet.
    pub fn new(preference: AttachPreference) -> Self {
        let has_tcx = KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0));
        let mode = match preference {
            AttachPreference::Tcx => AttachMode::Tcx,
            AttachPreference::Clsact => AttachMode::Clsact,
            AttachPreference::Auto if has_tcx => AttachMode::Tcx,
            AttachPreference::Auto => AttachMode::Clsact,
        };
        Self { preference, mode, attached: HashMap::new(), looks: 0, has_tcx: false }
    }

    /// Which way of attaching is in use; `None` while nothing is attached.
    pub fn mode(&self) -> Option<AttachMode> {
        (!self.attached.is_empty()).then_some(self.mode)
    }

    /// Takes over what a process before left on interfaces. Where something stands, the interface is the very one that it
    /// was attached to: both kinds end with it. Nothing is replaced yet: see [`Links::replace_foreign`].
    ///
    /// # Errors
    ///
    /// When the node's namespace cannot be looked at.
    pub fn adopt(&mut self, pins: &Pins, netns: &Netns) -> Result<(), Error> {
        let links: Vec<_> =
            std::iter::once(pins.own()).chain(pins.others()).flat_map(|set| pins::links(&set)).collect();
        let filters = netns.enter(|| filters::list(&interfaces()?))??;
        // Both at once would judge every packet twice, and each by tables of its own.
        let found = match (links.is_empty(), filters.is_empty()) {
            (false, true) => AttachMode::Tcx,
            (true, false) => AttachMode::Clsact,
            (true, true) | (false, false) => self.mode,
        };
        if found != self.mode && self.preference != AttachPreference::Auto {
            return Err(Error::AttachedOtherwise { found });
        }
        self.mode = found;
        match self.mode {
            AttachMode::Tcx => {
                for link in links {
                    let Some((role, program, _)) = Role::of_program(&link.program) else { continue };
                    let open = sys::open_pin(&link.path).and_then(|fd| sys::link_facts(fd.as_fd()).map(|it| (fd, it)));
                    match open {
                        Ok((fd, facts)) if facts.interface == link.interface => {
                            self.take(link.interface, role, program, Stand::Tcx(fd));
                            // Whatever set it came from: from now on it is found here.
                            let own = pins.link(link.interface, program);
                            if own != link.path {
                                move_pin(&link.path, &own)?;
                            }
                        }
                        // Its interface is gone, or somebody has detached it.
                        Ok(_) => pins::remove(&link.path)?,
                        Err(error) => {
                            tracing::warn!(path = %link.path.display(), %error, "a pinned link cannot be opened");
                            pins::remove(&link.path)?;
                        }
                    }
                }
            }
            AttachMode::Clsact => {
                for ((interface, hook), filter) in filters {
                    match Role::of_program(&filter.name) {
                        Some((role, program, its)) if its == hook => self.take(interface, role, program, Stand::Filter),
                        Some(_) | None => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, interface: u32, role: Role, program: &'static str, stand: Stand) {
        self.has_tcx |= matches!(stand, Stand::Tcx(_));
        let fresh = || Attached { role, stands: HashMap::new(), is_foreign: true };
        self.attached.entry(interface).or_insert_with(fresh).stands.insert(program, stand);
    }

    /// The interfaces of pods that something stands on.
    pub fn pods(&self) -> HashSet<u32> {
        self.attached.iter().filter(|(_, it)| it.role == Role::Pod).map(|(interface, _)| *interface).collect()
    }

    /// Whether anything of another process is in force.
    pub fn has_foreign(&self) -> bool {
        self.attached.values().any(|it| it.is_foreign)
    }

    /// The maps of a program of another process.
    pub fn foreign_maps(&self, netns: &Netns) -> Vec<OwnedFd> {
        let mut programs = self.attached.values().flat_map(|it| it.stands.values()).filter_map(|stand| match stand {
            Stand::Tcx(fd) => sys::link_facts(fd.as_fd()).ok().map(|facts| facts.program),
            Stand::Filter => None,
        });
        let program = programs.next().or_else(|| {
            let found = netns.enter(|| filters::list(&self.interfaces())).and_then(|found| found).ok()?;
            found.into_values().next().map(|filter| filter.program)
        });
        program.and_then(|program| sys::maps_of_program(program).ok()).unwrap_or_default()
    }

    /// Puts our programs in the place of those of another process, each without a moment between.
    ///
    /// # Errors
    ///
    /// When the kernel refuses one; the others are replaced all the same.
    pub fn replace_foreign(&mut self, ebpf: &Ebpf, netns: &Netns) -> Result<(), Error> {
        let mut result = Ok(());
        for (interface, attached) in self.attached.iter_mut().filter(|(_, it)| it.is_foreign) {
            let mut replaced = Ok(());
            for (program, hook) in attached.role.programs() {
                let Some(stand) = attached.stands.get(program) else { continue };
                replaced = replaced.and_then(|()| replace(stand, fd(ebpf, program)?, netns, *interface, program, hook));
            }
            match replaced {
                Ok(()) => attached.is_foreign = false,
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// Attaches both programs of the role; nothing happens where they are attached already.
    ///
    /// # Errors
    ///
    /// When the interface is gone, or the kernel refuses.
    pub fn attach(
        &mut self,
        ebpf: &Ebpf,
        netns: &Netns,
        pins: Option<&Pins>,
        interface: u32,
        role: Role,
    ) -> Result<(), Error> {
        if self.attached.get(&interface).is_some_and(|known| known.role != role) {
            self.detach(netns, pins, interface)?;
        }
        let fresh = || Attached { role, stands: HashMap::new(), is_foreign: false };
        let known = self.attached.get(&interface).map(|it| it.stands.keys().copied().collect::<Vec<_>>());
        let known = known.unwrap_or_default();
        for (program, hook) in role.programs().into_iter().filter(|(program, _)| !known.contains(program)) {
            let file = fd(ebpf, program)?;
            let mut made = netns.enter(|| put(file, self.mode, pins, interface, program, hook))?;
            if made.as_ref().is_err_and(|error| self.may_fall_back(error)) {
                tracing::warn!("this kernel attaches nothing to tcx, whatever its version: clsact is taken");
                self.mode = AttachMode::Clsact;
                made = netns.enter(|| put(file, self.mode, pins, interface, program, hook))?;
            }
            let made = made?;
            self.has_tcx |= matches!(made, Stand::Tcx(_));
            self.attached.entry(interface).or_insert_with(fresh).stands.insert(program, made);
        }
        Ok(())
    }

    /// A kernel's version promises tcx, but it may be built without: then it knows no such place.
    fn may_fall_back(&self, error: &Error) -> bool {
        let unknown = matches!(error, Error::Attach { source, .. } if source.raw_os_error() == Some(libc::EINVAL));
        let is_asked_for = self.preference != AttachPreference::Auto;
        unknown && !is_asked_for && self.mode == AttachMode::Tcx && !self.has_tcx
    }

    /// Detaches, where the interface still exists.
    ///
    /// # Errors
    ///
    /// When the node's namespace cannot be entered.
    pub fn detach(&mut self, netns: &Netns, pins: Option<&Pins>, interface: u32) -> Result<(), Error> {
        let Some(attached) = self.attached.remove(&interface) else {
            return Ok(());
        };
        for (program, hook) in attached.role.programs() {
            match attached.stands.get(program) {
                Some(Stand::Tcx(_)) => {
                    if let Some(pins) = pins {
                        pins::remove(&pins.link(interface, program))?;
                    }
                }
                Some(Stand::Filter) => {
                    let removed = netns.enter(|| filters::remove(interface, hook))?;
                    removed.map_err(|source| Error::Attach { ifindex: interface, source })?;
                }
                None => {}
            }
        }
        if let Some(pins) = pins
            && pins.qdisc(interface).exists()
        {
            netns.enter(|| remove_own_qdisc(interface))??;
            pins::remove(&pins.qdisc(interface))?;
        }
        Ok(())
    }

    /// Detaches everything but these.
    ///
    /// # Errors
    ///
    /// When the node's namespace cannot be entered.
    pub fn keep_only(&mut self, netns: &Netns, pins: Option<&Pins>, kept: &HashSet<u32>) -> Result<(), Error> {
        let gone: Vec<u32> = self.interfaces().into_iter().filter(|interface| !kept.contains(interface)).collect();
        gone.into_iter().try_for_each(|interface| self.detach(netns, pins, interface))
    }

    /// Puts back what somebody else has removed or replaced; one sentence on each. An interface that is gone is not mended.
    ///
    /// # Errors
    ///
    /// When the node's namespace cannot be looked at, or the kernel refuses.
    pub fn mend(&mut self, ebpf: &Ebpf, netns: &Netns, pins: Option<&Pins>) -> Result<Vec<String>, Error> {
        let mut mended = Vec::new();
        let pinned: Option<BTreeSet<PathBuf>> =
            pins.map(|pins| pins::links(&pins.own()).into_iter().map(|link| link.path).collect());
        self.looks = self.looks.wrapping_add(1);
        let (looked_at, standing) = match self.mode {
            AttachMode::Tcx => (self.interfaces(), HashMap::new()),
            AttachMode::Clsact => {
                let due = due(self.interfaces(), self.looks);
                let found = netns.enter(|| filters::list(&due))??;
                (due, found)
            }
        };
        for (interface, attached) in self.attached.iter_mut().filter(|(interface, _)| looked_at.contains(interface)) {
            for (program, hook) in attached.role.programs() {
                let Some(stand) = attached.stands.get_mut(program) else { continue };
                let ours = || -> Result<u32, Error> {
                    sys::program_id(fd(ebpf, program)?.as_fd())
                        .map_err(|source| Error::Io { what: "a program", source })
                };
                let found = match stand {
                    Stand::Tcx(link) => {
                        let facts = sys::link_facts(link.as_fd());
                        let facts = facts.map_err(|source| Error::Attach { ifindex: *interface, source })?;
                        (facts.interface != 0).then_some(facts.program)
                    }
                    Stand::Filter => standing.get(&(*interface, hook)).map(|filter: &Filter| filter.program),
                };
                match found {
                    Some(program_there) if attached.is_foreign || program_there == ours()? => {}
                    Some(_) => {
                        replace(stand, fd(ebpf, program)?, netns, *interface, program, hook)?;
                        mended.push(format!(
                            "interface {interface}: another program had been put in the place of {program}"
                        ));
                    }
                    None if !netns.enter(|| interfaces::is_there(*interface))? => {}
                    None => {
                        let (mode, file) = (self.mode, fd(ebpf, program)?);
                        match netns.enter(|| put(file, mode, pins, *interface, program, hook))? {
                            Ok(made) => *stand = made,
                            // It may be going away just now: then the next look finds it gone.
                            Err(Error::Attach { source, .. }) if is_gone(&source) => continue,
                            Err(error) => return Err(error),
                        }
                        mended.push(format!("interface {interface}: {program} had been removed"));
                        continue;
                    }
                }
                if let (Stand::Tcx(link), Some(pins), Some(pinned), Some(_)) = (&*stand, pins, &pinned, found) {
                    let path = pins.link(*interface, program);
                    if !pinned.contains(&path) {
                        pins.make_folders()?;
                        sys::pin(link.as_fd(), &path).map_err(|source| Error::Pin { path, source })?;
                        mended.push(format!("interface {interface}: the pin of {program} had been removed"));
                    }
                }
            }
        }
        Ok(mended)
    }

    /// The interfaces that something stands on.
    pub fn interfaces(&self) -> Vec<u32> {
        self.attached.keys().copied().collect()
    }
}

/// What an uninstallation removed from interfaces: one sentence on each.
///
/// # Errors
///
/// When the node's namespace cannot be looked at.
pub fn remove_all(netns: &Netns, sets: &[PathBuf]) -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    for link in sets.iter().flat_map(|set| pins::links(set)) {
        if let Ok(fd) = sys::open_pin(&link.path) {
            let stood = sys::link_facts(fd.as_fd()).is_ok_and(|facts| facts.interface != 0);
            // Whoever else has it open: it stands no more.
            let detached = sys::detach(fd.as_fd());
            if let Err(error) = detached {
                tracing::debug!(%error, path = %link.path.display(), "a link had ended already");
            }
            if stood {
                removed.push(format!("interface {}: {} (tcx)", link.interface, link.program));
            }
        }
        pins::remove(&link.path)?;
    }
    let qdiscs: BTreeSet<u32> = sets.iter().flat_map(|set| pins::qdiscs(set)).collect();
    netns.enter(|| {
        let mut found: Vec<_> = filters::list(&interfaces()?)?.into_iter().collect();
        found.sort_by_key(|((interface, _), filter)| (*interface, filter.name.clone()));
        for ((interface, hook), filter) in found {
            if let Some((_, program, _)) = Role::of_program(&filter.name) {
                let gone = filters::remove(interface, hook);
                gone.map_err(|source| Error::Attach { ifindex: interface, source })?;
                removed.push(format!("interface {interface}: {program} (clsact)"));
            }
        }
        for interface in qdiscs {
            if remove_own_qdisc(interface)? {
                removed.push(format!("interface {interface}: the clsact qdisc"));
            }
        }
        Ok(removed)
    })?
}

/// The interfaces of the namespace that the thread is in.
fn interfaces() -> Result<Vec<u32>, Error> {
    let known = nix::net::if_::if_nameindex();
    let known = known.map_err(|errno| Error::Io { what: "the node's interfaces", source: errno.into() })?;
    Ok(known.iter().map(|interface| interface.index()).collect())
}

/// A program's descriptor.
fn fd<'a>(ebpf: &'a Ebpf, program: &'static str) -> Result<&'a ProgramFd, Error> {
    let classifier: &SchedClassifier = ebpf
        .program(program)
        .ok_or(Error::Mismatch { kind: "program", name: program })?
        .try_into()
        .map_err(|source| Error::Program { program, source })?;
    classifier.fd().map_err(|source| Error::Program { program, source })
}

/// Puts our program in the place of another.
fn replace(
    stand: &Stand,
    program: &ProgramFd,
    netns: &Netns,
    interface: u32,
    name: &'static str,
    hook: Hook,
) -> Result<(), Error> {
    let replaced = match stand {
        Stand::Tcx(link) => sys::replace(link.as_fd(), program.as_fd()),
        Stand::Filter => netns.enter(|| filters::put(interface, hook, program.as_fd(), name))?,
    };
    replaced.map_err(|source| Error::Attach { ifindex: interface, source })
}

/// Attaches one program, in the namespace that the thread is in.
fn put(
    program: &ProgramFd,
    mode: AttachMode,
    pins: Option<&Pins>,
    interface: u32,
    name: &'static str,
    hook: Hook,
) -> Result<Stand, Error> {
    let refuse = |source: io::Error| Error::Attach { ifindex: interface, source };
    match mode {
        AttachMode::Tcx => {
            let link = sys::attach(program.as_fd(), interface, hook).map_err(refuse)?;
            if let Some(pins) = pins {
                let path = pins.link(interface, name);
                // What is pinned there is a link of an interface that had the same number.
                pins::remove(&path)?;
                pins.make_folders()?;
                sys::pin(link.as_fd(), &path).map_err(|source| Error::Pin { path, source })?;
            }
            Ok(Stand::Tcx(link))
        }
        AttachMode::Clsact => {
            if filters::make_qdisc(interface).map_err(refuse)?
                && let Some(pins) = pins
            {
                let path = pins.qdisc(interface);
                fs::create_dir_all(&path).map_err(|source| Error::Pin { path, source })?;
            }
            filters::put(interface, hook, program.as_fd(), name).map_err(refuse)?;
            Ok(Stand::Filter)
        }
    }
}

/// Removes the qdisc that was made for our filters, unless somebody else uses it by now; whether it did.
fn remove_own_qdisc(interface: u32) -> Result<bool, Error> {
    if !interfaces::is_there(interface) || !filters::is_bare(interface)? {
        return Ok(false);
    }
    filters::remove_qdisc(interface).map_err(|source| Error::Attach { ifindex: interface, source })?;
    Ok(true)
}

/// Renames a pin, over what lies there.
fn move_pin(from: &Path, to: &Path) -> Result<(), Error> {
    pins::remove(to)?;
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(|source| Error::Pin { path: folder.to_owned(), source })?;
    }
    fs::rename(from, to).map_err(|source| Error::Pin { path: to.to_owned(), source })
}

/// Whether an interface is going away just now.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT | libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_filters_are_looked_at_every_time_and_many_within_three() {
        let few: Vec<u32> = (2..40).collect();
        assert_eq!(due(few.clone(), 7), few);
        let many: Vec<u32> = (2..400).collect();
        for start in [0, 1, usize::MAX - 3] {
            let mut seen: Vec<u32> = (start..start + PARTS).flat_map(|look| due(many.clone(), look)).collect();
            seen.sort_unstable();
            assert_eq!(seen, many);
        }
    }
}
