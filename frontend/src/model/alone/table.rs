//! The simulated matrix's rows and columns.

use super::cell::{self, Lens};
use super::scene::Scene;
use crate::model::grid;

/// What the reader asked to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Words that a row's or column's name or namespace contains. `a > b`: rows with a, columns with b.
    pub filter: String,
    /// One port alone, as it was typed.
    pub port: String,
    /// Addresses outside as rows and columns.
    pub outside: bool,
    /// Only what differs from the baseline.
    pub changed: bool,
}

impl Wish {
    /// The port.
    pub fn lens(&self) -> Lens {
        cell::lens(&self.port)
    }
}

/// Rows and columns, as numbers of ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Downwards.
    pub rows: Vec<usize>,
    /// Across.
    pub columns: Vec<usize>,
}

/// Which ends are drawn. `changed`: those of which something differs, as sources and as destinations.
pub fn table(scene: &Scene, wish: &Wish, changed: Option<(&[usize], &[usize])>) -> Table {
    let last = if wish.outside { scene.ends.len() } else { scene.pods };
    let (row_words, column_words) = grid::words(&wish.filter);
    let fits = |end: usize, words: &[String]| grid::fits(words, &scene.ends[end].place, &scene.ends[end].name);
    let all = || (0..last).collect::<Vec<_>>();
    let (mut rows, mut columns) = match (&column_words, changed) {
        (_, Some((rows, columns))) => (rows.to_vec(), columns.to_vec()),
        (_, None) => (all(), all()),
    };
    match column_words {
        Some(column_words) => {
            rows.retain(|end| fits(*end, &row_words));
            columns.retain(|end| fits(*end, &column_words));
        }
        None => rows.retain(|end| fits(*end, &row_words)),
    }
    Table { rows, columns }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn pods_and_where_asked_for_the_outside_and_what_the_filter_leaves() {
        let scene = Scene::build(&sample::lesson(4), None);
        let by = |filter: &str, outside: bool| {
            table(&scene, &Wish { filter: filter.into(), outside, ..Wish::default() }, None)
        };
        assert_eq!(by("", false), Table { rows: vec![0, 1, 2], columns: vec![0, 1, 2] });
        assert_eq!(by("", true).rows.len(), 5);
        assert_eq!(by("front", false), Table { rows: vec![2], columns: vec![0, 1, 2] });
        assert_eq!(by("web > 198", true), Table { rows: vec![2], columns: vec![4] });
        let changed = table(&scene, &Wish::default(), Some((&[2, 4], &[0])));
        assert_eq!(changed, Table { rows: vec![2, 4], columns: vec![0] });
    }
}
