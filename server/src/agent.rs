//! The agent in a pod: one `exec` stream per vantage point, kept open, started again with back-off.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess};
use signalbox_api::probe::{Request, Response};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cluster::external_host::ExternalHost;
use crate::kube_error::sentence;
use crate::matrix::model::Place;
use crate::nodes::registry::{Registry, Who};
use crate::nodes::relay;
use crate::silence::Silence;

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// How long an agent may take from its start to its first line.
const HELLO_WAIT: Duration = Duration::from_secs(5);
/// The end of what an agent wrote to standard error, in bytes.
const STDERR_TAIL: usize = 2_048;
/// No line of an agent is longer; whoever writes more is none.
const LONGEST_LINE: u64 = 256 * 1024;
/// What may lie between the server and an agent in each direction, in bytes: a whole round's lines for a small cluster.
const PIPE: usize = 64 * 1024;

/// What became known of an agent.
#[derive(Debug)]
pub struct Word {
    /// The vantage point's endpoint id.
    pub at: String,
    /// As in [`crate::matrix::core::Command::StartAgent`].
    pub epoch: u64,
    /// What.
    pub said: Said,
}

/// What an agent says, or what is said of it.
#[derive(Debug)]
pub enum Said {
    /// It wrote a line.
    Line(Response),
    /// It is lost, or could not be started. A sentence for people.
    Lost(String),
}

/// Where and how to run an agent.
pub struct Agent {
    /// The cluster.
    pub client: kube::Client,
    /// Streams of hosts outside, where there may be any: a cluster's own API has no `exec` for them.
    pub streams: Option<Arc<Registry>>,
    /// Where.
    pub place: Place,
    /// What to run.
    pub command: Vec<String>,
    /// The vantage point's endpoint id.
    pub at: String,
    /// Told with each word.
    pub epoch: u64,
    /// Who listens.
    pub words: mpsc::Sender<Word>,
}

impl Agent {
    /// Keeps the agent running until `stop`. What is asked while there is none is passed over.
    #[tracing::instrument(skip_all, fields(at = %self.place))]
    pub async fn run(self, mut requests: mpsc::Receiver<Vec<Request>>, stop: CancellationToken) {
        let mut retry = FIRST_RETRY;
        loop {
            let mut hello = false;
            let why = tokio::select! {
                () = stop.cancelled() => return,
                why = self.once(&mut requests, &mut hello) => why,
            };
            if hello {
                retry = FIRST_RETRY;
            }
            tracing::info!(why, "the agent is lost");
            let detail = format!("the probe in {} is lost: {why}", self.place);
            if !self.say(Said::Lost(detail)).await {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(retry) => {}
            }
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    /// One stream, from its start to its end. Gives back why it ended.
    async fn once(&self, requests: &mut mpsc::Receiver<Vec<Request>>, hello: &mut bool) -> String {
        if let (Place::Outside { name }, Some(streams)) = (&self.place, &self.streams) {
            let remote = match streams.probe(&Who::Host(name.clone()), None) {
                Ok(remote) => remote,
                Err(why) => return why,
            };
            let heard = |line: Response| -> BoxFuture<'_, bool> { Box::pin(self.say(Said::Line(line))) };
            return relay::run(remote, requests, HELLO_WAIT, &heard, hello).await;
        }
        let mut process = match self.exec().await {
            Ok(process) => process,
            Err(error) => return format!("exec failed: {}", sentence(&error)),
        };
        let (Some(mut stdin), Some(stdout), Some(mut errors)) = (process.stdin(), process.stdout(), process.stderr())
        else {
            return "exec gave no streams".to_owned();
        };
        let mut status = process.take_status();
        let mut lines = BufReader::new(stdout);
        let mut complaint = Vec::new();
        let mut complains = true;
        let hello_deadline = tokio::time::sleep(HELLO_WAIT);
        tokio::pin!(hello_deadline);
        while requests.try_recv().is_ok() {}
        let silence = Silence::new();
        // Beside the reading, never inside of it: the exec's buffers are small, and one task moves both directions, so
        // whoever writes without reading at the same time can stall for good.
        let writing = async {
            while let Some(batch) = requests.recv().await {
                let text = match lines_of(&batch) {
                    Ok(text) => text,
                    Err(error) => return format!("a request cannot be written: {error}"),
                };
                silence.asked(&batch);
                if let Err(error) = async {
                    stdin.write_all(&text).await?;
                    stdin.flush().await
                }
                .await
                {
                    return format!("it takes no requests: {error}");
                }
            }
            "the server ends".to_owned()
        };
        tokio::pin!(writing);
        let mut line = Vec::new();
        loop {
            tokio::select! {
                read = read_line(&mut lines, &mut line) => {
                    match read {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(error) => return format!("its output cannot be read: {error}"),
                    }
                    let response = serde_json::from_slice::<Response>(&line);
                    line.clear();
                    match response {
                        Ok(response) => {
                            silence.heard(&response);
                            *hello |= matches!(response, Response::Hello { .. });
                            if !self.say(Said::Line(response)).await {
                                return "the server ends".to_owned();
                            }
                        }
                        Err(error) => tracing::warn!(%error, "the agent wrote a line that cannot be read"),
                    }
                }
                why = &mut writing => return why,
                read = errors.read_buf(&mut complaint), if complains => {
                    complains = read.is_ok_and(|bytes| bytes > 0);
                    // All is read, so that the stream never stalls; the end is kept.
                    complaint.drain(..complaint.len().saturating_sub(STDERR_TAIL));
                }
                () = &mut hello_deadline, if !*hello => return "it did not say hello".to_owned(),
                () = silence.too_long() => return "it answers nothing any more".to_owned(),
            }
        }
        let complaint = String::from_utf8_lossy(&complaint).trim().to_owned();
        let ended = match status.take() {
            Some(status) => tokio::time::timeout(Duration::from_millis(500), status).await.ok().flatten(),
            None => None,
        };
        let ended = ended.and_then(|status| status.message).filter(|message| !message.is_empty());
        match (complaint.is_empty(), ended) {
            (false, Some(ended)) => format!("{ended}: {complaint}"),
            (false, None) => complaint,
            (true, Some(ended)) => ended,
            (true, None) => "its stream ended".to_owned(),
        }
    }

    async fn exec(&self) -> Result<AttachedProcess, kube::Error> {
        let params = AttachParams::default()
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .tty(false)
            .max_stdin_buf_size(PIPE)
            .max_stdout_buf_size(PIPE);
        match &self.place {
            Place::Pod { namespace, name, container } => {
                let params = match container {
                    Some(container) => params.container(container),
                    None => params,
                };
                let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
                pods.exec(name, self.command.clone(), &params).await
            }
            Place::Outside { name } => {
                let hosts: Api<ExternalHost> = Api::all(self.client.clone());
                hosts.exec(name, self.command.clone(), &params).await
            }
        }
    }

    async fn say(&self, said: Said) -> bool {
        self.words.send(Word { at: self.at.clone(), epoch: self.epoch, said }).await.is_ok()
    }
}

/// Reads one line into `line`, which may hold its beginning from a read that was given up. `false`: the end.
async fn read_line(
    lines: &mut BufReader<impl tokio::io::AsyncRead + Unpin>,
    line: &mut Vec<u8>,
) -> std::io::Result<bool> {
    let room = LONGEST_LINE.saturating_sub(line.len() as u64);
    // `read_until` keeps what it has read in `line` when it is given up, so nothing is lost.
    lines.take(room).read_until(b'\n', line).await?;
    if line.ends_with(b"\n") {
        return Ok(true);
    }
    if line.len() as u64 >= LONGEST_LINE {
        return Err(std::io::Error::other("a line is too long"));
    }
    Ok(false)
}

fn lines_of(requests: &[Request]) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::new();
    for request in requests {
        serde_json::to_writer(&mut text, request)?;
        text.push(b'\n');
    }
    Ok(text)
}
