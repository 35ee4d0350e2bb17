//! Reads the kernel's events on a thread of its own, so that a drop is told within microseconds whatever else runs; where many come
//! one after the other, a few at a time, within a third of a millisecond.

use std::{
    io,
    os::fd::AsFd,
    sync::{Arc, PoisonError, RwLock},
    thread::{self, JoinHandle},
};

use aya::maps::{MapData, RingBuf};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll, ppoll},
    sys::time::TimeSpec,
};
use signalbox_api::{kernel::FlowEvent, probe::PORT_RESTS_MS};
use signalbox_enforcer_common::{
    flow::{Event, Limit},
    plain,
};
use tokio::sync::broadcast;

use crate::{error::Error, names::Names, telling::Told};

/// How long the reader leaves alone what comes right after an event.
const BREATHER: TimeSpec = TimeSpec::new(0, 300_000);

// Else a probe could be denied and nobody be told, since a denial of the same flow has just been told of.
const _: () = assert!(Limit::PAUSE_NS < PORT_RESTS_MS * 1_000_000);

/// The thread that reads events; dropping it ends the thread.
pub struct EventReader {
    stop: Option<io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl EventReader {
    /// Starts to read.
    ///
    /// # Errors
    ///
    /// When no thread or pipe can be made.
    pub fn start(
        ring: RingBuf<MapData>,
        names: Arc<RwLock<Names>>,
        node: String,
        events: broadcast::Sender<FlowEvent>,
    ) -> Result<Self, Error> {
        Self::start_telling(ring, names, node, events, Told::default())
    }

    /// The same, with all that is told going there as well.
    ///
    /// # Errors
    ///
    /// When no thread or pipe can be made.
    pub fn start_telling(
        ring: RingBuf<MapData>,
        names: Arc<RwLock<Names>>,
        node: String,
        events: broadcast::Sender<FlowEvent>,
        told: Told,
    ) -> Result<Self, Error> {
        let (ended, stop) = io::pipe().map_err(|source| Error::Io { what: "cannot make a pipe", source })?;
        let thread = thread::Builder::new()
            .name("enforcer-events".to_owned())
            .spawn(move || read(ring, &names, &node, (&events, &told), &ended))
            .map_err(|source| Error::Io { what: "cannot start a thread", source })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        // The other end of the pipe hangs up, which wakes the thread.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that read events had panicked");
        }
    }
}

fn read(
    mut ring: RingBuf<MapData>,
    names: &RwLock<Names>,
    node: &str,
    (events, told): (&broadcast::Sender<FlowEvent>, &Told),
    ended: &io::PipeReader,
) {
    loop {
        let mut has_read = false;
        while let Some(item) = ring.next() {
            has_read = true;
            let Some(event) = plain::from_bytes::<Event>(&item) else {
                continue;
            };
            told.take(&event, || names.read().unwrap_or_else(PoisonError::into_inner).told(node, &event));
            // Put into words only where somebody listens: the words cost more than all else here.
            if events.receiver_count() == 0 {
                continue;
            }
            let named = names.read().unwrap_or_else(PoisonError::into_inner).event(node, &event);
            if let Some(named) = named {
                // An error means that nobody listens.
                let _nobody = events.send(named);
            }
        }
        let mut files = [PollFd::new(ended.as_fd(), PollFlags::POLLIN), PollFd::new(ring.as_fd(), PollFlags::POLLIN)];
        // The first event after a rest is read at once. Where there was one there are more, and to be woken for each of them would
        // cost more than the connection that it tells of.
        let waited =
            if has_read { ppoll(&mut files[..1], Some(BREATHER), None) } else { poll(&mut files, PollTimeout::NONE) };
        match waited {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                tracing::error!(%errno, "cannot wait for events: they end here, verdicts go on");
                return;
            }
        }
        if files[0].any().unwrap_or(true) {
            return;
        }
    }
}
