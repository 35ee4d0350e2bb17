//! One stream, from its hello to its end.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use signalbox_api::stream::{MOST_EVENTS, Order, Refusal, Report, Role, SPOKEN, Secret};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::{Ended, Uplink, dial, now_ms};
use crate::inside::Sessions;

/// How long the server may take for its welcome, and to take what is written to it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing may be heard of the server, which pings.
const SILENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether the token's file was written anew.
const TOKEN: Duration = Duration::from_secs(30);
/// How often the report is brought up to date, where nothing else happens.
const REPORT: Duration = Duration::from_secs(1);

/// Talks until the stream ends.
pub async fn talk(uplink: &Uplink, socket: dial::Socket, token: String, shutdown: &CancellationToken) -> Ended {
    let sessions = Sessions::new(uplink.inside.clone());
    let mut talk = Talk { uplink, socket, token, sent: uplink.report.borrow().sent, sessions };
    match talk.run(shutdown).await {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

struct Talk<'a> {
    uplink: &'a Uplink,
    socket: dial::Socket,
    token: String,
    sent: u64,
    /// Probes inside of pods: they end with the stream.
    sessions: Sessions,
}

impl Talk<'_> {
    async fn run(&mut self, shutdown: &CancellationToken) -> Result<std::convert::Infallible, Ended> {
        let (config, backlog) = (&self.uplink.config, &self.uplink.backlog);
        let role = Role::Enforcer { node: config.node.clone() };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.send(&Report::Hello { protocol: SPOKEN, version, role, started_us: self.uplink.started_us }).await?;
        let server_version = tokio::select! {
            () = shutdown.cancelled() => return Err(Ended::Shutdown),
            version = self.welcome() => version?,
        };
        tracing::info!(server = %config.door.server, server_version, "the server takes what this node tells");
        backlog.open();
        self.uplink.report.send_modify(|report| {
            report.connected = true;
            report.since_ms = now_ms();
            report.trouble = None;
            report.server_version = Some(server_version);
            report.connections += 1;
        });
        let mut status = self.uplink.status.clone();
        status.mark_changed();
        let mut tokens = tokio::time::interval_at(tokio::time::Instant::now() + TOKEN, TOKEN);
        let mut reports = tokio::time::interval(REPORT);
        let mut heard = tokio::time::Instant::now();
        loop {
            // What fell while the last frame was written is there already.
            let is_more = backlog.waiting() > 0;
            tokio::select! {
                () = shutdown.cancelled() => return Err(self.goodbye(&mut status).await),
                () = tokio::time::sleep_until(heard + SILENCE) => {
                    return Err(Ended::Broke(format!("nothing was heard of the server for {} s", SILENCE.as_secs())));
                }
                message = self.socket.next() => {
                    heard = tokio::time::Instant::now();
                    match message {
                        Some(Ok(message)) => self.take(message).await?,
                        Some(Err(error)) => return Err(Ended::Broke(error.to_string())),
                        None => return Err(Ended::Broke("the connection ended".to_owned())),
                    }
                }
                changed = status.changed() => {
                    if changed.is_err() {
                        return Err(self.goodbye(&mut status).await);
                    }
                    let status = status.borrow_and_update().clone();
                    self.send(&Report::Status(Box::new(status))).await?;
                }
                () = async { if !is_more { backlog.changed().await } } => self.tell().await?,
                report = self.sessions.next() => self.send(&report).await?,
                _ = tokens.tick() => self.renew().await?,
                _ = reports.tick() => {
                    // A gap has to be told even where nothing falls after it.
                    self.tell().await?;
                    self.report();
                }
            }
        }
    }

    async fn welcome(&mut self) -> Result<String, Ended> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match tokio::time::timeout_at(deadline, self.socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => match serde_json::from_str(&text) {
                    Ok(Order::Welcome { version, .. }) => return Ok(version),
                    Ok(Order::Refused { reason, message }) => return Err(Ended::Refused(reason, message)),
                    Ok(_) | Err(_) => return Err(Ended::Broke("the server's first frame is no welcome".to_owned())),
                },
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
                Ok(Some(Ok(_))) => return Err(Ended::Broke("the server's first frame is no welcome".to_owned())),
                Ok(Some(Err(error))) => return Err(Ended::Broke(error.to_string())),
                Ok(None) => return Err(Ended::Broke("the connection ended".to_owned())),
                Err(_) => return Err(Ended::Broke("the server does not answer the hello".to_owned())),
            }
        }
    }

    async fn take(&mut self, message: Message) -> Result<(), Ended> {
        let Message::Text(text) = message else { return Ok(()) };
        match serde_json::from_str(&text) {
            Ok(Order::Counts { id }) => {
                let counts = (self.uplink.counts)().await;
                self.send(&Report::Counts { id, counts }).await
            }
            Ok(Order::Probe { session, pod }) => match self.sessions.start(session, pod.as_deref()) {
                Ok(()) => Ok(()),
                Err(why) => {
                    tracing::warn!(pod, why, "no probe is started inside of the pod");
                    self.send(&Report::Ended { session, why }).await
                }
            },
            Ok(Order::Lines { session, lines }) => {
                self.sessions.ask(session, lines);
                Ok(())
            }
            Ok(Order::End { session }) => {
                self.sessions.end(session);
                Ok(())
            }
            Ok(Order::Refused { reason, message }) => Err(Ended::Refused(reason, message)),
            Ok(Order::Welcome { .. }) => Ok(()),
            Ok(Order::Unknown) => {
                self.uplink.report.send_modify(|report| report.unknown_frames += 1);
                Ok(())
            }
            Err(error) => Err(Ended::Broke(format!("a frame of the server cannot be read: {error}"))),
        }
    }

    /// Tells the verdicts that wait.
    async fn tell(&mut self) -> Result<(), Ended> {
        if let Some(batch) = self.uplink.backlog.take(MOST_EVENTS) {
            let count = batch.events.len() as u64;
            self.send(&Report::Flows { events: batch.events, before: batch.before }).await?;
            self.sent += count;
        }
        Ok(())
    }

    /// Hands a newer token over, where there is one. One that cannot be read now may be there the next time.
    async fn renew(&mut self) -> Result<(), Ended> {
        match dial::read_token(&self.uplink.config.door).await {
            Ok(token) if token != self.token => {
                self.token.clone_from(&token);
                self.send(&Report::Token { token: Secret(token) }).await
            }
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "whether there is a newer token is not known");
                Ok(())
            }
        }
    }

    fn report(&self) {
        let backlog = &self.uplink.backlog;
        let (sent, left_out, waiting) = (self.sent, backlog.left_out(), backlog.waiting());
        self.uplink.report.send_if_modified(|report| {
            let is_news = (report.sent, report.left_out, report.waiting) != (sent, left_out, waiting);
            (report.sent, report.left_out, report.waiting) = (sent, left_out, waiting);
            is_news
        });
    }

    /// Says what is left to say, as far as the server takes it at once.
    async fn goodbye(&mut self, status: &mut watch::Receiver<signalbox_api::kernel::EnforcerStatus>) -> Ended {
        let last = status.borrow_and_update().clone();
        let enforces_on = self.uplink.config.enforces_on;
        let saying = async {
            self.send(&Report::Status(Box::new(last))).await?;
            self.send(&Report::Goodbye { enforces_on }).await?;
            self.socket.close(None).await.map_err(|error| Ended::Broke(error.to_string()))
        };
        // Whether it was heard changes nothing any more.
        let _heard = tokio::time::timeout(Duration::from_secs(1), saying).await;
        Ended::Shutdown
    }

    async fn send(&mut self, report: &Report) -> Result<(), Ended> {
        let text = serde_json::to_string(report)
            .map_err(|error| Ended::Refused(Refusal::Protocol, format!("a frame cannot be written: {error}")))?;
        match tokio::time::timeout(PATIENCE, self.socket.send(Message::text(text))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Ended::Broke(error.to_string())),
            Err(_) => Err(Ended::Broke("the server takes nothing that is written to it".to_owned())),
        }
    }
}
