//! Probes from inside of pods: connections that are tried from a real pod's network namespace, without touching its containers.
//!
//! Nothing is started unless the agent was told to allow it. Which namespace is a pod's this agent finds out itself: a server names pods, and no
//! files. What a server may ask for is bounded here, whatever the server itself bounds.
//!
//! - [`place`]: the pod's namespace, and the processes in it; [`files`]: how the pod resolves names.
//! - [`session`]: the thread inside.

mod files;
mod place;
mod session;

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use signalbox_api::{probe::Request, stream::Report};
use signalbox_policy::PodRef;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task, time,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Handle, netns::Netns, run::ask::Whereabouts, telling::Desk};
use place::Room;

/// What was told and not yet written to the server: no more waits. A probe that finds no room is not tried.
const TOLD: usize = 256;
/// Frames with requests that wait for a session.
const ASKED: usize = 16;
/// How often it is looked whether a pod is still there.
const LOOK: Duration = Duration::from_millis(250);

/// How much may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Sessions at a time.
    pub sessions: usize,
    /// Sessions that begin within a minute.
    pub each_minute: usize,
    /// How long a session lasts.
    pub life: Duration,
    /// Connections that a session tries.
    pub attempts: usize,
    /// Connections at a time in a session.
    pub at_once: usize,
    /// How long a connection may take.
    pub longest: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            sessions: 4,
            each_minute: 60,
            life: Duration::from_secs(60),
            attempts: 32,
            at_once: 8,
            longest: Duration::from_secs(10),
        }
    }
}

/// Starts probes inside of this node's pods. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inside {
    desk: Desk,
    /// The namespace of the node; `None`: the one this process is in.
    netns: Option<PathBuf>,
    bounds: Bounds,
    /// One for each session that may be. They are the node's, not a stream's: what is left of a stream that broke counts until it has ended.
    slots: Arc<Semaphore>,
}

impl Inside {
    /// For the node of an enforcer. `netns`: as [`crate::Config::netns`].
    pub fn new(handle: &Handle, netns: Option<PathBuf>, bounds: Bounds) -> Self {
        let slots = Arc::new(Semaphore::new(bounds.sessions));
        Self { desk: handle.answers.desk.clone(), netns, bounds, slots }
    }

    /// One session, from the search for the pod to its end. Why it ended.
    async fn run(&self, pod: PodRef, ears: session::Ears, end: CancellationToken) -> String {
        let (known, room) = match end.run_until_cancelled(self.find(pod.clone())).await {
            None => return ENDED.to_owned(),
            Some(Err(why)) => return why,
            Some(Ok(found)) => found,
        };
        tracing::info!(%pod, session = ears.session, "a probe is started inside of the pod");
        let (bounds, inner) = (self.bounds.clone(), end.child_token());
        let _guard = inner.clone().drop_guard();
        let mut inside = task::spawn_blocking({
            let inner = inner.clone();
            move || session::run(&room, &bounds, ears, &inner)
        });
        let gone = tokio::select! {
            why = &mut inside => return why.unwrap_or_else(|_| "the probe ended by a panic".to_owned()),
            why = self.gone(&pod, &known) => why,
        };
        inner.cancel();
        // It ends at once; the pod's end is why.
        let _why = inside.await;
        gone
    }

    async fn find(&self, pod: PodRef) -> Result<(Whereabouts, Room), String> {
        let known = self.whereabouts(&pod).await?;
        let (netns, wanted) = (self.netns.clone(), known.clone());
        let found = task::spawn_blocking(move || {
            let node = Netns::open(netns.as_deref()).map_err(|error| error.to_string())?;
            place::find(&node, &wanted).map_err(|why| format!("{pod}: {why}"))
        });
        let room = found.await.map_err(|_| "the search for the pod's namespace ended by a panic".to_owned())??;
        Ok((known, room))
    }

    async fn whereabouts(&self, pod: &PodRef) -> Result<Whereabouts, String> {
        let asked = pod.clone();
        match self.desk.ask(move |core| core.whereabouts(&asked)).await {
            Ok(found) => found.map_err(|why| why.to_string()),
            Err(_) => Err("the enforcer is ending".to_owned()),
        }
    }

    /// Waits until a pod is no longer where it was.
    async fn gone(&self, pod: &PodRef, known: &Whereabouts) -> String {
        loop {
            time::sleep(LOOK).await;
            match self.whereabouts(pod).await {
                Ok(now) if (now.interface, &now.uid) == (known.interface, &known.uid) => {}
                Ok(_) => return format!("{pod} is another pod now"),
                Err(why) => return format!("{pod} is gone: {why}"),
            }
        }
    }
}

/// Why a session ended that nobody wants any more.
const ENDED: &str = "nobody wants it any more";
/// Why there is none.
const NOT_ALLOWED: &str = "this node's enforcer starts no probes inside of pods: start it with --allow-probes-in-pods (`signalbox install --allow-real-pods` does)";

/// The sessions of one stream: they end with it.
pub struct Sessions {
    inside: Option<Inside>,
    told: mpsc::Sender<Report>,
    tells: mpsc::Receiver<Report>,
    open: HashMap<u64, Open>,
    began: VecDeque<Instant>,
}

struct Open {
    requests: mpsc::Sender<Vec<Request>>,
    _end: DropGuard,
}

impl Sessions {
    /// None yet. `inside`: absent where none may be started.
    pub fn new(inside: Option<Inside>) -> Self {
        let (told, tells) = mpsc::channel(TOLD);
        Self { inside, told, tells, open: HashMap::new(), began: VecDeque::new() }
    }

    /// Starts a session; where that may not be, says why at once.
    ///
    /// # Errors
    ///
    /// Why there is none: a sentence for people.
    pub fn start(&mut self, session: u64, pod: Option<&str>) -> Result<(), String> {
        let pod = pod.ok_or("an enforcer starts probes inside of pods, and none on the node itself")?;
        let inside = self.inside.clone().ok_or(NOT_ALLOWED)?;
        let name = pod.split_once('/').filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
        let (namespace, name) = name.ok_or_else(|| format!("{pod:?} is no namespace/name of a pod"))?;
        let pod = PodRef { namespace: namespace.to_owned(), name: name.to_owned() };
        if self.open.contains_key(&session) {
            return Err(format!("there is a session {session} already"));
        }
        let slot = self.slot(&inside)?;
        let (requests, asked) = mpsc::channel(ASKED);
        let end = CancellationToken::new();
        self.open.insert(session, Open { requests, _end: end.clone().drop_guard() });
        let told = self.told.clone();
        tokio::spawn(async move {
            let ears = session::Ears { session, asked, told: told.clone() };
            let why = inside.run(pod.clone(), ears, end).await;
            drop(slot);
            tracing::info!(%pod, session, why, "a probe inside of the pod has ended");
            // The stream may have gone.
            let _gone = told.send(Report::Ended { session, why }).await;
        });
        Ok(())
    }

    /// A place among those that may be at a time, and within a minute.
    fn slot(&mut self, inside: &Inside) -> Result<OwnedSemaphorePermit, String> {
        let Bounds { sessions, each_minute, .. } = inside.bounds;
        let is_old = |began: &Instant| began.elapsed() > Duration::from_secs(60);
        while self.began.front().is_some_and(is_old) {
            self.began.pop_front();
        }
        if self.began.len() >= each_minute {
            return Err(format!(
                "this node has begun {each_minute} probes inside of pods within a minute, and begins no more"
            ));
        }
        let slot = inside.slots.clone().try_acquire_owned();
        let slot =
            slot.map_err(|_| format!("{sessions} probes run inside of this node's pods, and there may be no more"))?;
        self.began.push_back(Instant::now());
        Ok(slot)
    }

    /// Requests for a session. For one that has ended, or never was, they are void.
    pub fn ask(&mut self, session: u64, lines: Vec<Request>) {
        let is_lost = self.open.get(&session).is_some_and(|open| open.requests.try_send(lines).is_err());
        if is_lost {
            // More was asked for than it takes: it ends, and says so.
            self.open.remove(&session);
        }
    }

    /// Ends a session.
    pub fn end(&mut self, session: u64) {
        self.open.remove(&session);
    }

    /// What is to be told to the server next.
    pub async fn next(&mut self) -> Report {
        match self.tells.recv().await {
            Some(report) => {
                if let Report::Ended { session, .. } = &report {
                    self.open.remove(session);
                }
                report
            }
            // It cannot be: a sender is in the value itself.
            None => std::future::pending().await,
        }
    }
}
