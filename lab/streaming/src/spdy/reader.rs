//! Frames from the client.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::{mpsc, watch};

use super::Kind;
use super::frame::{Control, HEAD, Head, Reset, Violation};
use super::headers::Inflater;
use super::writer::Order;
use crate::relay::FromClient;
use crate::runtime::TerminalSize;

/// The size of a piece of a data frame, in bytes. A frame may have 16 MiB and is never held as a whole.
const PIECE: usize = 32 * 1024;

/// The longest terminal size that is taken. One has about 25 bytes.
const SIZE_MOST: usize = 256;

/// Streams over the life of a connection. Exec needs five.
const STREAMS: usize = 16;

/// Reads frames until the connection ends.
pub struct Reader<R> {
    input: BufReader<R>,
    orders: mpsc::Sender<Order>,
    stdin: mpsc::Sender<FromClient>,
    size: watch::Sender<Option<TerminalSize>>,
    inflater: Inflater,
    streams: HashMap<u32, Kind>,
    last: u32,
    /// The beginning of a terminal size whose end is in the next frame.
    half_size: BytesMut,
}

/// Why the reader ends before the connection does.
enum End {
    /// The connection has ended.
    Closed,
    /// It must be ended.
    Bad(Violation),
}

impl From<std::io::Error> for End {
    fn from(_: std::io::Error) -> Self {
        Self::Closed
    }
}

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        Self::Bad(violation)
    }
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Before the first frame.
    pub fn new(
        input: R,
        orders: mpsc::Sender<Order>,
        stdin: mpsc::Sender<FromClient>,
        size: watch::Sender<Option<TerminalSize>>,
    ) -> Self {
        Self {
            input: BufReader::new(input),
            orders,
            stdin,
            size,
            inflater: Inflater::new(),
            streams: HashMap::new(),
            last: 0,
            half_size: BytesMut::new(),
        }
    }

    /// Reads until the connection ends, or until the client has broken the rules.
    pub async fn run(mut self) -> Result<(), Violation> {
        loop {
            match self.frame().await {
                Ok(()) => {}
                Err(End::Closed) => return Ok(()),
                Err(End::Bad(violation)) => return Err(violation),
            }
        }
    }

    async fn frame(&mut self) -> Result<(), End> {
        let mut head = [0; HEAD];
        self.input.read_exact(&mut head).await?;
        match Head::parse(head)? {
            Head::Data { stream, fin, length } => self.data(stream, fin, length).await,
            Head::Control { kind, flags, length } => {
                let mut payload = vec![0; length];
                self.input.read_exact(&mut payload).await?;
                self.control(Control::parse(kind, flags, payload.into())?).await
            }
        }
    }

    async fn control(&mut self, control: Control) -> Result<(), End> {
        match control {
            Control::SynStream { stream, fin, block } => self.open(stream, fin, &block).await,
            Control::Headers { block } => {
                self.inflater.read(&block)?;
                Ok(())
            }
            Control::RstStream { stream } => {
                match self.streams.remove(&stream) {
                    Some(Kind::Stdin) => drop(self.stdin.send(FromClient::End).await),
                    Some(_) => self.order(Order::Closed(stream)).await,
                    None => {}
                }
                Ok(())
            }
            Control::Settings { initial_window: Some(window) } => {
                self.order(Order::InitialWindow(window)).await;
                Ok(())
            }
            // A server's own pings have even ids: that one is an answer.
            Control::Ping { id } if id % 2 == 1 => {
                self.order(Order::Pong(id)).await;
                Ok(())
            }
            Control::WindowUpdate { stream, delta } => {
                self.order(Order::Window { stream, delta }).await;
                Ok(())
            }
            // After GOAWAY the open streams go on; the connection's end follows when they have ended.
            Control::GoAway | Control::Ping { .. } | Control::Settings { .. } | Control::Unknown => Ok(()),
        }
    }

    async fn open(&mut self, stream: u32, fin: bool, block: &[u8]) -> Result<(), End> {
        let headers = self.inflater.read(block)?;
        if stream.is_multiple_of(2) || stream <= self.last {
            return Err(Violation::StreamId(stream).into());
        }
        self.last = stream;
        let kind = headers.iter().find(|(name, _)| name == "streamtype").and_then(|(_, value)| Kind::parse(value));
        let refusal = match kind {
            None => Some(Reset::RefusedStream),
            Some(_) if self.streams.len() >= STREAMS => Some(Reset::RefusedStream),
            Some(kind) if self.streams.values().any(|known| *known == kind) => Some(Reset::StreamInUse),
            Some(_) => None,
        };
        if let Some(why) = refusal {
            self.order(Order::Refuse { stream, why }).await;
            return Ok(());
        }
        if let Some(kind) = kind {
            self.streams.insert(stream, kind);
            self.order(Order::Opened { stream, kind }).await;
            if fin && kind == Kind::Stdin {
                let _ = self.stdin.send(FromClient::End).await;
            }
        }
        Ok(())
    }

    async fn data(&mut self, stream: u32, fin: bool, mut length: usize) -> Result<(), End> {
        let kind = self.streams.get(&stream).copied();
        if kind.is_none() {
            self.order(Order::Refuse { stream, why: Reset::InvalidStream }).await;
        }
        while length > 0 {
            let mut piece = BytesMut::zeroed(length.min(PIECE));
            self.input.read_exact(&mut piece).await?;
            length -= piece.len();
            let taken = piece.len();
            match kind {
                // The relay tells the writer when the command has taken it.
                Some(Kind::Stdin) => {
                    let _ = self.stdin.send(FromClient::Data(piece.freeze())).await;
                    continue;
                }
                Some(Kind::Resize) => self.resize(piece.freeze())?,
                // Outputs are the server's to write; what a client says there has no meaning.
                Some(Kind::Stdout | Kind::Stderr | Kind::Error) | None => {}
            }
            self.order(Order::Taken { stream, bytes: taken }).await;
        }
        if fin && kind == Some(Kind::Stdin) {
            let _ = self.stdin.send(FromClient::End).await;
        }
        Ok(())
    }

    /// Sizes come as one JSON object after the other, wherever frames may cut them.
    fn resize(&mut self, piece: Bytes) -> Result<(), Violation> {
        self.half_size.extend_from_slice(&piece);
        while let Some(end) = self.half_size.iter().position(|byte| *byte == b'}') {
            let json = self.half_size.split_to(end + 1);
            let newest = crate::relay::parse_size(&json).map_err(|_| Violation::Size)?;
            self.size.send_replace(Some(newest));
        }
        if self.half_size.len() > SIZE_MOST {
            return Err(Violation::Size);
        }
        Ok(())
    }

    /// Fails only if the writer has ended, and with it the connection. (Not `&self`: what is shared must be `Sync`.)
    async fn order(&mut self, order: Order) {
        let _ = self.orders.send(order).await;
    }
}
