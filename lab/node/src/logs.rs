//! What a container's process wrote, as far as it is kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use signalbox_lab_streaming::runtime::{LogRequest, Output};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::sync::watch;

/// At most so many lines of a run are kept.
const MAX_LINES: usize = 4096;
/// At most so many bytes of a run are kept.
const MAX_BYTES: usize = 1 << 20;
/// A longer line is cut into several.
const MAX_LINE: usize = 16 * 1024;

#[derive(Clone, Debug)]
struct Line {
    at: Timestamp,
    text: Arc<[u8]>,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<Line>,
    bytes: usize,
    /// Lines that were dropped at the front.
    dropped: u64,
}

/// The log of one run of a container.
#[derive(Debug)]
pub(crate) struct Log {
    lines: Mutex<Lines>,
    /// Lines ever written, and whether the run has ended.
    written: watch::Sender<(u64, bool)>,
}

impl Default for Log {
    fn default() -> Self {
        Self { lines: Mutex::default(), written: watch::Sender::new((0, false)) }
    }
}

impl Log {
    /// Adds a line, with or without its end.
    fn push(&self, mut text: Vec<u8>) {
        if text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.bytes += text.len();
        lines.kept.push_back(Line { at: Timestamp::now(), text: text.into() });
        while lines.kept.len() > MAX_LINES || lines.bytes > MAX_BYTES {
            let Some(oldest) = lines.kept.pop_front() else { break };
            lines.bytes -= oldest.text.len();
            lines.dropped += 1;
        }
        let written = lines.dropped + lines.kept.len() as u64;
        drop(lines);
        self.written.send_modify(|state| state.0 = written);
    }

    /// Reads a stream until it ends.
    pub(crate) async fn collect(self: Arc<Self>, stream: impl AsyncRead + Unpin) {
        let mut reader = BufReader::with_capacity(MAX_LINE, stream);
        let mut line = Vec::new();
        loop {
            let chunk = match reader.fill_buf().await {
                Ok(chunk) if !chunk.is_empty() => chunk,
                _ => break,
            };
            let (taken, whole) = match chunk.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end + 1, true),
                None => (chunk.len(), false),
            };
            line.extend_from_slice(&chunk[..taken]);
            reader.consume(taken);
            if whole || line.len() >= MAX_LINE {
                self.push(std::mem::take(&mut line));
            }
        }
        if !line.is_empty() {
            self.push(line);
        }
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.written.send_modify(|state| state.1 = true);
    }

    /// What was asked for, as a stream.
    pub(crate) fn open(self: &Arc<Self>, request: &LogRequest) -> Output {
        let (ours, theirs) = tokio::io::simplex(64 * 1024);
        tokio::spawn(Arc::clone(self).write(request.clone(), theirs));
        Box::pin(ours)
    }

    async fn write(self: Arc<Self>, request: LogRequest, mut to: tokio::io::WriteHalf<tokio::io::SimplexStream>) {
        let mut written = self.written.subscribe();
        let since = request.since_seconds.and_then(|seconds| {
            Timestamp::now().checked_sub(jiff::SignedDuration::from_secs(seconds.cast_signed())).ok()
        });
        let mut next = {
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            let tail = request.tail_lines.unwrap_or(usize::MAX).min(lines.kept.len());
            lines.dropped + (lines.kept.len() - tail) as u64
        };
        loop {
            let ended = written.borrow_and_update().1;
            for line in self.from(&mut next) {
                if since.is_some_and(|since| line.at < since) {
                    continue;
                }
                let stamp = if request.timestamps { format!("{:.9} ", line.at) } else { String::new() };
                if to.write_all(stamp.as_bytes()).await.is_err() || to.write_all(&line.text).await.is_err() {
                    return;
                }
            }
            if ended || !request.follow {
                break;
            }
            if written.changed().await.is_err() {
                break;
            }
        }
        // The reader may be gone: then nobody misses the end.
        let _ = to.shutdown().await;
    }

    /// The lines from number `next` on that are still kept; moves `next` past them.
    fn from(&self, next: &mut u64) -> Vec<Line> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = usize::try_from(next.saturating_sub(lines.dropped)).unwrap_or(usize::MAX);
        *next = lines.dropped + lines.kept.len() as u64;
        lines.kept.iter().skip(skip).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn read(log: &Arc<Log>, request: LogRequest) -> String {
        let mut text = String::new();
        log.open(&request).read_to_string(&mut text).await.expect("readable");
        text
    }

    #[tokio::test]
    async fn tail_follow_and_bounds() {
        let log = Arc::new(Log::default());
        Arc::clone(&log).collect(&b"one\ntwo\nthree"[..]).await;
        assert_eq!(read(&log, LogRequest::default()).await, "one\ntwo\nthree\n");
        assert_eq!(read(&log, LogRequest { tail_lines: Some(1), ..Default::default() }).await, "three\n");
        let stamped = read(&log, LogRequest { tail_lines: Some(1), timestamps: true, ..Default::default() }).await;
        assert!(stamped.split_once(' ').is_some_and(|(at, _)| at.parse::<Timestamp>().is_ok()), "{stamped}");

        let follow = tokio::spawn({
            let log = Arc::clone(&log);
            async move { read(&log, LogRequest { follow: true, tail_lines: Some(0), ..Default::default() }).await }
        });
        tokio::task::yield_now().await;
        log.push(b"four".to_vec());
        log.close();
        let followed = follow.await.expect("no panic");
        assert!(followed.is_empty() || followed == "four\n", "{followed}");

        for number in 0..MAX_LINES + 10 {
            log.push(format!("{number}").into_bytes());
        }
        assert_eq!(log.lines.lock().expect("not poisoned").kept.len(), MAX_LINES);
    }
}
