//! Filters on the clsact qdisc: what stands where. A filter outlives the process that made it, as its interface does.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use futures::{StreamExt, TryStreamExt};
use rtnetlink::{
    Handle,
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
    },
};
use tokio::runtime;

use crate::{error::Error, sys::Hook};

/// The priority of our filters: what the operator puts before them runs before them.
const PRIORITY: u16 = 0x5b0;
/// The handle of our filters.
const HANDLE: TcHandle = TcHandle { major: 0, minor: 0x5b };
/// `ETH_P_ALL` as it stands in a message.
const ALL_PROTOCOLS: u16 = 3_u16.to_be();

/// One of our filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The program's name.
    pub name: String,
    /// The program's number.
    pub program: u32,
}

/// Our filters on these interfaces of the namespace that the thread is in. An interface that is gone has none.
///
/// # Errors
///
/// When netlink fails.
pub fn list(interfaces: &[u32]) -> Result<HashMap<(u32, Hook), Filter>, Error> {
    ask(async |handle| {
        let mut found = HashMap::new();
        for interface in interfaces {
            let index = *interface as i32;
            for hook in [Hook::Ingress, Hook::Egress] {
                let request = handle.traffic_filter(index).get();
                let request = match hook {
                    Hook::Ingress => request.ingress(),
                    Hook::Egress => request.egress(),
                };
                let answers: Vec<TcMessage> = match request.execute().try_collect().await {
                    Ok(answers) => answers,
                    Err(error) if is_gone(&error) => continue,
                    Err(error) => return Err(error.into()),
                };
                found.extend(answers.iter().find_map(ours).map(|filter| ((*interface, hook), filter)));
            }
        }
        Ok(found)
    })
}

/// Whether any filter is left on the qdisc, of whomever it is.
///
/// # Errors
///
/// When netlink fails.
pub fn is_bare(interface: u32) -> Result<bool, Error> {
    ask(async |handle| {
        let index = interface as i32;
        let ingress: Vec<TcMessage> = handle.traffic_filter(index).get().ingress().execute().try_collect().await?;
        let egress: Vec<TcMessage> = handle.traffic_filter(index).get().egress().execute().try_collect().await?;
        Ok(ingress.is_empty() && egress.is_empty())
    })
}

/// Puts a program on an interface: in the place of the one that is there, without a moment between, or anew.
///
/// # Errors
///
/// As the kernel says.
pub fn put(interface: u32, hook: Hook, program: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut message = filter(interface, hook);
    message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
    let descriptor = u32::try_from(program.as_raw_fd()).expect("an open file's descriptor is not negative");
    message.attributes.push(TcAttribute::Options(vec![
        TcOption::Bpf(TcFilterBpfOption::ProgFd(descriptor)),
        TcOption::Bpf(TcFilterBpfOption::ProgName(name.to_owned())),
        TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
    ]));
    tell(RouteNetlinkMessage::NewTrafficFilter(message), NLM_F_CREATE)
}

/// Removes our filter; one that is not there is no error.
///
/// # Errors
///
/// As the kernel says.
pub fn remove(interface: u32, hook: Hook) -> io::Result<()> {
    let mut message = filter(interface, hook);
    message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
    unless_gone(tell(RouteNetlinkMessage::DelTrafficFilter(message), 0))
}

/// Makes the clsact qdisc of an interface; whether it was not there.
///
/// # Errors
///
/// As the kernel says.
pub fn make_qdisc(interface: u32) -> io::Result<bool> {
    match tell(RouteNetlinkMessage::NewQueueDiscipline(qdisc(interface)), NLM_F_CREATE | NLM_F_EXCL) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the clsact qdisc of an interface, with all its filters.
///
/// # Errors
///
/// As the kernel says.
pub fn remove_qdisc(interface: u32) -> io::Result<()> {
    unless_gone(tell(RouteNetlinkMessage::DelQueueDiscipline(qdisc(interface)), 0))
}

fn qdisc(interface: u32) -> TcMessage {
    let mut message = TcMessage::with_index(interface as i32);
    message.header.parent = TcHandle::CLSACT;
    message.header.handle = TcHandle { major: 0xffff, minor: 0 };
    message.attributes.push(TcAttribute::Kind("clsact".to_owned()));
    message
}

fn filter(interface: u32, hook: Hook) -> TcMessage {
    let mut message = TcMessage::with_index(interface as i32);
    let minor = match hook {
        Hook::Ingress => TcHandle::MIN_INGRESS,
        Hook::Egress => TcHandle::MIN_EGRESS,
    };
    message.header.parent = TcHandle { major: 0xffff, minor };
    message.header.handle = HANDLE;
    message.header.info = u32::from(PRIORITY) << 16 | u32::from(ALL_PROTOCOLS);
    message
}

/// Sends a message, and waits until the kernel has done it.
fn tell(message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    let told = ask(async |mut handle| {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut answers = handle.request(message)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload {
                return match error.code {
                    None => Ok(Ok(())),
                    Some(_) => Ok(Err(error.to_io())),
                };
            }
        }
        Ok(Ok(()))
    });
    told.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn ask<T>(work: impl AsyncFnOnce(Handle) -> Result<T, Error>) -> Result<T, Error> {
    let io_error = |source| Error::Io { what: "cannot open a netlink socket", source };
    let runtime = runtime::Builder::new_current_thread().enable_io().build().map_err(io_error)?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(io_error)?;
        let connection = tokio::spawn(connection);
        let answer = work(handle).await;
        connection.abort();
        answer
    })
}

fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if is_absence(&error) => Ok(()),
        other => other,
    }
}

fn is_gone(error: &rtnetlink::Error) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if is_absence(&message.to_io()))
}

/// ENODEV, ENOENT, and EINVAL, which is what the kernel says where there is no such qdisc.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT | libc::EINVAL))
}

fn ours(message: &TcMessage) -> Option<Filter> {
    if (message.header.info >> 16) as u16 != PRIORITY || message.header.handle != HANDLE {
        return None;
    }
    let options = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    })?;
    let mut filter = Filter { name: String::new(), program: 0 };
    for option in options {
        match option {
            TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => filter.name.clone_from(name),
            TcOption::Bpf(TcFilterBpfOption::ProgId(program)) => filter.program = *program,
            _ => {}
        }
    }
    (filter.program != 0).then_some(filter)
}
