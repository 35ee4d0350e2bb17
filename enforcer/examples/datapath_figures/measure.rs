//! Rounds in which everything that is compared runs in turn, and what they come to.

/// Figures of the same thing, one per round.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The value below which a part of all lie, 0.5: the median.
    pub fn at(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (part * (sorted.len().saturating_sub(1)) as f64).round() as usize;
        sorted.get(at).copied().unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        self.at(0.5)
    }

    pub fn least(&self) -> f64 {
        self.at(0.0)
    }

    /// Round by round.
    pub fn combine(&self, other: &Self, with: impl Fn(f64, f64) -> f64) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| with(*a, *b)).collect())
    }

    /// Round by round, how many times the other.
    pub fn ratio(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a / b)
    }
}
