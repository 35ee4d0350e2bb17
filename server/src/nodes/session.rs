//! One stream, from its first frame to its end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use signalbox_api::stream::{Mismatch, Order, Refusal, Report, Role, SPOKEN};

use super::bound;
use super::listen::Gate;
use super::registry::{Place, Said, Told, Who};
use super::token::{Caller, Refused};
use crate::kube_error::sentence;

/// How long a peer may take to take what is written to it.
const WRITE: Duration = Duration::from_secs(10);
/// Round trips are told that often, and when they change by so many microseconds.
const TELL_ROUND_TRIPS: Duration = Duration::from_secs(60);
const TELL_DIFFERENCE_US: u64 = 50_000;

/// How a stream ends.
enum End {
    /// The peer went away, or broke. Why.
    Lost(String),
    /// The server does not go on. Why, for the peer.
    Refused(Refusal, String),
    /// It said goodbye; what it enforced stays in force without it, or not.
    Goodbye(bool),
}

/// Runs a stream.
pub async fn run(mut socket: WebSocket, caller: Caller, token: String, gate: &Gate, address: SocketAddr) {
    let user = caller.user.clone();
    let (role, version, started_us) = match greet(&mut socket, &caller, gate).await {
        Ok(greeted) => greeted,
        Err(end) => return close(socket, &end, &user, address).await,
    };
    let who = Who::from(&role);
    let Place { epoch, orders, replaced } = gate.registry.enter(who.clone());
    tracing::info!(%address, user, %role, version, "a stream is open");
    if let Role::Enforcer { node } = &role {
        gate.registry.tell(node, epoch, Said::Connected(version)).await;
    }
    let mut stream = Stream {
        socket,
        caller,
        token,
        gate,
        role,
        who,
        epoch,
        started_us,
        unknown: 0,
        heard: Instant::now(),
        round_trip: None,
        begun: Instant::now(),
    };
    let end = stream.serve(orders, replaced).await;
    let Stream { socket, role, who, unknown, .. } = stream;
    let was_current = gate.registry.leave(&who, epoch);
    if let (Role::Enforcer { node }, true) = (&role, was_current) {
        let said = match &end {
            End::Goodbye(false) => Said::Ended,
            End::Goodbye(true) => Said::Lost("it has ended; what it enforced stays in force".to_owned()),
            End::Lost(why) | End::Refused(_, why) => Said::Lost(why.clone()),
        };
        gate.registry.tell(node, epoch, said).await;
    }
    if unknown > 0 {
        tracing::info!(%address, %role, unknown, "frames of a type that is not known were passed over");
    }
    close(socket, &end, &user, address).await;
}

/// The first frame: which version is spoken, and for whom.
async fn greet(socket: &mut WebSocket, caller: &Caller, gate: &Gate) -> Result<(Role, String, u64), End> {
    let refuse = |reason, message: String| Err(End::Refused(reason, message));
    let first = match tokio::time::timeout(gate.config.greeting, next(socket)).await {
        Ok(first) => first?,
        Err(_) => return refuse(Refusal::Protocol, "there was no hello in time".to_owned()),
    };
    let Message::Text(text) = first else {
        return refuse(Refusal::Protocol, "the first frame is no hello".to_owned());
    };
    let Ok(Report::Hello { protocol, version, role, started_us }) = serde_json::from_str::<Report>(&text) else {
        return refuse(Refusal::Protocol, "the first frame is no hello".to_owned());
    };
    let server = env!("CARGO_PKG_VERSION");
    let spoken = match SPOKEN.agree(protocol) {
        Ok(spoken) => spoken,
        Err(mismatch) => {
            let (reason, advice) = match mismatch {
                Mismatch::TooOld => (Refusal::TooOld, "upgrade it to the server's version"),
                Mismatch::TooNew => (Refusal::TooNew, "upgrade the server first"),
            };
            let (theirs, ours) = ((protocol.oldest, protocol.newest), (SPOKEN.oldest, SPOKEN.newest));
            let message = format!(
                "{role} is version {version} and speaks the protocol {theirs:?}, this server is version {server} and speaks {ours:?}: {advice}"
            );
            return refuse(reason, message);
        }
    };
    if let Err((reason, message)) = authorise(&role, caller, gate).await {
        return refuse(reason, message);
    }
    send(socket, &Order::Welcome { protocol: spoken, version: server.to_owned() }).await?;
    Ok((role, version, started_us))
}

/// Whether a caller may speak for whom it says.
async fn authorise(role: &Role, caller: &Caller, gate: &Gate) -> Result<(), (Refusal, String)> {
    let not_yours = |message: String| Err((Refusal::NotYours, message));
    match role {
        Role::Enforcer { node } => {
            if caller.user != gate.config.enforcer {
                return not_yours(format!("{} is not the enforcers' account {}", caller.user, gate.config.enforcer));
            }
            match bound::node(gate.reviewer.client(), caller).await {
                Ok(bound) if bound == *node => Ok(()),
                Ok(bound) => not_yours(format!("the token is bound to node {bound}, and may not speak for {node}")),
                Err(error @ bound::NoNode::Unavailable(_)) => Err((Refusal::Token, error.to_string())),
                Err(error) => not_yours(error.to_string()),
            }
        }
        Role::Outside { host } => match may_join(gate.reviewer.client(), caller, host).await {
            Ok(true) => Ok(()),
            Ok(false) => not_yours(format!(
                "{} may not speak for {host}: it needs the verb `create` on `externalhosts/exec` in signalbox.dev",
                caller.user
            )),
            Err(error) => Err((Refusal::Token, format!("it cannot be told whether {} may join: {error}", caller.user))),
        },
    }
}

/// Whether somebody may be an outside host's probe.
async fn may_join(client: &kube::Client, caller: &Caller, host: &str) -> Result<bool, String> {
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let attributes = ResourceAttributes {
        group: Some("signalbox.dev".to_owned()),
        resource: Some("externalhosts".to_owned()),
        subresource: Some("exec".to_owned()),
        name: Some(host.to_owned()),
        verb: Some("create".to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        user: Some(caller.user.clone()),
        groups: Some(caller.groups.clone()),
        uid: Some(caller.uid.clone()),
        extra: Some(caller.extra.clone()),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let answer = reviews.create(&PostParams::default(), &review).await.map_err(|error| sentence(&error))?;
    Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
}

struct Stream<'a> {
    socket: WebSocket,
    caller: Caller,
    token: String,
    gate: &'a Gate,
    role: Role,
    who: Who,
    epoch: u64,
    /// When the peer's process began.
    started_us: u64,
    /// Frames of a type that is not known.
    unknown: u64,
    heard: Instant,
    /// The last round trip that was told, in microseconds, and when.
    round_trip: Option<(u64, Instant)>,
    begun: Instant,
}

impl Stream<'_> {
    async fn serve(
        &mut self,
        mut orders: tokio::sync::mpsc::Receiver<Order>,
        replaced: tokio_util::sync::CancellationToken,
    ) -> End {
        let config = &self.gate.config;
        let mut ping = tokio::time::interval(config.ping);
        let mut review = tokio::time::interval_at(tokio::time::Instant::now() + config.review, config.review);
        let silence = config.silence();
        loop {
            let step = tokio::select! {
                () = self.gate.shutdown.cancelled() => Err(End::Refused(Refusal::Ending, "the server ends".to_owned())),
                () = replaced.cancelled() => {
                    Err(End::Refused(Refusal::Replaced, format!("another stream speaks for {} now", self.role)))
                }
                message = next(&mut self.socket) => match message {
                    Ok(message) => self.take(message).await,
                    Err(end) => Err(end),
                },
                Some(order) = orders.recv() => send(&mut self.socket, &order).await,
                _ = ping.tick() => {
                    if self.heard.elapsed() > silence {
                        Err(End::Lost(format!("nothing was heard of it for {} s", silence.as_secs_f32())))
                    } else {
                        let sent = micros(self.begun.elapsed()).to_be_bytes().to_vec();
                        write(&mut self.socket, Message::Ping(sent.into())).await
                    }
                }
                _ = review.tick() => self.review().await,
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn take(&mut self, message: Message) -> Result<(), End> {
        self.heard = Instant::now();
        match message {
            Message::Text(text) => match serde_json::from_str::<Report>(&text) {
                Ok(report) => self.report(report).await,
                Err(error) => Err(End::Refused(Refusal::Protocol, format!("a frame cannot be read: {error}"))),
            },
            Message::Pong(sent) => {
                let Ok(sent) = <[u8; 8]>::try_from(sent.as_ref()) else { return Ok(()) };
                let took = micros(self.begun.elapsed()).saturating_sub(u64::from_be_bytes(sent));
                self.measured(took).await;
                Ok(())
            }
            Message::Ping(_) => Ok(()),
            Message::Binary(_) => Err(End::Refused(Refusal::Protocol, "frames are text".to_owned())),
            Message::Close(_) => Err(End::Lost("it closed the stream".to_owned())),
        }
    }

    async fn report(&mut self, report: Report) -> Result<(), End> {
        let node = match &self.role {
            Role::Enforcer { node } => Some(node.clone()),
            Role::Outside { .. } => None,
        };
        let of_another = |node: &str, said: &str| {
            let message = format!("the enforcer of node {node} told of node {said:?}");
            Err(End::Refused(Refusal::NotYours, message))
        };
        match (report, node) {
            (Report::Status(status), Some(node)) => {
                if status.node != node {
                    return of_another(&node, &status.node);
                }
                self.tell(&node, Said::Status(status)).await
            }
            (Report::Flows { events, before }, Some(node)) => {
                if let Some(event) = events.iter().find(|event| event.node != node) {
                    return of_another(&node, &event.node);
                }
                let left_out = self.gate.registry.advance(&node, self.started_us, before, events.len() as u64);
                self.tell(&node, Said::Flows(events, left_out)).await
            }
            (Report::Counts { id, counts }, Some(_)) => {
                self.gate.registry.counted(&self.who, id, counts);
                Ok(())
            }
            (Report::Goodbye { enforces_on }, _) => Err(End::Goodbye(enforces_on)),
            (Report::Token { token }, _) => {
                self.token = token.0;
                self.review().await
            }
            (Report::Lines { session, lines }, _) => {
                self.gate.registry.said(&self.who, session, Told::Lines(lines));
                Ok(())
            }
            (Report::Ended { session, why }, _) => {
                self.gate.registry.said(&self.who, session, Told::Ended(why));
                Ok(())
            }
            (Report::Unknown, _) => {
                self.unknown += 1;
                Ok(())
            }
            (Report::Hello { .. }, _) => Err(End::Refused(Refusal::Protocol, "a second hello".to_owned())),
            (Report::Status(_) | Report::Flows { .. } | Report::Counts { .. }, None) => {
                Err(End::Refused(Refusal::NotYours, "an outside host has no kernel to tell of".to_owned()))
            }
        }
    }

    async fn tell(&mut self, node: &str, said: Said) -> Result<(), End> {
        if self.gate.registry.tell(node, self.epoch, said).await {
            return Ok(());
        }
        Err(End::Refused(Refusal::Ending, "the server ends".to_owned()))
    }

    async fn measured(&mut self, took: u64) {
        let is_told = self
            .round_trip
            .is_some_and(|(told, at)| at.elapsed() < TELL_ROUND_TRIPS && took.abs_diff(told) < TELL_DIFFERENCE_US);
        if let (Role::Enforcer { node }, false) = (&self.role, is_told) {
            self.round_trip = Some((took, Instant::now()));
            self.gate.registry.tell(node, self.epoch, Said::RoundTrip(took)).await;
        }
    }

    /// Whether the token is still good, and still the same one's. Where nobody can be asked the stream stays.
    async fn review(&mut self) -> Result<(), End> {
        match self.gate.reviewer.review(&self.token).await {
            Ok(caller) if bound::is_same(&caller, &self.caller) => Ok(()),
            Ok(_) => Err(End::Refused(Refusal::Token, "the new token is somebody else's".to_owned())),
            Err(error @ Refused::NotGood(_)) => Err(End::Refused(Refusal::Token, error.to_string())),
            Err(Refused::Unavailable(why)) => {
                tracing::debug!(why, "a token could not be reviewed anew");
                Ok(())
            }
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

async fn next(socket: &mut WebSocket) -> Result<Message, End> {
    match socket.recv().await {
        Some(Ok(message)) => Ok(message),
        Some(Err(error)) => Err(End::Lost(broken(&error))),
        None => Err(End::Lost("the connection ended".to_owned())),
    }
}

/// Why a connection broke, with its causes.
fn broken(error: &axum::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    format!("the connection broke: {text}")
}

async fn send(socket: &mut WebSocket, order: &Order) -> Result<(), End> {
    match serde_json::to_string(order) {
        Ok(text) => write(socket, Message::Text(text.into())).await,
        Err(error) => Err(End::Lost(format!("an order cannot be written: {error}"))),
    }
}

async fn write(socket: &mut WebSocket, message: Message) -> Result<(), End> {
    match tokio::time::timeout(WRITE, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(End::Lost(broken(&error))),
        Err(_) => Err(End::Lost("it takes nothing that is written to it".to_owned())),
    }
}

/// Says why, where the peer still listens, and closes.
async fn close(mut socket: WebSocket, end: &End, user: &str, address: SocketAddr) {
    match end {
        End::Lost(why) => tracing::warn!(%address, user, why, "a stream is lost"),
        End::Goodbye(enforces_on) => tracing::info!(%address, user, enforces_on, "a stream ended in order"),
        End::Refused(reason, message) => {
            tracing::warn!(%address, user, ?reason, message, "a stream is closed");
            let order = Order::Refused { reason: *reason, message: message.clone() };
            if send(&mut socket, &order).await.is_err() {
                return;
            }
            let frame = CloseFrame { code: close_code::POLICY, reason: "".into() };
            let _gone = write(&mut socket, Message::Close(Some(frame))).await;
        }
    }
}
