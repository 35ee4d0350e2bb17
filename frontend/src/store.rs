//! The picture as signals: each part has one, each cell has one, and an event sets only those that it changes.

use std::collections::HashMap;
use std::sync::Arc;

use leptos::prelude::*;
use signalbox_api::cell::CellKey;
use signalbox_api::kernel::EnforcerStatus;
use signalbox_api::session::{PolicyVerb, Rights};
use signalbox_api::state::{DnsFact, Enforcement, Event, FlowPulse, LessonStep, PolicyInfo, RoundInfo};

use crate::browser;
use crate::model::directory::Directory;
use crate::model::draft::{self, Draft};
use crate::model::grid::Wish;
use crate::model::picture::{Entry, Part, Picture, Station};
use crate::route::{Edited, Route};

/// How the page stands with the server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Link {
    /// The first connection is under way.
    Connecting,
    /// Changes arrive.
    Live,
    /// Lost: what is shown is old. The next attempt begins at this time of the browser's clock.
    Lost {
        /// Milliseconds.
        retry_at_ms: f64,
    },
}

/// Whether the server lets the reader in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// As far as the page knows.
    Open,
    /// They have to log in.
    Shut {
        /// Why, where they were logged in before.
        why: Option<String>,
    },
}

/// A connection that runs along its line on the map.
#[derive(Clone, Debug, PartialEq)]
pub struct Runner {
    /// Unique.
    pub id: u64,
    /// What the server said.
    pub pulse: FlowPulse,
}

/// One signal per cell, made when somebody first looks at the cell.
type CellSignals = HashMap<CellKey, ArcRwSignal<Option<Arc<Entry>>>>;

/// Runners at a time: more would be a blur.
const MOST_RUNNERS: usize = 160;

/// All that the views read. Cheap to copy.
#[derive(Clone, Copy)]
pub struct Store {
    /// How the page stands with the server.
    pub link: RwSignal<Link>,
    /// Whether the server lets the reader in.
    pub door: RwSignal<Door>,
    /// What the reader may change, where the server tells users apart. Absent: not known yet.
    pub rights: RwSignal<Option<Rights>>,
    /// The browser's clock, once a second.
    pub now_ms: RwSignal<f64>,
    /// Where the reader is.
    pub route: RwSignal<Route>,
    /// Who serves.
    pub station: RwSignal<Station>,
    /// Endpoints by id.
    pub directory: RwSignal<Arc<Directory>>,
    /// Policies by namespace and name.
    pub policies: RwSignal<Arc<Vec<PolicyInfo>>>,
    /// DNS.
    pub dns: RwSignal<Arc<Vec<DnsFact>>>,
    /// The round.
    pub round: RwSignal<Arc<RoundInfo>>,
    /// Enforcers.
    pub enforcers: RwSignal<Arc<Vec<EnforcerStatus>>>,
    /// Whether anybody enforces.
    pub enforcement: RwSignal<Enforcement>,
    /// The lesson.
    pub lesson: RwSignal<Arc<Vec<LessonStep>>>,
    /// What is wrong with the server's sight.
    pub problems: RwSignal<Arc<Vec<String>>>,
    /// Rises when cells come or go.
    pub shape: RwSignal<u64>,
    /// Rises when any cell changes.
    pub beat: RwSignal<u64>,
    /// What the reader asked to see of the matrix.
    pub wish: RwSignal<Wish>,
    /// Connections that are on their way on the map.
    pub runners: RwSignal<Vec<Runner>>,
    /// What was typed and not yet applied.
    pub drafts: RwSignal<HashMap<Edited, Draft>>,
    /// What was applied a moment ago under a name of its own: its editor opens anew and has to say so.
    pub applied: RwSignal<Option<Edited>>,
    /// The first snapshot is here.
    pub loaded: RwSignal<bool>,
    picture: StoredValue<Picture>,
    cells: StoredValue<CellSignals>,
    next_runner: StoredValue<u64>,
}

impl Store {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            link: RwSignal::new(Link::Connecting),
            door: RwSignal::new(Door::Open),
            rights: RwSignal::default(),
            now_ms: RwSignal::new(browser::now_ms()),
            route: RwSignal::new(Route::parse(&browser::hash())),
            station: RwSignal::default(),
            directory: RwSignal::default(),
            policies: RwSignal::default(),
            dns: RwSignal::default(),
            round: RwSignal::default(),
            enforcers: RwSignal::default(),
            enforcement: RwSignal::default(),
            lesson: RwSignal::default(),
            problems: RwSignal::default(),
            shape: RwSignal::new(0),
            beat: RwSignal::new(0),
            wish: RwSignal::default(),
            runners: RwSignal::default(),
            drafts: RwSignal::new(recalled_drafts()),
            applied: RwSignal::new(None),
            loaded: RwSignal::new(false),
            picture: StoredValue::new(Picture::default()),
            cells: StoredValue::new(HashMap::new()),
            next_runner: StoredValue::new(0),
        }
    }

    /// Takes an event in.
    pub fn apply(self, event: Event) {
        let snapshot = matches!(event, Event::Snapshot(_));
        let mut changes = None;
        self.picture.update_value(|picture| changes = Some(picture.apply(event, browser::now_ms())));
        let Some(changes) = changes else { return };
        for part in &changes.parts {
            self.publish(*part);
        }
        for key in &changes.cells {
            let signal = self.cells.with_value(|cells| cells.get(key).cloned());
            if let Some(signal) = signal {
                signal.set(self.entry(key));
            }
        }
        if changes.shape {
            self.shape.update(|n| *n += 1);
        }
        if !changes.cells.is_empty() {
            self.beat.update(|n| *n += 1);
        }
        if !changes.flows.is_empty() {
            self.send_runners(changes.flows);
        }
        if snapshot {
            self.loaded.set(true);
        }
    }

    fn publish(self, part: Part) {
        self.picture.with_value(|picture| match part {
            Part::Station => self.station.set(picture.station.clone()),
            // A namespace matters to the page by its endpoints only.
            Part::Namespaces => {}
            Part::Endpoints => self.directory.set(Arc::new(Directory::new(picture.endpoints.clone()))),
            Part::Policies => self.policies.set(picture.policies.clone()),
            Part::Dns => self.dns.set(picture.dns.clone()),
            Part::Round => self.round.set(picture.round.clone()),
            Part::Enforcers => self.enforcers.set(picture.enforcers.clone()),
            Part::Enforcement => self.enforcement.set(picture.enforcement),
            Part::Lesson => self.lesson.set(picture.lesson.clone()),
            Part::Problems => self.problems.set(picture.problems.clone()),
        });
    }

    fn send_runners(self, flows: Vec<FlowPulse>) {
        if browser::hidden() {
            return;
        }
        let mut id = self.next_runner.get_value();
        self.runners.update(|runners| {
            for pulse in flows {
                id += 1;
                runners.push(Runner { id, pulse });
            }
            let spare = runners.len().saturating_sub(MOST_RUNNERS);
            runners.drain(..spare);
        });
        self.next_runner.set_value(id);
    }

    /// Takes a runner that has arrived off the map.
    pub fn drop_runner(self, id: u64) {
        self.runners.update(|runners| runners.retain(|runner| runner.id != id));
    }

    /// One cell, now; nobody is told when it changes.
    pub fn entry(self, key: &CellKey) -> Option<Arc<Entry>> {
        self.picture.with_value(|picture| picture.cells.get(key).cloned())
    }

    /// One cell as a signal.
    pub fn cell(self, key: &CellKey) -> ArcRwSignal<Option<Arc<Entry>>> {
        if let Some(signal) = self.cells.with_value(|cells| cells.get(key).cloned()) {
            return signal;
        }
        let signal = ArcRwSignal::new(self.entry(key));
        self.cells.update_value(|cells| {
            cells.insert(key.clone(), signal.clone());
        });
        signal
    }

    /// All cells, now.
    pub fn with_cells<T>(self, read: impl FnOnce(&HashMap<CellKey, Arc<Entry>>) -> T) -> T {
        self.picture.with_value(|picture| read(&picture.cells))
    }

    /// Goes somewhere, with a step in the browser's history.
    pub fn go(self, route: &Route) {
        browser::set_hash(&route.hash());
    }

    /// Opens "why" for a cell in the view at hand.
    pub fn explain(self, key: CellKey) {
        let view = self.route.with_untracked(|route| route.view.clone());
        self.go(&Route { view, why: Some(key) });
    }

    /// Closes "why".
    pub fn close_why(self) {
        let view = self.route.with_untracked(|route| route.view.clone());
        self.go(&Route::to(view));
    }

    /// Keeps a draft, here and in the browser's memory.
    pub fn keep_draft(self, edited: &Edited, draft: Draft) {
        if draft.is_dirty() {
            if let Ok(text) = serde_json::to_string(&draft) {
                browser::remember(&draft::memory_key(edited), &text);
            }
        } else {
            browser::forget(&draft::memory_key(edited));
        }
        self.drafts.update(|drafts| {
            drafts.insert(edited.clone(), draft);
        });
    }

    /// Throws a draft away.
    pub fn drop_draft(self, edited: &Edited) {
        browser::forget(&draft::memory_key(edited));
        self.drafts.update(|drafts| {
            drafts.remove(edited);
        });
    }

    /// Throws all drafts away: they are the reader's who leaves.
    pub fn forget_drafts(self) {
        for key in browser::remembered(draft::MEMORY) {
            browser::forget(&key);
        }
    }

    /// Why policies of a namespace cannot be changed so; `None` where they can. Follows what the reader may do.
    pub fn missing(self, namespace: &str, verbs: &[PolicyVerb]) -> Option<String> {
        if self.station.with(|station| station.viewer.is_none()) {
            return None;
        }
        self.rights.with(|rights| match rights {
            Some(rights) => rights.missing(namespace, verbs),
            None => Some("What you may change is being asked for.".to_owned()),
        })
    }

    /// Why no round can be asked for; `None` where one can.
    pub fn missing_for_rounds(self) -> Option<String> {
        if self.station.with(|station| station.viewer.is_none()) {
            return None;
        }
        self.rights.with(|rights| match rights {
            Some(rights) => rights.missing_for_rounds(),
            None => Some("What you may change is being asked for.".to_owned()),
        })
    }

    /// One policy.
    pub fn policy(self, edited: &Edited) -> Option<PolicyInfo> {
        let Edited::Existing(namespace, name) = edited else { return None };
        self.policies
            .with(|all| all.iter().find(|policy| policy.namespace == *namespace && policy.name == *name).cloned())
    }

    /// The store of this page.
    pub fn here() -> Self {
        expect_context()
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

fn recalled_drafts() -> HashMap<Edited, Draft> {
    let read = |key: String| {
        let draft = serde_json::from_str(&browser::recall(&key)?).ok()?;
        Some((draft::edited_by_key(&key)?, draft))
    };
    browser::remembered(draft::MEMORY).into_iter().filter_map(read).collect()
}
