//! The whole matrix counted and compared, in slices that leave the page time to draw.

use std::ops::AddAssign;

use signalbox_policy::Family;

use super::cell::{self, Difference, Shade};
use super::scene::Scene;

/// How many pairs there are of each shade, a pod and itself aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All ports open.
    pub open: usize,
    /// Some ports open.
    pub part: usize,
    /// Shut.
    pub shut: usize,
    /// Not known.
    pub unknown: usize,
    /// No family in common.
    pub apart: usize,
}

/// Something that differs from the baseline, for all pairs of two kinds of ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The source's kind: index into [`Scene::kinds`].
    pub from: usize,
    /// The destination's.
    pub to: usize,
    /// Set where it goes for one family only.
    pub family: Option<Family>,
    /// What differs.
    pub difference: Difference,
    /// How many pairs that is.
    pub pairs: usize,
}

/// A survey under way, or done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// Between pods.
    pub pods: Tally,
    /// Between pods and the outside, both ways.
    pub outside: Tally,
    /// What differs from the baseline.
    pub changes: Vec<Change>,
    /// Kinds of ends.
    kinds: usize,
    /// How many pairs of kinds are done.
    done: usize,
}

impl Survey {
    /// One that has not begun.
    pub fn of(scene: &Scene) -> Self {
        Self { kinds: scene.kinds.len(), ..Self::default() }
    }

    /// Looks at the next pair of kinds. `false`: there is none left.
    pub fn step(&mut self, scene: &Scene) -> bool {
        if self.is_done() {
            return false;
        }
        let (from, to) = (self.done / self.kinds, self.done % self.kinds);
        self.done += 1;
        let (sources, destinations) = (&scene.kinds[from], &scene.kinds[to]);
        let (Some(source), Some(destination)) = (sources.first(), destinations.first()) else { return true };
        let (is_pod, to_pod) = (scene.is_pod(*source), scene.is_pod(*destination));
        if !is_pod && !to_pod {
            return true;
        }
        let pairs = if from == to { sources.len() * (sources.len() - 1) } else { sources.len() * destinations.len() };
        // Two of a kind speak for it: a pod and itself is another matter.
        let other = if from == to { sources.get(1) } else { Some(destination) };
        let Some(other) = other.filter(|_| pairs > 0) else { return true };
        let cell = scene.cell(*source, *other);
        let tally = if is_pod && to_pod { &mut self.pods } else { &mut self.outside };
        *tally.of_mut(cell::shade(&cell.now, None)) += pairs;
        if let Some(before) = &cell.before {
            let differences = cell::differences(before, &cell.now).into_iter();
            self.changes.extend(differences.map(|(family, difference)| Change { from, to, family, difference, pairs }));
        }
        true
    }

    /// Whether everything was looked at.
    pub fn is_done(&self) -> bool {
        self.done >= self.kinds * self.kinds
    }

    /// From 0 to 1.
    pub fn progress(&self) -> f64 {
        if self.is_done() { 1.0 } else { self.done as f64 / (self.kinds * self.kinds) as f64 }
    }

    /// In how many pairs something opens, shuts, or becomes or ceases to be unknown.
    pub fn balance(&self) -> (usize, usize, usize) {
        let count = |is: fn(&Difference) -> bool| {
            self.changes.iter().filter(|change| is(&change.difference)).map(|change| change.pairs).sum()
        };
        (count(|it| !it.opens.is_empty()), count(|it| !it.closes.is_empty()), count(|it| !it.unsure.is_empty()))
    }
}

impl Tally {
    /// How many of a shade.
    pub const fn of(&self, shade: Shade) -> usize {
        match shade {
            Shade::Open => self.open,
            Shade::Part => self.part,
            Shade::Shut => self.shut,
            Shade::Unknown => self.unknown,
            Shade::Apart => self.apart,
        }
    }

    const fn of_mut(&mut self, shade: Shade) -> &mut usize {
        match shade {
            Shade::Open => &mut self.open,
            Shade::Part => &mut self.part,
            Shade::Shut => &mut self.shut,
            Shade::Unknown => &mut self.unknown,
            Shade::Apart => &mut self.apart,
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        for shade in Shade::ALL {
            *self.of_mut(shade) += other.of(shade);
        }
    }
}

/// Who a kind is, for people: its first, and how many more are alike.
pub fn kind_title(scene: &Scene, kind: usize) -> (String, usize) {
    let members = scene.kinds.get(kind).map_or(&[][..], Vec::as_slice);
    let title = members.first().map(|end| scene.title(*end)).unwrap_or_default();
    (title, members.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::model::alone::workspace::Workspace;

    fn surveyed(workspace: &Workspace) -> (Scene, Survey) {
        let scene = Scene::build(workspace, None);
        let mut survey = Survey::of(&scene);
        while survey.step(&scene) {}
        (scene, survey)
    }

    #[test]
    fn the_lessons_steps_are_counted() {
        let (_, survey) = surveyed(&sample::lesson(0));
        assert_eq!((survey.pods, survey.progress()), (Tally { open: 6, ..Tally::default() }, 1.0));
        let (_, survey) = surveyed(&sample::lesson(4));
        assert_eq!(survey.pods, Tally { part: 2, shut: 4, ..Tally::default() });
        assert_eq!(survey.changes, []);
    }

    #[test]
    fn replicas_count_and_are_asked_about_once() {
        let mut texts = vec![("policies", crate::model::alone::lesson::manifests(4)[2].1.to_owned())];
        let pod = |at: usize| {
            format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: w{at}, namespace: frontend, labels: {{run: web}}}}\n"
            )
        };
        texts.push(("pods", (0..30).map(pod).collect()));
        let (scene, survey) = surveyed(&sample::of(&texts));
        assert_eq!(survey.pods, Tally { shut: 30 * 29, ..Tally::default() });
        assert_eq!(scene.kinds[0].len(), 30);
        assert_eq!(kind_title(&scene, 0), ("frontend/w0".into(), 29));
    }

    #[test]
    fn what_an_edit_opens_and_shuts_is_found_and_no_more() {
        let mut workspace = sample::lesson(4);
        let id = workspace.named("NetworkPolicy backend/dbsvc").expect("it is there").id;
        let text = workspace.item(id).expect("it is there").text();
        workspace.edit(id, &text.replace("tier: front", "tier: nobody").replace("198.51.100.0/24", "203.0.113.0/24"));
        let (scene, survey) = surveyed(&workspace);
        let said: Vec<String> = survey
            .changes
            .iter()
            .map(|change| {
                let name = |kind| kind_title(&scene, kind).0;
                format!("{} -> {}: {}", name(change.from), name(change.to), change.difference.words())
            })
            .collect();
        assert_eq!(
            said,
            [
                "backend/dbsvc -> 198.51.100.0/24: shuts TCP 3306",
                "backend/dbsvc -> 203.0.113.0/24: opens TCP 3306",
                "frontend/web -> backend/dbsvc: shuts TCP 9000, UDP 53",
            ]
        );
        assert_eq!(survey.balance(), (1, 2, 0));
    }

    /// Law: counted by kinds is counted one by one.
    #[test]
    fn by_kinds_and_one_by_one_agree() {
        for step in 0..=4 {
            let (scene, survey) = surveyed(&sample::lesson(step));
            let (mut pods, mut outside) = (Tally::default(), Tally::default());
            for from in 0..scene.ends.len() {
                for to in (0..scene.ends.len()).filter(|to| *to != from) {
                    let shade = cell::shade(&scene.cell(from, to).now, None);
                    match (scene.is_pod(from), scene.is_pod(to)) {
                        (true, true) => *pods.of_mut(shade) += 1,
                        (true, false) | (false, true) => *outside.of_mut(shade) += 1,
                        (false, false) => {}
                    }
                }
            }
            assert_eq!((survey.pods, survey.outside), (pods, outside), "step {step}");
        }
    }
}
