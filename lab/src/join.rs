//! A host outside the cluster as a vantage point: it dials the server, and runs the probe agent for it.

use std::io::{BufRead, BufReader, PipeReader, Write};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use signalbox_api::probe::{Request, Response};
use signalbox_api::stream::{Order, Refusal, Report, Role, SPOKEN};
use signalbox_enforcer::uplink::{Door, Socket, dial};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the server may take to take what is written to it.
const WRITE: Duration = Duration::from_secs(10);
/// How long nothing may be heard of the server, which pings.
const SILENCE: Duration = Duration::from_secs(30);
/// Lines in one frame at most.
const MOST_LINES: usize = 256;
/// Files that the agent's probes may have open.
const OPEN_FILES: u64 = 1_024;

/// What becomes known while it runs.
#[derive(Debug)]
pub enum Told {
    /// The server takes this host as what it says.
    Joined(String),
    /// There is no stream; it is tried again.
    Away(String),
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Joined(name) => write!(f, "joined as {name}"),
            Self::Away(why) => write!(f, "no stream to the server: {why}; it is tried again"),
        }
    }
}

/// Why a host cannot be a vantage point, however often it tries.
#[derive(Debug, thiserror::Error)]
#[error("the server does not want this host: {0}")]
pub struct Unwanted(String);

/// Why a stream ended.
enum Ended {
    Broke(String),
    Refused(Refusal, String),
    Shutdown,
}

/// Runs until `shutdown`.
///
/// # Errors
/// Where the server will not have this host whatever happens.
pub async fn run(door: &Door, name: &str, told: impl Fn(&Told), shutdown: CancellationToken) -> Result<(), Unwanted> {
    let mut pause = FIRST_PAUSE;
    loop {
        let mut joined = false;
        let ended = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            ended = once(door, name, &told, &mut joined, &shutdown) => ended,
        };
        if joined {
            pause = FIRST_PAUSE;
        }
        let why = match ended {
            Ended::Shutdown => return Ok(()),
            Ended::Refused(Refusal::NotYours | Refusal::TooOld | Refusal::TooNew | Refusal::Replaced, why) => {
                return Err(Unwanted(why));
            }
            Ended::Refused(_, why) | Ended::Broke(why) => why,
        };
        told(&Told::Away(why));
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A probe agent that runs in this process.
struct Agent {
    session: u64,
    requests: mpsc::UnboundedSender<Vec<Request>>,
}

async fn once(
    door: &Door,
    name: &str,
    told: &impl Fn(&Told),
    joined: &mut bool,
    shutdown: &CancellationToken,
) -> Ended {
    let (mut socket, _token) = match dial(door, None).await {
        Ok(dialled) => dialled,
        Err(error) => return Ended::Broke(error.to_string()),
    };
    let role = Role::Outside { host: name.to_owned() };
    let version = env!("CARGO_PKG_VERSION").to_owned();
    if let Err(ended) = send(&mut socket, &Report::Hello { protocol: SPOKEN, version, role, started_us: 0 }).await {
        return ended;
    }
    let (answers, mut answered) = mpsc::channel(MOST_LINES);
    let mut agent: Option<Agent> = None;
    let mut heard = tokio::time::Instant::now();
    loop {
        let step = tokio::select! {
            () = shutdown.cancelled() => return Ended::Shutdown,
            () = tokio::time::sleep_until(heard + SILENCE) => Err(Ended::Broke("the server is silent".to_owned())),
            message = socket.next() => {
                heard = tokio::time::Instant::now();
                match message {
                    Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                        Ok(Order::Welcome { .. }) => {
                            *joined = true;
                            told(&Told::Joined(name.to_owned()));
                            Ok(())
                        }
                        Ok(Order::Refused { reason, message }) => Err(Ended::Refused(reason, message)),
                        Ok(Order::Probe { session, pod: None }) => match start(session, answers.clone()) {
                            Ok(started) => {
                                agent = Some(started);
                                Ok(())
                            }
                            Err(error) => send(&mut socket, &Report::Ended { session, why: error.to_string() }).await,
                        },
                        Ok(Order::Probe { session, pod: Some(_) }) => {
                            let why = "there are no pods on this host".to_owned();
                            send(&mut socket, &Report::Ended { session, why }).await
                        }
                        Ok(Order::Lines { session, lines }) => {
                            if let Some(agent) = agent.as_ref().filter(|agent| agent.session == session) {
                                // An agent that has ended has said so.
                                let _ended = agent.requests.send(lines);
                            }
                            Ok(())
                        }
                        Ok(Order::End { session }) => {
                            agent = agent.filter(|agent| agent.session != session);
                            Ok(())
                        }
                        Ok(Order::Counts { .. } | Order::Unknown) => Ok(()),
                        Err(error) => Err(Ended::Broke(format!("a frame of the server cannot be read: {error}"))),
                    },
                    Some(Ok(_)) => Ok(()),
                    Some(Err(error)) => Err(Ended::Broke(error.to_string())),
                    None => Err(Ended::Broke("the connection ended".to_owned())),
                }
            }
            Some((session, first)) = answered.recv() => {
                let mut lines = vec![first];
                while lines.len() < MOST_LINES
                    && let Ok((_, more)) = answered.try_recv()
                {
                    lines.push(more);
                }
                // Words of an agent before the newest one are void.
                match agent.as_ref().filter(|agent| agent.session == session) {
                    Some(_) => send(&mut socket, &Report::Lines { session, lines }).await,
                    None => Ok(()),
                }
            }
        };
        if let Err(ended) = step {
            return ended;
        }
    }
}

/// Starts an agent. It ends once nobody can ask it any more.
fn start(session: u64, answers: mpsc::Sender<(u64, Response)>) -> std::io::Result<Agent> {
    let (input, mut to_agent) = std::io::pipe()?;
    let (from_agent, output) = std::io::pipe()?;
    let (requests, mut asked) = mpsc::unbounded_channel::<Vec<Request>>();
    tokio::spawn(async move {
        if let Err(error) = signalbox_probe::agent::run(input, output, OPEN_FILES).await {
            tracing::warn!(%error, "the probe agent ended");
        }
    });
    std::thread::Builder::new().name("probe-requests".to_owned()).spawn(move || {
        while let Some(lines) = asked.blocking_recv() {
            for line in lines {
                let Ok(mut text) = serde_json::to_vec(&line) else { continue };
                text.push(b'\n');
                if to_agent.write_all(&text).is_err() {
                    return;
                }
            }
        }
    })?;
    std::thread::Builder::new().name("probe-answers".to_owned()).spawn(move || read(from_agent, session, &answers))?;
    Ok(Agent { session, requests })
}

fn read(from_agent: PipeReader, session: u64, answers: &mpsc::Sender<(u64, Response)>) {
    for line in BufReader::new(from_agent).lines() {
        let Ok(line) = line else { return };
        match serde_json::from_str(&line) {
            // A server that is older than this process could not read the frame, and would end the stream.
            Ok(Response::Asking { .. }) => {}
            Ok(response) => {
                if answers.blocking_send((session, response)).is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(%error, "the agent wrote a line that cannot be read"),
        }
    }
}

async fn send(socket: &mut Socket, report: &Report) -> Result<(), Ended> {
    let text = serde_json::to_string(report).map_err(|error| Ended::Broke(error.to_string()))?;
    match tokio::time::timeout(WRITE, socket.send(Message::text(text))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Ended::Broke(error.to_string())),
        Err(_) => Err(Ended::Broke("the server takes nothing that is written to it".to_owned())),
    }
}
