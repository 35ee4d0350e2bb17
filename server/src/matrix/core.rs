//! The state machine that everything runs through: what happens goes in, commands and events for browsers come out.
//!
//! It is longer than most files here because it is the one place that knows how model, schedule, flights and cells move
//! together; each of those has a file of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use signalbox_api::cell::{Cell, CellKey, Evidence, Outcome, ProbeFact};
use signalbox_api::flow::{Decision, Direction, Protocol};
use signalbox_api::kernel::{EnforcerStatus, FlowEvent};
use signalbox_api::probe::{Request, Response};
use signalbox_api::state::{DnsFact, Endpoint, Enforcement, Event, FlowPulse, LessonStep, RoundInfo};

use super::Now;
use super::cells::Cells;
use super::controls::Controls;
use super::enforcers::{Enforcers, Voice};
use super::flights::{Flight, Flights, ProbeId};
use super::model::{Model, Place, Target, Vantage, absolute};
use super::parse::Run;
use super::questions::{self, Questions};
use super::rounds::{Catch, Cause, Pending, Schedule, Scope};
use super::unprobed::Unprobed;

mod asking;

/// Why a UDP probe that nobody answered says nothing.
pub const MERE_SILENCE: &str =
    "no answer, and whoever listens there need not answer a probe: over UDP, silence says nothing";

/// How long after its own time-out an agent's answer is waited for.
const AGENT_SLACK_MS: u64 = 1_500;

/// How long after a round's end the kernel's events for it may still come.
const KERNEL_SLACK_MS: u64 = 30;

/// How long rounds wait for the enforcers to find a new pod.
const PODS_AWAITED_MS: u64 = 500;

/// What the core needs to be told once.
#[derive(Clone, Debug)]
pub struct Options {
    /// Between the end of one round and the start of the next.
    pub interval_ms: u64,
    /// When an agent gives a connection up.
    pub probe_timeout_ms: u32,
    /// How long after a change contradictions are not yet disagreements.
    pub settle_ms: u64,
    /// How long the first round waits for pods.
    pub first_round_wait_ms: u64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Start an agent.
    StartAgent {
        /// The vantage point's endpoint id.
        at: String,
        /// Comes back with everything the agent says.
        epoch: u64,
        /// Where.
        place: Place,
    },
    /// End it.
    StopAgent {
        /// The vantage point's endpoint id.
        at: String,
    },
    /// Write to an agent.
    Send {
        /// The vantage point's endpoint id.
        at: String,
        /// What.
        requests: Vec<Request>,
    },
    /// The round that was asked for has ended, and nothing is under way.
    Answer {
        /// Who asked.
        ask: u64,
    },
    /// The first matrix stands.
    FirstRound,
}

/// How the cluster differs from what the core knew.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// Every kind has been listed.
    pub synced: bool,
    /// A policy is new, changed or gone: what the enforcers have to catch up with.
    pub policy: Option<Catch>,
}

/// Numbers for `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Probes that ended, by outcome.
    pub probes: BTreeMap<&'static str, u64>,
    /// Rounds that ended, by cause.
    pub rounds: BTreeMap<&'static str, u64>,
    /// Kernel events that belonged to a probe.
    pub kernel_events: u64,
}

/// The core.
pub struct Core {
    options: Options,
    model: Model,
    cells: Cells,
    flights: Flights,
    questions: Questions,
    controls: Controls,
    schedule: Schedule,
    agents: BTreeMap<String, Agent>,
    resolves: HashMap<u64, (String, String, u64)>,
    dns: BTreeMap<(String, String), DnsFact>,
    enforcers: Enforcers,
    voices: BTreeMap<String, Voice>,
    running: Option<Running>,
    round: RoundInfo,
    synced_at: Option<u64>,
    /// For which moment [`Self::advance`] was last called.
    advanced: u64,
    /// Since when an enforcer lacks a pod that is there.
    pods_awaited_since: Option<u64>,
    first_done: bool,
    last_ended: u64,
    asks: Vec<Ask>,
    next_id: u64,
    next_epoch: u64,
    counts: Counts,
    commands: Vec<Command>,
    events: Vec<Event>,
    flows: Vec<FlowPulse>,
    stale: Stale,
    endpoints: Vec<Endpoint>,
    unprobed: Unprobed,
    enforcement: Enforcement,
}

/// Which lists browsers have to get anew.
#[derive(Debug, Default)]
struct Stale {
    endpoints: bool,
    dns: bool,
    enforcers: bool,
}

#[derive(Debug)]
struct Agent {
    epoch: u64,
    instance: String,
    state: AgentState,
}

#[derive(Debug, PartialEq, Eq)]
enum AgentState {
    Connecting,
    Up(Vec<Protocol>),
    Down(String),
}

#[derive(Debug)]
struct Running {
    open: BTreeSet<u64>,
    scope: RunningScope,
    cause: Cause,
}

#[derive(Debug, PartialEq, Eq)]
enum RunningScope {
    All,
    Some,
}

#[derive(Debug)]
struct Ask {
    id: u64,
    after_round: u64,
    until: u64,
}

impl Core {
    /// Nothing is known yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            model: Model::default(),
            cells: Cells::default(),
            flights: Flights::default(),
            questions: Questions::default(),
            controls: Controls::default(),
            schedule: Schedule::default(),
            agents: BTreeMap::new(),
            resolves: HashMap::new(),
            dns: BTreeMap::new(),
            enforcers: Enforcers::default(),
            voices: BTreeMap::new(),
            running: None,
            round: RoundInfo::default(),
            synced_at: None,
            advanced: 0,
            pods_awaited_since: None,
            first_done: false,
            last_ended: 0,
            asks: Vec::new(),
            next_id: 1,
            next_epoch: 1,
            counts: Counts::default(),
            commands: Vec::new(),
            events: Vec::new(),
            flows: Vec::new(),
            stale: Stale::default(),
            endpoints: Vec::new(),
            unprobed: Unprobed::default(),
            enforcement: Enforcement::default(),
        }
    }

    /// The cluster looks different.
    pub fn model(&mut self, model: Model, difference: Difference, now: Now) {
        if difference.synced && self.synced_at.is_none() {
            self.synced_at = Some(now.tick);
        }
        let old = std::mem::replace(&mut self.model, model);
        if old.namespaces != self.model.namespaces {
            self.events.push(Event::Namespaces(self.model.namespaces.clone()));
        }
        if old.policies != self.model.policies {
            self.events.push(Event::Policies(self.model.policies.clone()));
        }
        self.stale.endpoints |= old.endpoints != self.model.endpoints;
        self.match_agents(now);
        let model = &self.model;
        let dns = self.dns.len();
        self.dns.retain(|(from, name), _| model.vantages.contains_key(from) && model.dns_names.contains(name));
        self.stale.dns |= self.dns.len() != dns;
        let cells_differ = old.targets != self.model.targets || old.nodes != self.model.nodes;
        if cells_differ {
            self.cells.set_targets(&self.model.targets, &self.model.nodes, now.wall_ms);
            self.unprobed = Unprobed::of(&self.model);
        }
        let nodes = &self.model.node_names;
        if !nodes.is_empty() && self.enforcers.keep(|node| nodes.contains(node)) {
            self.enforcers_changed(now);
        }
        self.look_who_lags(now);
        if !cells_differ && difference.policy.is_none() {
            return;
        }
        self.cells.unsettle(now.tick + self.options.settle_ms);
        let cause = if difference.policy.is_some() { Cause::PolicyChange } else { Cause::PodChange };
        if self.first_started() {
            self.schedule.changed(cause, difference.policy, now.tick);
        }
    }

    /// An agent said hello.
    pub fn agent_up(&mut self, at: &str, epoch: u64, protocols: Vec<Protocol>, now: Now) {
        let Some(agent) = self.agents.get_mut(at).filter(|agent| agent.epoch == epoch) else { return };
        let up = AgentState::Up(protocols);
        if agent.state == up {
            return;
        }
        agent.state = up;
        self.stale.endpoints = true;
        if self.first_started() {
            // Its row, and its column: what was refused while it started may be open now.
            let concerned = self.model.targets.iter().filter(|(key, target)| {
                key.from == at || key.to == at || target.listeners.iter().any(|(pod, _)| pod == at)
            });
            let cells = concerned.map(|(key, _)| key.clone()).collect();
            self.schedule.some(Cause::PodChange, cells, now.tick);
        }
    }

    /// An agent is lost, or could not be started. It is tried again.
    pub fn agent_down(&mut self, at: &str, epoch: u64, detail: String, now: Now) {
        let Some(agent) = self.agents.get_mut(at).filter(|agent| agent.epoch == epoch) else { return };
        agent.state = AgentState::Down(detail.clone());
        self.stale.endpoints = true;
        for id in self.flights.open_from(at) {
            self.flights.ended(id, now.tick);
            self.close(id.0);
        }
        let lost: Vec<u64> = self.resolves.iter().filter(|(_, (from, ..))| from == at).map(|(id, _)| *id).collect();
        for id in lost {
            self.resolves.remove(&id);
            self.close(id);
        }
        if self.first_started() {
            self.break_row(at, &detail, now);
        }
        self.end_round(now);
    }

    /// An agent wrote a line. It can answer what it was asked, and nothing that another one was: whoever runs in a pod
    /// can write what it likes.
    pub fn agent_line(&mut self, at: &str, epoch: u64, line: Response, now: Now) {
        if self.agents.get(at).is_none_or(|agent| agent.epoch != epoch) {
            return;
        }
        let its_own = |flights: &Flights, id| flights.get(ProbeId(id)).is_some_and(|flight| flight.cell.from == at);
        match line {
            Response::Hello { protocols, .. } => self.agent_up(at, epoch, protocols, now),
            Response::Asking { id, local, remote } => self.asking(at, id, local, remote),
            Response::Started { id, local, remote } if its_own(&self.flights, id) => {
                self.asks_no_more(at, id, local);
                if self.flights.started(ProbeId(id), local, remote) {
                    self.kernel_told(ProbeId(id));
                }
            }
            Response::Done { id, outcome, evidence, latency_us, peer_name, seen_source, detail }
                if its_own(&self.flights, id) =>
            {
                self.questions.forget(id);
                let backend = peer_name.and_then(|name| self.backend(ProbeId(id), &name));
                let fact =
                    ProbeFact { outcome, evidence, latency_us, seen_source, backend, detail, at_ms: now.wall_ms };
                self.done(ProbeId(id), fact, now);
            }
            Response::Started { id, .. } | Response::Done { id, .. } => {
                tracing::debug!(at, id, "an answer to what was not asked, or is over");
            }
            Response::Resolved { id, addresses, latency_us, error } => {
                if self.resolves.get(&id).is_some_and(|(from, ..)| from == at)
                    && let Some((from, name, _)) = self.resolves.remove(&id)
                {
                    let ok = !addresses.is_empty();
                    self.dns_fact(from, name, ok, latency_us, error, now);
                    self.close(id);
                    self.end_round(now);
                }
            }
            Response::Controlled { id, listening } => {
                if let Some((probe, fact)) = self.controls.told(id, at, !listening.is_empty()) {
                    self.finish(probe, fact, now);
                }
            }
            Response::Rejected { error } => tracing::warn!(at, error, "the agent could not read a line"),
        }
    }

    /// The kernel judged.
    pub fn flow(&mut self, event: FlowEvent, now: Now) {
        if let Some(key) = self.unprobed.cell_of(&event) {
            self.cells.observed(&key.clone(), &event, now.tick);
            return;
        }
        if self.is_of_question(&event) {
            return;
        }
        let denial = questions::is_denial(&event).then(|| event.clone());
        match self.flights.event(event, now.tick) {
            Some(id) => self.kernel_told(id),
            None => {
                if let Some(event) = denial {
                    self.questions.keep(event, now.tick);
                }
            }
        }
    }

    /// Somebody connected who speaks for a node.
    pub fn enforcer_connected(&mut self, node: &str, version: &str, now: Now) {
        self.enforcers.connected(node, version, now);
        self.enforcers_changed(now);
    }

    /// An enforcer's condition changed. One that has not connected before is in this process.
    pub fn enforcer(&mut self, status: EnforcerStatus, now: Now) {
        if self.enforcers.told(status, now) {
            self.enforcers.compare(self.model.policies_version, now);
            self.enforcers_changed(now);
        }
    }

    /// What is known of the stream to a node.
    pub fn enforcer_measured(&mut self, node: &str, round_trip_us: Option<u64>, left_out: u64) {
        if self.enforcers.measured(node, round_trip_us, left_out) {
            self.stale.enforcers = true;
        }
    }

    /// Nothing is heard of a node's enforcer any more. Its kernel may go on enforcing: what it decides is not known.
    pub fn enforcer_lost(&mut self, node: &str, why: String, now: Now) {
        self.enforcers.lost(node, why, now);
        self.enforcers_changed(now);
    }

    /// A node's enforcer has ended, and its kernel enforces no more.
    pub fn enforcer_ended(&mut self, node: &str, now: Now) {
        self.enforcers.ended(node);
        self.enforcers_changed(now);
    }

    /// Each node's generation at a moment, as far as is known.
    pub fn generations_at(&self, tick: u64) -> BTreeMap<String, u32> {
        self.enforcers.generations_at(tick)
    }

    fn enforcers_changed(&mut self, now: Now) {
        self.stale.enforcers = true;
        self.look_for_enforcement();
        let voices = self.enforcers.voices();
        if voices == self.voices {
            return;
        }
        self.voices.clone_from(&voices);
        self.cells.set_voices(voices);
        self.cells.unsettle(now.tick + self.options.settle_ms);
        if self.first_started() {
            self.schedule.changed(Cause::PolicyChange, None, now.tick);
        }
    }

    fn look_who_lags(&mut self, now: Now) {
        self.stale.enforcers |= self.enforcers.compare(self.model.policies_version, now);
    }

    /// Someone wants a round.
    pub fn ask(&mut self, id: u64, now: Now) {
        let until = now.tick
            + self.options.first_round_wait_ms
            + 2 * (u64::from(self.options.probe_timeout_ms) + AGENT_SLACK_MS)
            + self.options.settle_ms;
        self.asks.push(Ask { id, after_round: self.round.number, until });
        if self.first_started() {
            self.schedule.changed(Cause::Asked, Some(Catch::Version(self.model.policies_version)), now.tick);
        }
    }

    /// The lesson's steps changed.
    pub fn lesson(&mut self, steps: Vec<LessonStep>) {
        self.events.push(Event::Lesson(steps));
    }

    /// What is wrong with the server's sight changed.
    pub fn problems(&mut self, problems: Vec<String>) {
        self.events.push(Event::Problems(problems));
    }

    /// Time has passed, or something went in.
    pub fn advance(&mut self, now: Now) {
        self.advanced = now.tick;
        for id in self.flights.overdue(now.tick) {
            let fact = broken("the agent in the pod did not answer", now);
            self.finish(id, fact, now);
        }
        for (id, fact) in self.controls.overdue(now.tick) {
            self.finish(id, fact, now);
        }
        let late: Vec<u64> =
            self.resolves.iter().filter(|(_, (_, _, until))| *until <= now.tick).map(|(id, _)| *id).collect();
        for id in late {
            if let Some((from, name, _)) = self.resolves.remove(&id) {
                let error = "the agent in the pod did not answer".to_owned();
                self.dns_fact(from, name, false, 0, Some(error), now);
                self.close(id);
            }
        }
        self.end_round(now);
        self.flights.expire(now.tick);
        self.questions.expire(now.tick);
        match self.have_all_pods() {
            true => self.pods_awaited_since = None,
            false => {
                self.pods_awaited_since.get_or_insert(now.tick);
            }
        }
        if let Some(pending) = self.next_round(now) {
            self.start_round(pending, now);
            self.end_round(now);
        }
        self.answer(now);
    }

    /// When to call [`Self::advance`] next, if nothing else happens: what comes after the moment that it was last called for, be that in
    /// the past by now. A busy machine may have taken longer since than until what was to come next, and nobody has looked at that.
    pub fn next_wake(&self) -> Option<u64> {
        let now = self.advanced;
        let idle = self.running.is_none() && self.first_started();
        let deadlines = [
            self.flights.next_deadline(),
            self.controls.next_deadline(),
            self.resolves.values().map(|(_, _, until)| *until).min(),
            self.schedule.next_look(now),
            self.pods_awaited_since.map(|since| since + PODS_AWAITED_MS).filter(|at| *at > now),
            idle.then_some(self.last_ended + self.options.interval_ms),
            self.synced_at.filter(|_| !self.first_started()).map(|at| at + self.options.first_round_wait_ms),
            self.asks.iter().map(|ask| ask.until).min(),
            (!self.asks.is_empty()).then_some(self.last_ended + KERNEL_SLACK_MS).filter(|at| *at > now),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Takes what is to be done.
    pub fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// Takes what browsers have to be told, gathered.
    pub fn take_events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        if std::mem::take(&mut self.stale.endpoints) {
            let endpoints = self.shown_endpoints();
            if endpoints != self.endpoints {
                self.endpoints.clone_from(&endpoints);
                events.push(Event::Endpoints(endpoints));
            }
        }
        let (changed, gone) = self.cells.take_changes();
        if !gone.is_empty() {
            events.push(Event::CellsGone(gone));
        }
        if !changed.is_empty() {
            events.push(Event::Cells(changed));
        }
        if !self.flows.is_empty() {
            events.push(Event::Flows(std::mem::take(&mut self.flows)));
        }
        if std::mem::take(&mut self.stale.enforcers) {
            events.push(Event::Enforcers(self.enforcers.list()));
        }
        if std::mem::take(&mut self.stale.dns) {
            events.push(Event::Dns(self.dns.values().cloned().collect()));
        }
        events.append(&mut self.events);
        events
    }

    /// Numbers for `/metrics`.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// All cells.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter()
    }

    fn first_started(&self) -> bool {
        self.round.number > 0
    }

    fn match_agents(&mut self, now: Now) {
        let model = &self.model;
        let gone: Vec<String> = self.agents.keys().filter(|at| !model.vantages.contains_key(*at)).cloned().collect();
        for at in gone {
            self.stop_agent(&at, now);
        }
        let vantages: Vec<(String, Vantage)> =
            self.model.vantages.iter().map(|(at, vantage)| (at.clone(), vantage.clone())).collect();
        for (at, vantage) in vantages {
            let known = self.agents.get(&at).map(|agent| agent.instance.clone());
            match &vantage.run {
                Run::Running if known.as_ref() == Some(&vantage.instance) => {}
                Run::Running => {
                    if known.is_some() {
                        self.stop_agent(&at, now);
                    }
                    let epoch = self.next_epoch;
                    self.next_epoch += 1;
                    let state = AgentState::Connecting;
                    self.agents.insert(at.clone(), Agent { epoch, instance: vantage.instance, state });
                    self.commands.push(Command::StartAgent { at, epoch, place: vantage.place });
                }
                Run::Starting => self.stop_agent(&at, now),
                Run::Stopped(why) => {
                    let why = format!("{} does not run: {why}", vantage.place);
                    self.stop_agent(&at, now);
                    self.break_row(&at, &why, now);
                }
            }
        }
    }

    fn stop_agent(&mut self, at: &str, now: Now) {
        if self.agents.remove(at).is_none() {
            return;
        }
        self.commands.push(Command::StopAgent { at: at.to_owned() });
        for id in self.flights.open_from(at) {
            self.flights.ended(id, now.tick);
            self.close(id.0);
        }
        let lost: Vec<u64> = self.resolves.iter().filter(|(_, (from, ..))| from == at).map(|(id, _)| *id).collect();
        for id in lost {
            self.resolves.remove(&id);
            self.close(id);
        }
    }

    fn break_row(&mut self, at: &str, detail: &str, now: Now) {
        let row: Vec<CellKey> = self.model.targets.keys().filter(|key| key.from == at).cloned().collect();
        for key in row {
            self.cells.broken(&key, detail, now.tick, now.wall_ms);
        }
    }

    fn next_round(&mut self, now: Now) -> Option<Pending> {
        if !self.first_started() {
            let synced = self.synced_at?;
            let up = |at: &String| self.agents.get(at).is_some_and(|agent| matches!(agent.state, AgentState::Up(_)));
            let ready = self.model.complete
                && (self.model.nothing_to_try || !self.model.targets.is_empty())
                && self.model.vantages.keys().all(up)
                && self.enforcers.all_enforce()
                && self.have_all_pods();
            if ready || now.tick >= synced + self.options.first_round_wait_ms {
                self.cells.unsettle(now.tick + self.options.settle_ms);
                self.schedule.changed(Cause::Start, None, 0);
            }
        } else if self.running.is_none()
            && !self.schedule.is_pending()
            && now.tick >= self.last_ended + self.options.interval_ms
        {
            self.schedule.changed(Cause::Interval, None, now.tick.saturating_sub(10));
        }
        // A pod that the enforcer has not found yet is open to all: what a probe saw then would say nothing.
        if self.pods_awaited_since.is_some_and(|since| now.tick < since + PODS_AWAITED_MS) {
            return None;
        }
        let caught_up = |catch: &Catch| self.enforcers.caught_up(catch, &self.model.enforceable);
        self.schedule.due(now.tick, self.running.is_some(), caught_up)
    }

    /// Whether the enforcers have taken every pod of their nodes in charge.
    fn have_all_pods(&self) -> bool {
        self.enforcers.have_all_pods(&self.model.enforceable)
    }

    fn start_round(&mut self, pending: Pending, now: Now) {
        self.end_superseded(now);
        let mut open = BTreeSet::new();
        let mut cells = 0;
        let rows: Vec<(String, Vantage)> =
            self.model.vantages.iter().map(|(at, vantage)| (at.clone(), vantage.clone())).collect();
        for (at, vantage) in rows {
            let wanted: Vec<(CellKey, Target)> = self
                .model
                .targets
                .iter()
                .filter(|(key, _)| key.from == at && in_scope(&pending.scope, key))
                .map(|(key, target)| (key.clone(), target.clone()))
                .collect();
            let protocols = match self.agents.get(&at).map(|agent| &agent.state) {
                Some(AgentState::Up(protocols)) => protocols.clone(),
                Some(AgentState::Down(detail)) => {
                    let detail = detail.clone();
                    self.break_row(&at, &detail, now);
                    continue;
                }
                // Not started yet: it joins when it says hello.
                Some(AgentState::Connecting) | None => continue,
            };
            let mut requests = Vec::with_capacity(wanted.len());
            for (key, target) in wanted {
                if !protocols.contains(&key.protocol) {
                    let detail = format!("this kernel has no sockets for {}", key.protocol);
                    self.cells.broken(&key, &detail, now.tick, now.wall_ms);
                    continue;
                }
                cells += 1;
                requests.push(self.probe(key, &vantage, target, &mut open, now));
            }
            if pending.scope == Scope::All && matches!(vantage.place, Place::Pod { .. }) {
                for name in self.model.dns_names.clone() {
                    let id = self.take_id();
                    let until = self.deadline(now);
                    self.resolves.insert(id, (at.clone(), name.clone(), until));
                    open.insert(id);
                    let name = absolute(&name);
                    requests.push(Request::Resolve { id, name, timeout_ms: self.options.probe_timeout_ms });
                }
            }
            if !requests.is_empty() {
                self.commands.push(Command::Send { at, requests });
            }
        }
        let scope = match pending.scope {
            Scope::All => {
                self.round = RoundInfo {
                    number: self.round.number + 1,
                    cause: pending.cause.as_str().to_owned(),
                    started_ms: now.wall_ms,
                    ended_ms: None,
                    cells,
                };
                self.events.push(Event::Round(self.round.clone()));
                tracing::debug!(
                    round = self.round.number,
                    cause = pending.cause.as_str(),
                    cells,
                    resource_version = self.model.policies_version,
                    "round starts"
                );
                RunningScope::All
            }
            Scope::Some(_) => RunningScope::Some,
        };
        self.running = Some(Running { open, scope, cause: pending.cause });
    }

    fn probe(
        &mut self,
        key: CellKey,
        vantage: &Vantage,
        target: Target,
        open: &mut BTreeSet<u64>,
        now: Now,
    ) -> Request {
        let id = self.take_id();
        open.insert(id);
        self.cells.sent(&key, ProbeId(id), now.tick);
        let pod = match &vantage.place {
            Place::Pod { namespace, name, .. } => Some(format!("{namespace}/{name}")),
            Place::Outside { .. } => None,
        };
        let request = Request::Connect {
            id,
            protocol: key.protocol,
            host: target.host,
            port: target.port,
            timeout_ms: self.options.probe_timeout_ms,
        };
        self.flights.sent(
            ProbeId(id),
            Flight {
                cell: key,
                pod,
                destinations: target.destinations,
                sent: now.tick,
                deadline: self.deadline(now),
                started: None,
                words: BTreeMap::new(),
                ended: None,
            },
        );
        request
    }

    fn deadline(&self, now: Now) -> u64 {
        now.tick + self.patience()
    }

    /// How long an agent's answer is waited for.
    fn patience(&self) -> u64 {
        u64::from(self.options.probe_timeout_ms) + AGENT_SLACK_MS
    }

    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// A kernel told of a probe: one that is under way ends now if it was denied.
    fn kernel_told(&mut self, id: ProbeId) {
        self.counts.kernel_events += 1;
        let Some(flight) = self.flights.get(id) else { return };
        if flight.ended.is_some() {
            self.cells.judged(&flight.cell, id, &flight.words);
        } else if flight.denial().is_some() {
            let at = flight.cell.from.clone();
            self.commands.push(Command::Send { at, requests: vec![Request::Dropped { id: id.0 }] });
        }
    }

    fn done(&mut self, id: ProbeId, fact: ProbeFact, now: Now) {
        let Some(flight) = self.flights.get(id).filter(|flight| flight.ended.is_none()) else { return };
        let Some(target) = self.model.targets.get(&flight.cell) else {
            self.finish(id, fact, now);
            return;
        };
        let no_way = matches!(fact.outcome, Outcome::Refused | Outcome::Unreachable);
        if no_way && target.deserted {
            let detail = Some("no ready pod is behind the Service".to_owned());
            self.finish(id, ProbeFact { outcome: Outcome::NoListener, detail, ..fact }, now);
            return;
        }
        if is_mere_silence(&fact, flight, target) {
            let detail = Some(MERE_SILENCE.to_owned());
            self.finish(id, ProbeFact { outcome: Outcome::ProbeBroken, detail, ..fact }, now);
            return;
        }
        if fact.outcome != Outcome::Refused {
            self.finish(id, fact, now);
            return;
        }
        let protocol = flight.cell.protocol;
        let hit = flight.words.values().find_map(|event| event.destination_pod.clone());
        let mut listeners = target.listeners.clone();
        if let Some(pod) = hit.map(|pod| format!("pod:{pod}"))
            && listeners.iter().any(|(known, _)| *known == pod)
        {
            listeners.retain(|(known, _)| *known == pod);
        }
        let up = |at: &String| self.agents.get(at).is_some_and(|agent| matches!(agent.state, AgentState::Up(_)));
        if listeners.is_empty() || !listeners.iter().all(|(at, _)| up(at)) {
            let detail = Some("nobody there can be asked whether somebody listens on that port".to_owned());
            self.finish(id, ProbeFact { detail, ..fact }, now);
            return;
        }
        let mut asked = Vec::new();
        for (at, port) in listeners {
            let request = self.take_id();
            asked.push((request, at.clone()));
            let requests = vec![Request::Control { id: request, ports: vec![(protocol, port)] }];
            self.commands.push(Command::Send { at, requests });
        }
        self.controls.wait(id, fact, asked, now.tick);
    }

    /// The pod behind a Service that calls itself so.
    fn backend(&self, id: ProbeId, peer: &str) -> Option<String> {
        let cell = &self.flights.get(id)?.cell;
        let target = self.model.targets.get(cell).filter(|_| cell.to.starts_with("service:"))?;
        let named = |pod: &&String| pod.rsplit('/').next() == Some(peer);
        target.listeners.iter().map(|(pod, _)| pod).find(named).cloned()
    }

    fn finish(&mut self, id: ProbeId, fact: ProbeFact, now: Now) {
        let Some(flight) = self.flights.get(id).filter(|flight| flight.ended.is_none()) else { return };
        let (key, words) = (flight.cell.clone(), flight.words.clone());
        let side = flight.denial().and_then(|event| event.direction);
        self.flights.ended(id, now.tick);
        *self.counts.probes.entry(fact.outcome.as_str()).or_default() += 1;
        let spec_side = || {
            let spec = &self.model.targets.get(&key)?.spec;
            spec.sides.iter().find(|side| side.decision == Decision::Denied).map(|side| side.direction)
        };
        let stopped_at: Option<Direction> =
            (fact.outcome == Outcome::Dropped).then(|| side.or_else(spec_side)).flatten();
        self.flows.push(FlowPulse { key: key.clone(), outcome: fact.outcome, stopped_at });
        self.cells.probed(&key, id, fact, &words);
        self.close(id.0);
        self.end_round(now);
    }

    fn dns_fact(&mut self, from: String, name: String, ok: bool, latency_us: u64, error: Option<String>, now: Now) {
        let fact = DnsFact { from: from.clone(), name: name.clone(), ok, latency_us, error, at_ms: now.wall_ms };
        self.dns.insert((from, name), fact);
        self.stale.dns = true;
    }

    fn close(&mut self, id: u64) {
        self.questions.forget(id);
        if let Some(running) = &mut self.running {
            running.open.remove(&id);
        }
    }

    fn end_round(&mut self, now: Now) {
        if self.running.as_ref().is_none_or(|running| !running.open.is_empty()) {
            return;
        }
        let Some(running) = self.running.take() else { return };
        self.last_ended = now.tick;
        if running.scope == RunningScope::All {
            *self.counts.rounds.entry(running.cause.as_str()).or_default() += 1;
            self.round.ended_ms = Some(now.wall_ms);
            self.events.push(Event::Round(self.round.clone()));
            if !std::mem::replace(&mut self.first_done, true) {
                self.commands.push(Command::FirstRound);
            }
        }
        self.schedule.follow_up(self.cells.unsettled_contradictions(), now.tick);
        self.look_for_enforcement();
    }

    /// Who enforces, as far as what is known of the cells tells.
    fn look_for_enforcement(&mut self) {
        let found = if self.enforcers.is_empty() { self.cells.enforcement() } else { Enforcement::Signalbox };
        if std::mem::replace(&mut self.enforcement, found) != found {
            self.events.push(Event::Enforcement(found));
        }
    }

    /// A newer round takes over: what is still under way no longer counts for the older one.
    fn end_superseded(&mut self, now: Now) {
        if let Some(running) = &mut self.running {
            running.open.clear();
            if running.scope == RunningScope::All {
                self.round.ended_ms = Some(now.wall_ms);
            }
            self.running = None;
        }
    }

    fn answer(&mut self, now: Now) {
        // What a kernel allowed it may tell a moment after the answer has come.
        let told = self.enforcers.is_empty() || now.tick >= self.last_ended + KERNEL_SLACK_MS;
        let quiet = self.running.is_none() && !self.schedule.is_pending() && told;
        let number = self.round.number;
        let commands = &mut self.commands;
        self.asks.retain(|ask| {
            let done = (quiet && number > ask.after_round) || now.tick >= ask.until;
            if done {
                commands.push(Command::Answer { ask: ask.id });
            }
            !done
        });
    }

    fn shown_endpoints(&self) -> Vec<Endpoint> {
        let mut endpoints = self.model.endpoints.clone();
        for endpoint in &mut endpoints {
            if endpoint.problem.is_none()
                && let Some(AgentState::Down(detail)) = self.agents.get(&endpoint.id).map(|agent| &agent.state)
            {
                endpoint.problem = Some(detail.clone());
            }
        }
        endpoints
    }
}

/// Whether nothing came back where nothing need have come back.
fn is_mere_silence(fact: &ProbeFact, flight: &Flight, target: &Target) -> bool {
    let silent = fact.outcome == Outcome::Dropped && fact.evidence == Evidence::Timeout && flight.denial().is_none();
    silent && flight.cell.protocol == Protocol::Udp && !target.answers
}

fn in_scope(scope: &Scope, key: &CellKey) -> bool {
    match scope {
        Scope::All => true,
        Scope::Some(cells) => cells.contains(key),
    }
}

fn broken(detail: &str, now: Now) -> ProbeFact {
    ProbeFact {
        outcome: Outcome::ProbeBroken,
        evidence: Evidence::Timeout,
        latency_us: None,
        seen_source: None,
        backend: None,
        detail: Some(detail.to_owned()),
        at_ms: now.wall_ms,
    }
}
