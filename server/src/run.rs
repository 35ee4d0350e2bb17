//! The one task that owns the core: what happens comes in here, what is to be done goes out. [`inbox`]: what it waits for.

mod inbox;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use signalbox_api::kernel::{EnforcerStatus, FlowEvent};
use signalbox_api::state::LessonStep;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent::{Agent, Said, Word};
use crate::cluster::objects::{Change, Kind, Objects};
use crate::config::Config;
use crate::hub::Hub;
use crate::lesson::Lesson;
use crate::matrix::Now;
use crate::matrix::core::{Command, Core, Difference, Options};
use crate::matrix::model;
use crate::matrix::rounds::Catch;
use crate::matrix::spec::Audit;
use crate::nodes::{News, Registry, Said as NodeSaid};
use crate::standins::{self, Question};
use inbox::{BATCH, Told, drain, next_event, next_news, next_status, waiting_event};

/// Batches of requests that an agent may lag behind.
const AGENT_QUEUE: usize = 256;
/// How far an enforcer may be ahead of the server's own watch, in milliseconds.
const ENFORCER_LEAD_MS: u64 = 100;

/// Where everything comes from.
pub struct Inputs {
    /// From the watches.
    pub changes: mpsc::Receiver<Change>,
    /// Who wants a round.
    pub asks: mpsc::Receiver<oneshot::Sender<()>>,
    /// What a stand-in has to be like.
    pub questions: mpsc::Receiver<Question>,
    /// From the kernel, if someone enforces in this process.
    pub kernel: Option<(broadcast::Receiver<FlowEvent>, watch::Receiver<EnforcerStatus>)>,
    /// From the streams of other nodes' enforcers, if there may be any.
    pub nodes: Option<mpsc::Receiver<News>>,
}

/// How many times as long as the last look at the objects took to wait for the next one: it takes a fifth of a processor at most.
const LOOK_PAUSE: u32 = 5;
/// What is worth a line in the log.
const SLOW_LOOK: std::time::Duration = std::time::Duration::from_millis(50);

/// The task's state.
pub struct Runner {
    core: Core,
    objects: Objects,
    hub: Arc<Hub>,
    client: kube::Client,
    config: Config,
    lesson: Arc<Lesson>,
    model_options: model::Options,
    started: Instant,
    agents: BTreeMap<String, (mpsc::Sender<Vec<signalbox_api::probe::Request>>, CancellationToken)>,
    words: mpsc::Sender<Word>,
    tasks: TaskTracker,
    asks: BTreeMap<u64, oneshot::Sender<()>>,
    next_ask: u64,
    first_round: watch::Sender<bool>,
    stale: Stale,
    problems: Vec<String>,
    steps: Vec<LessonStep>,
    lost_events: u64,
    /// What the model leaves out.
    left_out: Vec<String>,
    /// Not before this moment the objects are looked at anew: on a large cluster that takes a while, and there is always some change.
    next_look: Instant,
    /// The newest stream of each node.
    streams: BTreeMap<String, u64>,
    /// Where hosts outside are reached, if not by exec.
    outside: Option<Arc<Registry>>,
}

/// What has to be looked at anew before the core goes on.
#[derive(Default)]
struct Stale {
    objects: bool,
    policy: Option<Catch>,
    problems: bool,
}

impl Runner {
    /// Nothing is known yet. `words` is where the agents write to.
    pub fn new(
        config: Config,
        client: kube::Client,
        hub: Arc<Hub>,
        lesson: Arc<Lesson>,
        words: mpsc::Sender<Word>,
        first_round: watch::Sender<bool>,
    ) -> Self {
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let options = Options {
            interval_ms: millis(config.interval),
            probe_timeout_ms: u32::try_from(config.probe_timeout.as_millis()).unwrap_or(u32::MAX),
            settle_ms: millis(config.settle),
            first_round_wait_ms: millis(config.first_round_wait),
        };
        let model_options = model::Options {
            skip_namespaces: config.skip_namespaces.clone(),
            run: config.run.clone(),
            cluster_domain: config.cluster_domain.clone(),
            audit: Audit::Unheeded,
            vantages: config.vantages,
            service_host: config.service_host,
            max_cells: config.max_cells,
        };
        Self {
            core: Core::new(options),
            objects: Objects::default(),
            hub,
            client,
            config,
            lesson,
            model_options,
            started: Instant::now(),
            agents: BTreeMap::new(),
            words,
            tasks: TaskTracker::new(),
            asks: BTreeMap::new(),
            next_ask: 1,
            first_round,
            stale: Stale::default(),
            problems: Vec::new(),
            steps: Vec::new(),
            lost_events: 0,
            left_out: Vec::new(),
            next_look: Instant::now(),
            streams: BTreeMap::new(),
            outside: None,
        }
    }

    /// Hosts outside are reached by streams.
    pub fn with_streams(self, outside: Option<Arc<Registry>>) -> Self {
        Self { outside, ..self }
    }

    /// Runs until `shutdown`, and ends all agents then.
    pub async fn run(mut self, mut inputs: Inputs, mut words: mpsc::Receiver<Word>, shutdown: CancellationToken) {
        let (mut events, mut status) = match inputs.kernel.take() {
            Some((events, status)) => (Some(events), Some(status)),
            None => (None, None),
        };
        if let Some(status) = &mut status {
            self.enforcer(status.borrow_and_update().clone());
        }
        loop {
            self.settle();
            let now = self.now();
            let wake = self.core.next_wake().map(|at| at.saturating_sub(now.tick).max(1));
            let look = self.next_look.saturating_duration_since(Instant::now()).as_millis();
            let look = self.stale.objects.then(|| u64::try_from(look).unwrap_or(u64::MAX).max(1));
            let wake = wake.into_iter().chain(look).min();
            let sleep = async {
                match wake {
                    Some(wait) => tokio::time::sleep(std::time::Duration::from_millis(wait)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(change) = inputs.changes.recv() => {
                    self.change(change);
                    drain(&mut inputs.changes, |change| self.change(change));
                }
                Some(word) = words.recv() => {
                    self.word(word);
                    drain(&mut words, |word| self.word(word));
                }
                Some(ask) = inputs.asks.recv() => self.ask(ask),
                Some((template, service_labels, asker)) = inputs.questions.recv() => {
                    // Whoever asked may have gone.
                    let _gone = asker.send(standins::plan::plan(&self.objects, template, service_labels));
                }
                news = next_news(&mut inputs.nodes) => {
                    self.news(news);
                    if let Some(nodes) = &mut inputs.nodes {
                        drain(nodes, |news| self.news(news));
                    }
                }
                told = next_event(&mut events) => {
                    self.flow(told);
                    // Take what is there at once, so that one wake serves a whole round.
                    for _ in 0..BATCH {
                        let Some(told) = waiting_event(&mut events) else { break };
                        self.flow(told);
                    }
                }
                fresh = next_status(&mut status) => match fresh {
                    Some(fresh) => self.enforcer(fresh),
                    None => {
                        let node = status.take().map(|status| status.borrow().node.clone()).unwrap_or_default();
                        let now = self.now();
                        self.core.enforcer_lost(&node, "it has ended".to_owned(), now);
                    }
                },
                () = sleep => {}
            }
        }
        for (_, stop) in self.agents.values() {
            stop.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn now(&self) -> Now {
        let tick = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { tick, wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Brings the core up to date, does what it wants done, and tells the browsers.
    fn settle(&mut self) {
        let now = self.now();
        if self.stale.objects && Instant::now() >= self.next_look {
            self.stale.objects = false;
            let begin = Instant::now();
            let model = model::build(&self.objects, &self.model_options);
            let took = begin.elapsed();
            self.next_look = begin + took * LOOK_PAUSE;
            if took > SLOW_LOOK {
                tracing::debug!(ms = took.as_millis(), "the objects have been looked at");
            }
            self.stale.problems |= self.left_out != model.left_out;
            self.left_out.clone_from(&model.left_out);
            let policy = self.stale.policy.take();
            if let Some(catch) = &policy {
                tracing::debug!(?catch, resource_version = model.policies_version, "policies changed");
            }
            self.core.model(model, Difference { synced: self.objects.is_synced(), policy }, now);
            let steps = self.lesson.steps(&self.objects);
            if steps != self.steps {
                self.steps.clone_from(&steps);
                self.core.lesson(steps);
            }
        }
        if std::mem::take(&mut self.stale.problems) {
            let mut problems: Vec<String> = self.objects.problems().map(str::to_owned).collect();
            problems.extend(self.left_out.iter().cloned());
            if self.lost_events > 0 {
                problems.push(format!(
                    "{} of the kernel's events came faster than they could be read since the start",
                    self.lost_events
                ));
            }
            if problems != self.problems {
                self.problems.clone_from(&problems);
                self.core.problems(problems);
            }
        }
        self.core.advance(now);
        loop {
            let commands = self.core.take_commands();
            if commands.is_empty() {
                break;
            }
            // Events first: whoever is told that a round has ended must find it in the picture.
            let events = self.core.take_events();
            self.hub.publish(events, self.core.counts());
            for command in commands {
                self.command(command);
            }
        }
        let events = self.core.take_events();
        self.hub.publish(events, self.core.counts());
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::StartAgent { at, epoch, place } => {
                let stop = CancellationToken::new();
                let (requests, queue) = mpsc::channel(AGENT_QUEUE);
                let agent = Agent {
                    client: self.client.clone(),
                    streams: self.outside.clone(),
                    place,
                    command: self.config.probe_command.clone(),
                    at: at.clone(),
                    epoch,
                    words: self.words.clone(),
                };
                self.tasks.spawn(agent.run(queue, stop.clone()));
                if let Some((_, old)) = self.agents.insert(at, (requests, stop)) {
                    old.cancel();
                }
            }
            Command::StopAgent { at } => {
                if let Some((_, stop)) = self.agents.remove(&at) {
                    stop.cancel();
                }
            }
            Command::Send { at, requests } => {
                let Some((queue, _)) = self.agents.get(&at) else { return };
                // The probes' own deadlines tell what is lost here.
                if let Err(error) = queue.try_send(requests) {
                    tracing::warn!(at, %error, "the agent does not keep up");
                }
            }
            Command::Answer { ask } => {
                if let Some(asker) = self.asks.remove(&ask) {
                    // Whoever asked may have gone.
                    let _gone = asker.send(());
                }
            }
            Command::FirstRound => {
                tracing::info!(after_ms = self.now().tick, "the first matrix stands");
                self.first_round.send_replace(true);
            }
        }
    }

    fn change(&mut self, change: Change) {
        let catch = match &change {
            Change::All(Kind::NetworkPolicy, policies) => {
                policies.iter().map(|policy| policy.version).max().map(Catch::Version)
            }
            Change::Applied(Kind::NetworkPolicy, policy) => Some(Catch::Version(policy.version)),
            Change::Deleted(Kind::NetworkPolicy, policy) => {
                Some(Catch::Gone(policy.version, self.generations_before()))
            }
            // The enforcer counts versions of NetworkPolicy only: there is nothing to wait for.
            Change::All(kind, _) | Change::Applied(kind, _) | Change::Deleted(kind, _) if kind.is_policy() => {
                Some(Catch::Version(0))
            }
            Change::All(..)
            | Change::Applied(..)
            | Change::Deleted(..)
            | Change::Lost(..)
            | Change::Refused(..)
            | Change::Healed(_) => None,
        };
        self.stale.problems = true;
        if self.objects.apply(change) {
            self.stale.objects = true;
            self.stale.policy = match (catch, self.stale.policy.take()) {
                // What has to be waited for is not forgotten over what has not.
                (Some(Catch::Version(0)), Some(before)) => Some(before),
                (catch, before) => catch.or(before),
            };
        }
    }

    /// The generations before the enforcers can have seen what the server sees now.
    fn generations_before(&self) -> BTreeMap<String, u32> {
        self.core.generations_at(self.now().tick.saturating_sub(ENFORCER_LEAD_MS))
    }

    fn word(&mut self, word: Word) {
        let now = self.now();
        match word.said {
            Said::Line(line) => self.core.agent_line(&word.at, word.epoch, line, now),
            Said::Lost(detail) => self.core.agent_down(&word.at, word.epoch, detail, now),
        }
    }

    fn ask(&mut self, asker: oneshot::Sender<()>) {
        let id = self.next_ask;
        self.next_ask += 1;
        self.asks.insert(id, asker);
        let now = self.now();
        self.core.ask(id, now);
    }

    fn flow(&mut self, told: Told) {
        match told {
            Told::Flow(event) => {
                let now = self.now();
                self.core.flow(*event, now);
            }
            Told::Lost(events) => {
                tracing::warn!(events, "the kernel's events came too fast");
                self.lost_events += events;
                self.stale.problems = true;
            }
        }
    }

    /// What a node's stream brings. Words of an older stream than the newest are void.
    fn news(&mut self, news: News) {
        let now = self.now();
        let News { node, epoch, said } = news;
        let newest = self.streams.entry(node.clone()).or_insert(epoch);
        if epoch < *newest {
            return;
        }
        *newest = epoch;
        match said {
            NodeSaid::Connected(version) => self.core.enforcer_connected(&node, &version, now),
            NodeSaid::Status(status) => self.enforcer(*status),
            NodeSaid::Flows(events, left_out) => {
                for event in events {
                    self.core.flow(event, now);
                }
                self.core.enforcer_measured(&node, None, left_out);
            }
            NodeSaid::RoundTrip(took) => self.core.enforcer_measured(&node, Some(took), 0),
            NodeSaid::Lost(why) => self.core.enforcer_lost(&node, why, now),
            NodeSaid::Ended => self.core.enforcer_ended(&node, now),
        }
    }

    fn enforcer(&mut self, status: EnforcerStatus) {
        let now = self.now();
        // The enforcers are ours, and read the annotation.
        self.stale.objects |= std::mem::replace(&mut self.model_options.audit, Audit::Heeded) != Audit::Heeded;
        self.core.enforcer(status, now);
    }
}
