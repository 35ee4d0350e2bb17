//! Programs on interfaces.

use std::{collections::HashMap, io};

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType, TcError,
        tc::{NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_add_clsact},
    },
    util::KernelVersion,
};
use nix::net::if_::if_indextoname;
use signalbox_api::kernel::AttachMode;

use crate::{config::AttachPreference, error::Error, netns::Netns};

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
    const fn programs(self) -> [(&'static str, TcAttachType); 2] {
        match self {
            Self::Pod => [("from_pod", TcAttachType::Ingress), ("to_pod", TcAttachType::Egress)],
            Self::Uplink => [("from_uplink", TcAttachType::Ingress), ("to_uplink", TcAttachType::Egress)],
        }
    }

    /// The programs of both roles.
    pub const PROGRAMS: [&'static str; 4] = ["from_pod", "to_pod", "from_uplink", "to_uplink"];
}

/// The programs that stand on interfaces.
#[derive(Debug)]
pub struct Links {
    mode: AttachMode,
    attached: HashMap<u32, Vec<SchedClassifierLink>>,
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
        Self { mode, attached: HashMap::new() }
    }

    /// Which way of attaching is in use; `None` while nothing is attached.
    pub fn mode(&self) -> Option<AttachMode> {
        (!self.attached.is_empty()).then_some(self.mode)
    }

    /// Attaches both programs of the role; nothing happens where they are attached already.
    pub fn attach(&mut self, ebpf: &mut Ebpf, netns: &Netns, interface: u32, role: Role) -> Result<(), Error> {
        if self.attached.contains_key(&interface) {
            return Ok(());
        }
        let mode = self.mode;
        let links = netns.enter(|| attach_both(ebpf, mode, interface, role))??;
        self.attached.insert(interface, links);
        Ok(())
    }

    /// Detaches, where the interface still exists.
    pub fn detach(&mut self, netns: &Netns, interface: u32) -> Result<(), Error> {
        let Some(links) = self.attached.remove(&interface) else {
            return Ok(());
        };
        // Dropping a link detaches it; a filter of clsact is removed through the namespace that the thread is in.
        netns.enter(|| drop(links))
    }

    /// Detaches everything.
    pub fn detach_all(&mut self, netns: &Netns) -> Result<(), Error> {
        let links = std::mem::take(&mut self.attached);
        netns.enter(|| drop(links))
    }
}

fn attach_both(
    ebpf: &mut Ebpf,
    mode: AttachMode,
    interface: u32,
    role: Role,
) -> Result<Vec<SchedClassifierLink>, Error> {
    let refuse = |source: io::Error| Error::Attach { ifindex: interface, source };
    let name = if_indextoname(interface).map_err(|errno| refuse(errno.into()))?;
    let name = name.to_str().map_err(|error| refuse(io::Error::other(error)))?;
    if mode == AttachMode::Clsact {
        match qdisc_add_clsact(name) {
            // Somebody else's, or our own from before: as good.
            Err(error) if !is_already_there(&error) => return Err(refuse(io::Error::other(error))),
            Ok(()) | Err(_) => {}
        }
    }
    let mut links = Vec::with_capacity(2);
    for (program, hook) in role.programs() {
        let classifier: &mut SchedClassifier = ebpf
            .program_mut(program)
            .ok_or(Error::Mismatch { kind: "program", name: program })?
            .try_into()
            .map_err(|source| Error::Program { program, source })?;
        let options = match mode {
            AttachMode::Tcx => TcAttachOptions::TcxOrder(LinkOrder::default()),
            AttachMode::Clsact => TcAttachOptions::Netlink(NlOptions::default()),
        };
        let link = classifier
            .attach_with_options(name, hook, options)
            .and_then(|id| classifier.take_link(id))
            .map_err(|error: ProgramError| refuse(io::Error::other(error)))?;
        links.push(link);
    }
    Ok(links)
}

fn is_already_there(error: &TcError) -> bool {
    // aya keeps the number inside; its text is the kernel's.
    let exists = io::Error::from_raw_os_error(libc::EEXIST).to_string();
    matches!(error, TcError::AlreadyAttached) || chain(error).any(|text| text.contains(&exists))
}

fn chain<'a>(error: &'a (dyn std::error::Error + 'static)) -> impl Iterator<Item = String> + 'a {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string)
}
