//! The page's own state where no server has a part in it: what was put in, and what the engine makes of it.

use std::ops::Deref;
use std::sync::Arc;

use gloo_timers::callback::Timeout;
use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::browser;
use crate::model::alone::lesson;
use crate::model::alone::pack;
use crate::model::alone::review::{self, Note};
use crate::model::alone::scene::Scene;
use crate::model::alone::survey::Survey;
use crate::model::alone::table::Wish;
use crate::model::alone::workspace::{Loader, Workspace};

/// Where the workspace lies in the browser's memory.
const MEMORY: &str = "signalbox.alone";
/// How long the page may work before it draws again, in milliseconds.
const SLICE_MS: f64 = 10.0;
/// How long nothing must change before it is written to the browser's memory.
const REST_MS: u32 = 500;

/// How long the keyboard must rest before what was typed is judged.
const TYPING_MS: u32 = 90;
/// How long nothing must change before it is reviewed.
const REVIEW_MS: u32 = 150;

/// Something that is one and the same, or another.
#[derive(Debug, Default)]
pub(crate) struct Shared<T>(Arc<T>);

/// Whether the workspace is in the browser's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Saved {
    /// There is nothing to keep.
    #[default]
    Nothing,
    /// It will be in a moment.
    Soon,
    /// It is; so many characters.
    Kept(usize),
    /// It is too large; so many characters.
    TooLarge(usize),
    /// The browser keeps nothing.
    Refused,
}

/// All of it. Cheap to copy.
#[derive(Clone, Copy)]
pub(crate) struct Sim {
    /// What was put in.
    pub workspace: RwSignal<Shared<Workspace>>,
    /// What the engine makes of it.
    pub scene: Memo<Shared<Scene>>,
    /// All pairs counted and compared, as far as that has got.
    pub survey: RwSignal<Shared<Survey>>,
    /// What a reviewer would say; of the scene that was surveyed last.
    pub notes: RwSignal<Shared<Vec<Note>>>,
    /// How much is read of what is put in now: from 0 to 1, and how many objects that were.
    pub loading: RwSignal<Option<(f64, usize)>>,
    /// What the reader asked to see.
    pub wish: RwSignal<Wish>,
    /// Whether it is kept.
    pub saved: RwSignal<Saved>,
    /// What has just happened, for those who do not see it.
    pub said: RwSignal<String>,
    /// What is judged: what was put in, as soon as the keyboard rests.
    settled: RwSignal<Shared<Workspace>>,
    job: StoredValue<u64>,
    rest: StoredValue<Option<Timeout>, LocalStorage>,
    timer: StoredValue<Option<Timeout>, LocalStorage>,
}

impl Sim {
    /// With what the browser remembers.
    pub(crate) fn new() -> Self {
        let packed = browser::recall(MEMORY);
        let remembered = packed.as_deref().and_then(pack::unpack).and_then(|text| Workspace::from_json(&text));
        let saved = match (&packed, &remembered) {
            (Some(packed), Some(_)) => Saved::Kept(packed.len()),
            (_, _) => Saved::Nothing,
        };
        let workspace = RwSignal::new(Shared::new(remembered.unwrap_or_default()));
        let settled = RwSignal::new(workspace.get_untracked());
        let scene = Memo::new(move |before: Option<&Shared<Scene>>| {
            settled.with(|workspace| Shared::new(Scene::build(workspace, before.map(|before| &**before))))
        });
        Self {
            workspace,
            scene,
            survey: RwSignal::default(),
            notes: RwSignal::default(),
            loading: RwSignal::new(None),
            wish: RwSignal::default(),
            saved: RwSignal::new(saved),
            said: RwSignal::default(),
            settled,
            job: StoredValue::new(0),
            rest: StoredValue::new_local(None),
            timer: StoredValue::new_local(None),
        }
    }

    /// That of this page.
    pub(crate) fn here() -> Self {
        expect_context()
    }

    /// Changes what was put in, and keeps it.
    pub(crate) fn change<T>(self, change: impl FnOnce(&mut Workspace) -> T) -> T {
        let mut next = self.workspace.with_untracked(|workspace| Workspace::clone(workspace));
        let result = change(&mut next);
        self.put(next);
        result
    }

    /// Takes what was typed. It is judged when the keyboard rests.
    pub(crate) fn typed(self, id: u32, text: &str) {
        let mut next = self.workspace.with_untracked(|workspace| Workspace::clone(workspace));
        next.edit(id, text);
        self.workspace.set(Shared::new(next));
        let settle = move || self.settled.set(self.workspace.get_untracked());
        self.rest.set_value(Some(Timeout::new(TYPING_MS, settle)));
        self.keep_soon();
    }

    /// Puts another workspace in the place of this one.
    pub(crate) fn put(self, workspace: Workspace) {
        self.rest.set_value(None);
        let workspace = Shared::new(workspace);
        self.workspace.set(workspace.clone());
        self.settled.set(workspace);
        self.keep_soon();
    }

    /// Reads texts, in slices; then goes on with what came of it.
    pub(crate) async fn load(self, mut loader: Loader, lesson: Option<usize>) {
        self.loading.set(Some((0.0, 0)));
        let mut began = browser::now_ms();
        while loader.step() {
            if browser::now_ms() - began > SLICE_MS {
                self.loading.set(Some((loader.progress(), loader.found())));
                TimeoutFuture::new(0).await;
                began = browser::now_ms();
            }
        }
        let (found, refused) = (loader.found(), loader.refused());
        self.change(|workspace| {
            workspace.take(loader);
            workspace.lesson = lesson;
        });
        self.loading.set(None);
        let bad = match refused {
            0 => String::new(),
            1 => " One document could not be read; it is listed under Files.".to_owned(),
            n => format!(" {n} documents could not be read; they are listed under Files."),
        };
        let noun = if found == 1 { "object" } else { "objects" };
        self.said.set(format!("{found} {noun} taken in.{bad}"));
    }

    /// Lesson one at a step, with the step before as the baseline.
    pub(crate) fn lesson(self, step: usize) {
        let mut workspace = Workspace::default();
        for at in [step.saturating_sub(1), step] {
            let mut loader = Loader::default();
            for (name, text) in lesson::manifests(at) {
                loader.add(name, text);
            }
            while loader.step() {}
            workspace.take(loader);
        }
        workspace.lesson = Some(step);
        // Users, the database and the internet are part of the lesson.
        self.wish.update(|wish| wish.outside = true);
        self.put(workspace);
    }

    /// Takes everything out, here and from the browser's memory.
    pub(crate) fn clear(self) {
        self.put(Workspace::default());
        self.timer.set_value(None);
        browser::forget(MEMORY);
        self.wish.set(Wish::default());
        self.saved.set(Saved::Nothing);
        self.said.set("Everything is cleared, also from this browser's memory.".to_owned());
    }

    fn keep_soon(self) {
        self.saved.set(Saved::Soon);
        self.timer.set_value(Some(Timeout::new(REST_MS, move || self.keep())));
    }

    fn keep(self) {
        let packed = self.workspace.with_untracked(|workspace| pack::pack(&workspace.to_json()));
        self.saved.set(if packed.len() > pack::MOST_STORED {
            browser::forget(MEMORY);
            Saved::TooLarge(packed.len())
        } else if browser::remember(MEMORY, &packed) {
            Saved::Kept(packed.len())
        } else {
            Saved::Refused
        });
    }

    /// Counts and compares all pairs whenever the scene is another one, in slices. Ends with the page's view.
    pub(crate) fn survey_whenever_it_changes(self) {
        Effect::new(move |_| {
            let scene = self.scene.get();
            let job = self.job.get_value() + 1;
            self.job.set_value(job);
            let mut survey = Survey::of(&scene);
            // Small ones are done before anybody sees the old figures.
            let mut is_done = slice(&mut survey, &scene);
            if is_done {
                self.survey.set(Shared::new(std::mem::take(&mut survey)));
            }
            spawn_local(async move {
                let is_mine = || self.job.try_get_value() == Some(job);
                while !is_done {
                    self.survey.set(Shared::new(survey.clone()));
                    TimeoutFuture::new(0).await;
                    if !is_mine() {
                        return;
                    }
                    is_done = slice(&mut survey, &scene);
                    if is_done {
                        self.survey.set(Shared::new(std::mem::take(&mut survey)));
                    }
                }
                // Lint looks at everything at once: after a rest, so that typing stays quick.
                TimeoutFuture::new(REVIEW_MS).await;
                if is_mine() {
                    let notes = self.workspace.with_untracked(|workspace| review::review(workspace, &scene));
                    self.notes.set(Shared::new(notes));
                }
            });
        });
    }
}

/// Works for a while; whether all is done.
fn slice(survey: &mut Survey, scene: &Scene) -> bool {
    let began = browser::now_ms();
    while survey.step(scene) {
        if browser::now_ms() - began > SLICE_MS {
            return false;
        }
    }
    true
}

impl<T> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
