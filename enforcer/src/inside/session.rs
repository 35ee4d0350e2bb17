//! The thread inside of a pod's network namespace: it connects, and never listens.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use signalbox_api::{
    probe::{Request, Response},
    stream::Report,
};
use signalbox_probe::{
    agent,
    attempt::{Finding, Goal, attempt},
    resolve::{Resolver, config::Config, exchange::Unwatched},
    system,
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
    time,
};
use tokio_util::sync::CancellationToken;

use super::{Bounds, ENDED, files, place::Room};

/// By what a session hears, and tells.
pub struct Ears {
    /// Its number on the stream.
    pub session: u64,
    /// What is asked.
    pub asked: mpsc::Receiver<Vec<Request>>,
    /// What is told.
    pub told: mpsc::Sender<Report>,
}

/// Enters the namespace on a thread of its own, and tries what is asked until the end. Why it ended. Blocks.
pub fn run(room: &Room, bounds: &Bounds, ears: Ears, end: &CancellationToken) -> String {
    let names = files::resolver(&room.processes).map(Arc::new);
    let inside = room.netns.enter(|| {
        // All of it on this thread: what the runtime makes, other than that, would be in the pod's namespace as well.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ended = runtime.block_on(Session::new(names, bounds, ears).serve(end));
        runtime.shutdown_background();
        Ok::<_, io::Error>(ended)
    });
    match inside {
        Ok(Ok(why)) => why,
        Ok(Err(error)) => format!("the probe cannot be started: {error}"),
        Err(error) => format!("the pod's network namespace cannot be entered: {error}"),
    }
}

struct Session<'a> {
    names: Result<Arc<Resolver>, String>,
    bounds: &'a Bounds,
    ears: Ears,
    turns: Arc<Semaphore>,
    /// Of its questions to DNS servers nothing is told: a server that is older than this agent could not read the frame.
    watch: Arc<Unwatched>,
    /// Connections that are under way, by their ids, and who ends them.
    under_way: HashMap<u64, oneshot::Sender<()>>,
    tasks: JoinSet<(u64, Finding)>,
    tried: usize,
}

impl<'a> Session<'a> {
    fn new(names: Result<Arc<Resolver>, String>, bounds: &'a Bounds, ears: Ears) -> Self {
        let turns = Arc::new(Semaphore::new(bounds.at_once));
        let watch = Arc::default();
        Self { names, bounds, ears, turns, watch, under_way: HashMap::new(), tasks: JoinSet::new(), tried: 0 }
    }

    async fn serve(mut self, end: &CancellationToken) -> String {
        let hello = Response::Hello { version: env!("CARGO_PKG_VERSION").to_owned(), protocols: system::protocols() };
        self.tell(hello).await;
        let life = time::sleep(self.bounds.life);
        tokio::pin!(life);
        // What is under way when it ends is dropped with it, sockets and all.
        loop {
            tokio::select! {
                () = end.cancelled() => return ENDED.to_owned(),
                () = &mut life => return format!("a probe inside of a pod lasts for {} s at most", self.bounds.life.as_secs_f32()),
                asked = self.ears.asked.recv() => {
                    let Some(asked) = asked else { return ENDED.to_owned() };
                    for request in asked {
                        self.take(request).await;
                    }
                }
                Some(ended) = self.tasks.join_next() => {
                    let Ok((id, finding)) = ended else { return "the probe ended by a panic".to_owned() };
                    self.under_way.remove(&id);
                    self.tell(agent::done(id, finding)).await;
                }
            }
        }
    }

    async fn take(&mut self, request: Request) {
        match request {
            Request::Connect { id, protocol, host, port, timeout_ms } => {
                let within =
                    Duration::from_millis(timeout_ms.into()).clamp(Duration::from_millis(1), self.bounds.longest);
                if let Err(why) = self.connect(id, Goal { protocol, host, port, within }) {
                    self.tell(agent::done(id, Finding::broken(why))).await;
                }
            }
            Request::Dropped { id } => {
                if let Some(cancel) = self.under_way.remove(&id) {
                    // It may have ended by itself meanwhile.
                    let _ended = cancel.send(());
                }
            }
            // It told of no question.
            Request::QuestionDropped { .. } => {}
            Request::Resolve { .. } | Request::Control { .. } => {
                let error = "inside of a real pod only connections are tried".to_owned();
                self.tell(Response::Rejected { error }).await;
            }
        }
    }

    fn connect(&mut self, id: u64, goal: Goal) -> Result<(), String> {
        if self.tried >= self.bounds.attempts {
            return Err(format!("a probe inside of a pod tries {} connections at most", self.bounds.attempts));
        }
        let Entry::Vacant(entry) = self.under_way.entry(id) else {
            return Err("another connection has this id".to_owned());
        };
        let names = if goal.host.parse::<IpAddr>().is_ok() {
            // It asks nobody.
            Arc::new(Resolver::new(Config::parse(""), String::new()))
        } else {
            self.names.clone()?
        };
        self.tried += 1;
        let (cancel, cancelled) = oneshot::channel();
        entry.insert(cancel);
        let (turns, told, session) = (self.turns.clone(), self.ears.told.clone(), self.ears.session);
        let watch = self.watch.clone();
        self.tasks.spawn(async move {
            let Ok(_turn) = turns.acquire().await else { return (id, Finding::broken("it ends")) };
            let started = |local, remote: SocketAddr| {
                may_be_tried(remote.ip())?;
                let lines = vec![Response::Started { id, local, remote }];
                // Whoever watches the kernel has to know before the packet leaves.
                told.try_send(Report::Lines { session, lines })
                    .map_err(|_| io::Error::other("the server does not keep up"))
            };
            let finding = tokio::select! {
                biased;
                Ok(()) = cancelled => Finding::dropped_by_kernel(),
                finding = attempt(&goal, &names, &*watch, started) => finding,
            };
            (id, finding)
        });
        Ok(())
    }

    async fn tell(&self, line: Response) {
        // The stream may have gone: then the end comes as well.
        let _gone = self.ears.told.send(Report::Lines { session: self.ears.session, lines: vec![line] }).await;
    }
}

/// Whether a connection there says anything of the network: what listens on a pod's own loopback is nobody's business but the pod's.
fn may_be_tried(address: IpAddr) -> io::Result<()> {
    let address = address.to_canonical();
    let is_everyone = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() || is_everyone {
        return Err(io::Error::other(format!(
            "{address} is not tried from inside of a pod: it leads to no other host, or to many"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_no_single_other_host_is_not_tried() {
        for (address, may) in [
            ("127.0.0.1", false),
            ("127.255.0.9", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("0.0.0.0", false),
            ("::", false),
            ("224.0.0.1", false),
            ("ff02::1", false),
            ("255.255.255.255", false),
            ("10.244.0.3", true),
            ("169.254.169.254", true),
            ("fd00::3", true),
        ] {
            assert_eq!(may_be_tried(address.parse().expect("an address")).is_ok(), may, "{address}");
        }
    }
}
