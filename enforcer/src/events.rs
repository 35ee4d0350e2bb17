//! Reads the kernel's events on a thread of its own, so that a drop is told within microseconds whatever else runs; where many come one
//! after the other, within a third of a millisecond. New flows are told in handfuls, within 20 milliseconds: docs/adr/0013.

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
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
        time::TimeSpec,
    },
};
use signalbox_api::{kernel::FlowEvent, probe::PORT_RESTS_MS};
use signalbox_enforcer_common::{
    flow::{Event, Limit},
    plain,
};
use tokio::sync::broadcast;

use crate::{error::Error, names::Names, telling::Told};

/// How long the reader leaves alone what comes right after something urgent: as long as the programs do not wake it for that, and a
/// little longer.
const BREATHER: TimeSpec = TimeSpec::new(0, 300_000);
const _: () = assert!(Event::URGENT_PAUSE_NS < 300_000);
/// In milliseconds: the reader looks again so long after it was woken. Until then the programs may have left new flows there without
/// waking it.
const REST: u16 = 12;
const _: () = assert!(Event::PAUSE_NS < REST as u64 * 1_000_000);
/// In milliseconds: it looks again although nothing wakes it. A CPU that was held up between the question whether to wake and the event
/// itself may have left one there.
const IDLE: u16 = 1_000;
/// So many events at once mean that the ring buffer has filled up: the programs hold that for urgent.
const MANY: u32 = 1024;
const _: () = assert!((MANY as usize * size_of::<Event>()) < Event::MANY_BYTES as usize);
/// What wakes the reader.
const EVENTS: u64 = 0;
/// See [`EVENTS`].
const ENDED: u64 = 1;

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
        let waiting =
            watch(&ring, &ended).map_err(|errno| Error::Io { what: "cannot wait for events", source: errno.into() })?;
        let thread = thread::Builder::new()
            .name("enforcer-events".to_owned())
            .spawn(move || read(ring, &names, &node, (&events, &told), (&waiting, &ended)))
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
    (waiting, ended): (&Epoll, &io::PipeReader),
) {
    // Whoever read before may have been woken a moment ago.
    let mut timeout = REST;
    loop {
        let (mut count, mut denials) = (0, 0);
        while let Some(item) = ring.next() {
            count += 1;
            let Some(event) = plain::from_bytes::<Event>(&item) else {
                continue;
            };
            denials += u32::from(event.reason != 0);
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
        let is_urgent = denials > 0 || count >= MANY;
        let waited = if is_urgent || count == 0 && is_held_up(&ring) {
            pause(ended)
        } else {
            // After what it found others may have come that woke nobody, since that one did.
            wait(waiting, if count > 0 { REST } else { timeout })
        };
        timeout = match waited {
            Ok(Waited::Woken) => REST,
            Ok(Waited::InVain) => IDLE,
            Ok(Waited::Ended) => return,
            Err(errno) => {
                tracing::error!(%errno, "cannot wait for events: they end here, verdicts go on");
                return;
            }
        };
    }
}

/// The ring buffer and the pipe as things to wait for. Of the ring buffer only that the programs wake us, not that something lies there:
/// see docs/adr/0013.
fn watch(ring: &RingBuf<MapData>, ended: &io::PipeReader) -> Result<Epoll, Errno> {
    let waiting = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    waiting.add(ring, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, EVENTS))?;
    waiting.add(ended, EpollEvent::new(EpollFlags::EPOLLIN, ENDED))?;
    Ok(waiting)
}

/// Whether something lies in the ring buffer although it gave nothing: a CPU has begun to write an event and is held up, and what others have
/// written after it, and woken us for, cannot be read before.
fn is_held_up(ring: &RingBuf<MapData>) -> bool {
    poll(&mut [PollFd::new(ring.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// How a wait ended.
enum Waited {
    /// There are events, or may be.
    Woken,
    /// Nothing happened in the time.
    InVain,
    /// The reader is to end.
    Ended,
}

/// Waits until the programs wake us. What lies in the ring buffer unread does not.
fn wait(waiting: &Epoll, timeout: u16) -> Result<Waited, Errno> {
    let mut found = [EpollEvent::empty(); 2];
    match waiting.wait(&mut found, timeout) {
        Ok(0) => Ok(Waited::InVain),
        Ok(count) if found[..count].iter().any(|event| event.data() == ENDED) => Ok(Waited::Ended),
        Ok(_) | Err(Errno::EINTR) => Ok(Waited::Woken),
        Err(errno) => Err(errno),
    }
}

/// Leaves alone what comes, for a moment.
fn pause(ended: &io::PipeReader) -> Result<Waited, Errno> {
    match ppoll(&mut [PollFd::new(ended.as_fd(), PollFlags::POLLIN)], Some(BREATHER), None) {
        Ok(0) | Err(Errno::EINTR) => Ok(Waited::Woken),
        Ok(_) => Ok(Waited::Ended),
        Err(errno) => Err(errno),
    }
}
