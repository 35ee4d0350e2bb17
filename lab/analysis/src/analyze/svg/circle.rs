//! Places on a circle, and curves across it.

use std::f64::consts::{FRAC_PI_2, PI, TAU};

use super::groups::Group;

/// Room between two names, in pixels along the circle.
const PITCH: f64 = 17.0;
/// Room between two namespaces, in names.
const GAP: f64 = 1.4;
/// The smallest circle.
const LEAST: f64 = 110.0;
/// The width of a character, on average.
const CHARACTER: f64 = 6.7;

/// Where everything is.
pub(super) struct Circle {
    angles: Vec<f64>,
    radius: f64,
    centre: f64,
    /// Width and height, in pixels.
    pub size: f64,
}

impl Circle {
    pub(super) fn of(groups: &[Group]) -> Self {
        let mut at = 0.0;
        let mut slots = Vec::with_capacity(groups.len());
        for (index, group) in groups.iter().enumerate() {
            let begins = index > 0 && groups[index - 1].namespace() != group.namespace();
            at += if begins { GAP } else { 0.0 };
            slots.push(at);
            at += 1.0;
        }
        let all = at + GAP;
        let radius = (all * PITCH / TAU).max(LEAST);
        let longest = groups.iter().map(|group| group.label().chars().count()).max().unwrap_or(0);
        let longest = f64::from(u32::try_from(longest).unwrap_or(u32::MAX));
        let centre = radius + 34.0 + longest * CHARACTER;
        let angles = slots.iter().map(|slot| slot / all * TAU - FRAC_PI_2).collect();
        Self { angles, radius, centre, size: centre * 2.0 }
    }

    pub(super) fn point(&self, index: usize) -> (f64, f64) {
        self.at(self.angles[index], self.radius)
    }

    /// Where a name begins or ends, how it is turned, and which.
    pub(super) fn label(&self, index: usize) -> (f64, f64, f64, &'static str) {
        let angle = self.angles[index];
        let (x, y) = self.at(angle, self.radius + 24.0);
        let is_left = angle.cos() < -1e-9;
        let turn = (if is_left { angle + PI } else { angle }).to_degrees();
        (x, y, turn, if is_left { "end" } else { "start" })
    }

    /// The band of a namespace, from its first to its last pod.
    pub(super) fn arc(&self, first: usize, last: usize) -> String {
        let radius = self.radius + 13.0;
        let half = PITCH * 0.42 / self.radius;
        let (from, to) = (self.angles[first] - half, self.angles[last] + half);
        let ((x1, y1), (x2, y2)) = (self.at(from, radius), self.at(to, radius));
        let is_large = u8::from(to - from > PI);
        format!("M{x1:.1} {y1:.1}A{radius:.1} {radius:.1} 0 {is_large} 1 {x2:.1} {y2:.1}")
    }

    /// A curve from one to another; it bends towards the middle, the more the further they are apart. From one to itself
    /// it is a loop.
    pub(super) fn curve(&self, from: usize, to: usize) -> String {
        let (a, b) = (self.angles[from], self.angles[to]);
        let edge = self.radius - 7.0;
        if from == to {
            let spread = 7.0 / self.radius;
            let ((x1, y1), (x2, y2)) = (self.at(a - spread, edge), self.at(a + spread, edge));
            let ((c1, d1), (c2, d2)) = (self.at(a - spread * 4.0, edge - 34.0), self.at(a + spread * 4.0, edge - 34.0));
            return format!("M{x1:.1} {y1:.1}C{c1:.1} {d1:.1} {c2:.1} {d2:.1} {x2:.1} {y2:.1}");
        }
        let apart = {
            let plain = (a - b).abs();
            plain.min(TAU - plain)
        };
        let ((x1, y1), (x2, y2)) = (self.at(a, edge), self.at(b, edge));
        let middle = (((x1 + x2) / 2.0) - self.centre, ((y1 + y2) / 2.0) - self.centre);
        let pull = 1.0 - (0.25 + 0.75 * apart / PI);
        let (cx, cy) = (self.centre + middle.0 * pull, self.centre + middle.1 * pull);
        format!("M{x1:.1} {y1:.1}Q{cx:.1} {cy:.1} {x2:.1} {y2:.1}")
    }

    fn at(&self, angle: f64, radius: f64) -> (f64, f64) {
        (self.centre + radius * angle.cos(), self.centre + radius * angle.sin())
    }
}
