//! Frames to the client, in the order and at the pace that its windows allow.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep_until};

use super::frame::{Encode, MOST, Reset};
use super::headers::Deflater;
use super::{Kind, Version};
use crate::relay::{HEARTBEAT, ToClient, Wanted};
use crate::runtime::ExitStatus;
use crate::status;

/// The window that streams and connections begin with, in bytes.
const WINDOW: i64 = 64 * 1024;

/// A client opens its window before it is used up, or it does not know windows. So long to tell which.
const SHY: Duration = Duration::from_millis(100);

/// A client has so long to open its streams.
const OPENING: Duration = Duration::from_secs(30);

/// How much a client may send before its window is opened again.
const REOPEN: usize = 16 * 1024;

/// What the reader wants written, or known.
#[derive(Debug)]
pub enum Order {
    /// The client has opened a stream: accept it.
    Opened {
        /// Its id.
        stream: u32,
        /// What it is for.
        kind: Kind,
    },
    /// Refuse a stream.
    Refuse {
        /// Its id.
        stream: u32,
        /// Why.
        why: Reset,
    },
    /// The client has reset a stream: write nothing more to it.
    Closed(u32),
    /// Answer a ping.
    Pong(u32),
    /// The client takes more.
    Window {
        /// Which stream; 0 is the whole connection.
        stream: u32,
        /// How many bytes more.
        delta: u32,
    },
    /// The client sets what windows begin with.
    InitialWindow(u32),
    /// Something of the client has been read and needs no more room.
    Taken {
        /// On which stream.
        stream: u32,
        /// How much.
        bytes: usize,
    },
    /// The client broke the rules: say so and end.
    GoAway,
}

/// Whether the client keeps windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// It has not shown yet. The first windows are kept, and no longer.
    Unknown {
        /// Since when there is something to write that does not fit.
        stuck: Option<Instant>,
    },
    /// It does.
    Kept,
    /// It does not, as Go's does not.
    Ignored,
}

struct Piece {
    kind: Kind,
    bytes: Bytes,
    fin: bool,
}

/// Writes frames until the connection ends.
pub struct Writer<W> {
    output: W,
    version: Version,
    wanted: Wanted,
    deflater: Deflater,
    buffer: BytesMut,
    streams: HashMap<Kind, u32>,
    /// How much may still be sent, by stream; stream 0 is the whole connection.
    windows: HashMap<u32, i64>,
    initial: i64,
    flow: Flow,
    waiting: VecDeque<Piece>,
    /// What has been taken and not yet been told, by stream.
    taken: HashMap<u32, usize>,
    last: u32,
    ping: u32,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Before the first frame.
    pub fn new(output: W, version: Version, wanted: Wanted) -> Self {
        Self {
            output,
            version,
            wanted,
            deflater: Deflater::new(),
            buffer: BytesMut::new(),
            streams: HashMap::new(),
            windows: HashMap::from([(0, WINDOW)]),
            initial: WINDOW,
            flow: Flow::Unknown { stuck: None },
            waiting: VecDeque::new(),
            taken: HashMap::new(),
            last: 0,
            ping: 0,
        }
    }

    /// Ends when it was told to, or with an error when the client has gone. After the last word it goes on answering
    /// until the client closes.
    pub async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        mut from: mpsc::Receiver<ToClient>,
    ) -> io::Result<()> {
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        let opening = Instant::now() + OPENING;
        let mut said = false;
        loop {
            let ready = self.ready();
            let decide = match self.flow {
                Flow::Unknown { stuck: Some(since) } => Some(since + SHY),
                Flow::Unknown { stuck: None } | Flow::Kept | Flow::Ignored => None,
            };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::GoAway) => {
                        self.buffer.go_away(self.last);
                        self.flush().await?;
                        return self.output.shutdown().await;
                    }
                    Some(order) => self.take(order),
                    None => return Ok(()),
                },
                piece = from.recv(), if ready && self.waiting.is_empty() && !said => match piece {
                    Some(piece) => self.queue(piece),
                    None => said = true,
                },
                _ = heartbeat.tick() => {
                    self.ping = (self.ping + 2) & MOST;
                    self.buffer.ping(self.ping);
                }
                () = sleep_until(opening), if !ready => {
                    self.buffer.go_away(self.last);
                    self.flush().await?;
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "not all streams were opened in time"));
                }
                () = sleep_until(decide.unwrap_or(opening)), if decide.is_some() => self.flow = Flow::Ignored,
            }
            self.fill();
            self.flush().await?;
        }
    }

    /// Whether all streams are there that something is going to be written to.
    fn ready(&self) -> bool {
        let has = |kind| self.streams.contains_key(&kind);
        has(Kind::Error) && (!self.wanted.stdout || has(Kind::Stdout)) && (!self.wanted.stderr || has(Kind::Stderr))
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Opened { stream, kind } => {
                self.last = stream;
                self.streams.insert(kind, stream);
                self.windows.insert(stream, self.initial);
                let block = self.deflater.empty();
                self.buffer.syn_reply(stream, &block);
            }
            Order::Refuse { stream, why } => self.buffer.rst_stream(stream, why),
            // The kind stays known, so that the rest of its output is thrown away rather than waited for.
            Order::Closed(stream) => drop(self.windows.remove(&stream)),
            Order::Pong(id) => self.buffer.ping(id),
            Order::Window { stream, delta } => {
                self.flow = Flow::Kept;
                if let Some(window) = self.windows.get_mut(&stream) {
                    *window = window.saturating_add(delta.into()).min(MOST.into());
                }
            }
            Order::InitialWindow(window) => {
                self.flow = Flow::Kept;
                let change = i64::from(window) - self.initial;
                self.initial = window.into();
                // The connection's own window is not meant.
                for (_, window) in self.windows.iter_mut().filter(|(stream, _)| **stream != 0) {
                    *window += change;
                }
            }
            Order::Taken { stream, bytes } => self.reopen(stream, bytes),
            Order::GoAway => self.buffer.go_away(self.last),
        }
    }

    fn queue(&mut self, piece: ToClient) {
        match piece {
            ToClient::Stdout(bytes) => self.waiting.push_back(Piece { kind: Kind::Stdout, bytes, fin: false }),
            ToClient::Stderr(bytes) => self.waiting.push_back(Piece { kind: Kind::Stderr, bytes, fin: false }),
            ToClient::StdinTaken(bytes) => {
                if let Some(stream) = self.streams.get(&Kind::Stdin).copied() {
                    self.reopen(stream, bytes);
                }
            }
            ToClient::Exit(exit) => {
                for kind in [Kind::Stdout, Kind::Stderr] {
                    self.waiting.push_back(Piece { kind, bytes: Bytes::new(), fin: true });
                }
                self.waiting.push_back(Piece { kind: Kind::Error, bytes: last_word(&exit, self.version), fin: true });
            }
        }
    }

    /// Opens the client's window where enough has been taken.
    fn reopen(&mut self, stream: u32, bytes: usize) {
        for stream in [stream, 0] {
            let taken = self.taken.entry(stream).or_default();
            *taken += bytes;
            if *taken >= REOPEN {
                self.buffer.window_update(stream, u32::try_from(*taken).unwrap_or(MOST).min(MOST));
                *taken = 0;
            }
        }
    }

    /// Moves what fits from the queue into the buffer.
    fn fill(&mut self) {
        while let Some(mut piece) = self.waiting.pop_front() {
            let Some(stream) = self.streams.get(&piece.kind).copied() else { continue };
            let Some(window) = self.windows.get(&stream).copied() else { continue };
            let room = match self.flow {
                Flow::Ignored => i64::MAX,
                Flow::Kept | Flow::Unknown { .. } => window.min(self.windows.get(&0).copied().unwrap_or(0)).max(0),
            };
            let fits = piece.bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            let whole = fits == piece.bytes.len();
            if whole || fits > 0 {
                let now = piece.bytes.split_to(fits);
                self.buffer.data(stream, whole && piece.fin, &now);
                let sent = i64::try_from(fits).unwrap_or(i64::MAX);
                for stream in [stream, 0] {
                    if let Some(window) = self.windows.get_mut(&stream) {
                        *window -= sent;
                    }
                }
            }
            if !whole {
                self.waiting.push_front(piece);
                if self.flow == (Flow::Unknown { stuck: None }) {
                    self.flow = Flow::Unknown { stuck: Some(Instant::now()) };
                }
                return;
            }
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.output.write_all_buf(&mut self.buffer).await?;
        self.output.flush().await
    }
}

/// How the command ended: a `Status` since v4, before that a text, which is empty where all went well.
pub(super) fn last_word(exit: &ExitStatus, version: Version) -> Bytes {
    let status = status::of_exit(exit);
    if version >= Version::V4 {
        return status.to_string().into();
    }
    status["message"].as_str().unwrap_or_default().to_owned().into()
}
