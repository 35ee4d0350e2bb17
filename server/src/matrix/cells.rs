//! The cells and the merging of facts into them.

use std::collections::{BTreeMap, BTreeSet};

use signalbox_api::cell::{Agreement, Cell, CellKey, Evidence, Outcome, ProbeFact, SpecFact};
use signalbox_api::flow::Decision;
use signalbox_api::kernel::FlowEvent;
use signalbox_api::state::Enforcement;

use super::agreement::{Age, classify};
use super::enforcers::Voice;
use super::flights::ProbeId;
use super::model::Target;
use super::verdict::Judges;

/// All cells.
#[derive(Debug, Default)]
pub struct Cells {
    cells: BTreeMap<CellKey, State>,
    dirty: BTreeSet<CellKey>,
    gone: BTreeSet<CellKey>,
    standing: Standing,
}

/// What all cells are classified by.
#[derive(Debug, Default)]
struct Standing {
    /// Probes that were sent before this moment may have met an older state of affairs.
    settled_from: u64,
    /// The node of each pod.
    nodes: BTreeMap<String, String>,
    /// What each node's kernel tells: without the words of those that judge it, no cell agrees.
    voices: BTreeMap<String, Voice>,
}

#[derive(Debug)]
struct State {
    cell: Cell,
    /// The newest probe, and when it was sent.
    newest: Option<(ProbeId, u64)>,
    /// When the probe was sent whose fact the cell shows.
    shown: u64,
    /// What the kernels said, by node.
    words: BTreeMap<String, Word>,
    /// The nodes of the pods behind a Service.
    behind: Vec<String>,
}

/// What a kernel said.
#[derive(Debug)]
struct Word {
    event: FlowEvent,
    /// It is of an earlier probe than the one whose fact the cell shows.
    is_old: bool,
}

impl Cells {
    /// Takes over which cells there are and what the policies say of them.
    ///
    /// `nodes`: the node of each pod.
    pub fn set_targets(&mut self, targets: &BTreeMap<CellKey, Target>, nodes: &BTreeMap<String, String>, wall_ms: u64) {
        self.standing.nodes.clone_from(nodes);
        let gone: Vec<CellKey> = self.cells.keys().filter(|key| !targets.contains_key(*key)).cloned().collect();
        for key in gone {
            self.cells.remove(&key);
            self.dirty.remove(&key);
            self.gone.insert(key);
        }
        for (key, target) in targets {
            self.gone.remove(key);
            let state = self.cells.entry(key.clone()).or_insert_with(|| {
                self.dirty.insert(key.clone());
                State::new(key, wall_ms)
            });
            if key.to.starts_with("service:") {
                state.behind = target.listeners.iter().filter_map(|(pod, _)| nodes.get(pod)).cloned().collect();
            }
            if state.cell.spec.as_ref() != Some(&target.spec) {
                let decision = |spec: &Option<SpecFact>| spec.as_ref().and_then(|spec| spec.decision);
                if decision(&state.cell.spec) != target.spec.decision {
                    state.cell.since_ms = wall_ms;
                }
                state.cell.spec = Some(target.spec.clone());
                state.classify(&self.standing);
                self.dirty.insert(key.clone());
            }
        }
    }

    /// What each node's kernel tells from now on. What a node said that is lost is forgotten at once.
    pub fn set_voices(&mut self, voices: BTreeMap<String, Voice>) {
        self.standing.voices = voices;
        let voices = &self.standing.voices;
        for (key, state) in &mut self.cells {
            state.words.retain(|node, _| voices.get(node) != Some(&Voice::Lost));
            if state.classify(&self.standing) {
                self.dirty.insert(key.clone());
            }
        }
    }

    /// Something changed: probes sent before `from` settle no contradiction. Cells are classified anew.
    pub fn unsettle(&mut self, from: u64) {
        self.standing.settled_from = from;
        for (key, state) in &mut self.cells {
            if state.classify(&self.standing) {
                self.dirty.insert(key.clone());
            }
        }
    }

    /// A probe has been sent.
    pub fn sent(&mut self, key: &CellKey, id: ProbeId, at: u64) {
        if let Some(state) = self.cells.get_mut(key) {
            state.newest = Some((id, at));
        }
    }

    /// A probe has ended. Passed over where a newer one is under way.
    pub fn probed(&mut self, key: &CellKey, id: ProbeId, fact: ProbeFact, words: &BTreeMap<String, FlowEvent>) {
        let Some(state) = self.cells.get_mut(key) else { return };
        let Some((_, sent)) = state.newest.filter(|(newest, _)| *newest == id) else { return };
        state.shown = sent;
        state.set_probe(fact);
        state.drop_stale_words();
        words.values().for_each(|word| state.take_word(word));
        state.classify(&self.standing);
        self.dirty.insert(key.clone());
    }

    /// Kernels told of a probe after it had ended.
    pub fn judged(&mut self, key: &CellKey, id: ProbeId, words: &BTreeMap<String, FlowEvent>) {
        let Some(state) = self.cells.get_mut(key) else { return };
        if state.newest.is_none_or(|(newest, _)| newest != id) {
            return;
        }
        words.values().for_each(|word| state.take_word(word));
        state.classify(&self.standing);
        self.dirty.insert(key.clone());
    }

    /// The kernel judged traffic of a pod that no probe runs in.
    pub fn observed(&mut self, key: &CellKey, kernel: &FlowEvent, tick: u64) {
        let Some(state) = self.cells.get_mut(key) else { return };
        state.shown = tick;
        let decision = |state: &State| state.cell.kernel.as_ref().map(|known| known.decision);
        let before = decision(state);
        state.take_word(kernel);
        state.classify(&self.standing);
        if decision(state) != before {
            state.cell.since_ms = kernel.at_us / 1_000;
        }
        self.dirty.insert(key.clone());
    }

    /// Who enforces what policies shut, where nobody tells: as far as settled probes show it.
    pub fn enforcement(&self) -> Enforcement {
        let shut = self.cells.values().map(|state| &state.cell).filter(|cell| {
            cell.agreement != Agreement::Unsettled
                && cell.spec.as_ref().is_some_and(|spec| spec.decision == Some(Decision::Denied))
        });
        let (mut through, mut stopped) = (false, false);
        for outcome in shut.filter_map(|cell| cell.probe.as_ref()) {
            match outcome.outcome.decision() {
                Some(Decision::Allowed) => through = true,
                Some(Decision::Denied) => stopped = true,
                None => {}
            }
        }
        match (through, stopped) {
            (true, false) => Enforcement::Nobody,
            (false, true) => Enforcement::Other,
            (false, false) | (true, true) => Enforcement::Unknown,
        }
    }

    /// No probe can run for this cell.
    pub fn broken(&mut self, key: &CellKey, detail: &str, tick: u64, wall_ms: u64) {
        let Some(state) = self.cells.get_mut(key) else { return };
        let known = state.cell.probe.as_ref();
        if known.is_some_and(|fact| fact.outcome == Outcome::ProbeBroken && fact.detail.as_deref() == Some(detail)) {
            return;
        }
        state.newest = None;
        state.shown = tick;
        state.set_probe(ProbeFact {
            outcome: Outcome::ProbeBroken,
            evidence: Evidence::Answer,
            latency_us: None,
            seen_source: None,
            backend: None,
            detail: Some(detail.to_owned()),
            at_ms: wall_ms,
        });
        state.words.clear();
        state.classify(&self.standing);
        self.dirty.insert(key.clone());
    }

    /// Cells whose facts contradict each other while a change settles.
    pub fn unsettled_contradictions(&self) -> BTreeSet<CellKey> {
        let contradicts = |state: &&State| {
            state.cell.agreement == Agreement::Unsettled && state.agreement(Age::Settled) == Agreement::Disagree
        };
        self.cells.values().filter(contradicts).map(|state| state.cell.key.clone()).collect()
    }

    /// All cells, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Cell> {
        self.cells.values().map(|state| &state.cell)
    }

    /// Takes the cells that changed, and those that are gone.
    pub fn take_changes(&mut self) -> (Vec<Cell>, Vec<CellKey>) {
        let dirty = std::mem::take(&mut self.dirty);
        let changed = dirty.iter().filter_map(|key| self.cells.get(key)).map(|state| state.cell.clone()).collect();
        (changed, std::mem::take(&mut self.gone).into_iter().collect())
    }
}

impl State {
    fn new(key: &CellKey, wall_ms: u64) -> Self {
        let cell = Cell {
            key: key.clone(),
            probe: None,
            spec: None,
            kernel: None,
            agreement: Agreement::Unsettled,
            since_ms: wall_ms,
        };
        Self { cell, newest: None, shown: 0, words: BTreeMap::new(), behind: Vec::new() }
    }

    fn set_probe(&mut self, fact: ProbeFact) {
        if self.cell.probe.as_ref().map(|known| known.outcome) != Some(fact.outcome) {
            self.cell.since_ms = fact.at_ms;
        }
        self.cell.probe = Some(fact);
    }

    /// A kernel's word on the probe before stands only as long as nothing says otherwise, since its word on this one may be
    /// under way. Where that does not come, the next probe shows it.
    fn drop_stale_words(&mut self) {
        let probe = self.cell.probe.as_ref().and_then(|fact| fact.outcome.decision());
        let spec = self.cell.spec.as_ref().and_then(|fact| fact.decision);
        let is_denied = self.words.values().any(|word| word.event.decision == Decision::Denied);
        let kernels = if is_denied { Decision::Denied } else { Decision::Allowed };
        let fits = probe == Some(kernels) && spec.is_none_or(|spec| spec == kernels);
        self.words.retain(|_, word| fits && !std::mem::replace(&mut word.is_old, true));
    }

    /// A kernel's word on the probe that the cell shows: what it decided, and which pod behind a Service it was about.
    fn take_word(&mut self, event: &FlowEvent) {
        self.words.insert(event.node.clone(), Word { event: event.clone(), is_old: false });
        if let Some(fact) = &mut self.cell.probe
            && self.cell.key.to.starts_with("service:")
            && let Some(pod) = &event.destination_pod
        {
            fact.backend = Some(format!("pod:{pod}"));
        }
    }

    /// No answer, and a kernel says why: of this very probe, not of the one before.
    fn strengthen(&mut self) {
        let is_denial = |word: &Word| !word.is_old && word.event.decision == Decision::Denied;
        let denied = self.cell.kernel.as_ref().is_some_and(|fact| fact.decision == Decision::Denied)
            && self.words.values().any(is_denial);
        if let Some(fact) = &mut self.cell.probe
            && fact.outcome == Outcome::Dropped
            && denied
        {
            fact.evidence = Evidence::KernelEvent;
        }
    }

    fn agreement(&self, age: Age) -> Agreement {
        classify(self.cell.spec.as_ref(), self.cell.probe.as_ref(), self.cell.kernel.as_ref(), age)
    }

    /// Merges the kernels' words, and looks whether all agrees. Gives back whether something of that is new.
    fn classify(&mut self, standing: &Standing) -> bool {
        let backend = self.cell.probe.as_ref().and_then(|fact| fact.backend.as_deref());
        let judges = Judges::of(&self.cell.key, &standing.nodes, &self.behind, backend);
        let verdict = judges.combine(self.words.values().map(|word| &word.event), &standing.voices);
        let is_other_fact = self.cell.kernel != verdict.fact;
        self.cell.kernel = verdict.fact;
        self.strengthen();
        let age = if self.shown < standing.settled_from { Age::Changing } else { Age::Settled };
        let mut agreement = self.agreement(age);
        if agreement == Agreement::Agree && verdict.is_missing {
            agreement = Agreement::Unsettled;
        }
        std::mem::replace(&mut self.cell.agreement, agreement) != agreement || is_other_fact
    }
}
