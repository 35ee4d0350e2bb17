//! A table of which only what is in sight is drawn, and of whose cells the tab key reaches one.

use leptos::prelude::*;
use leptos::reactive::computed::Selector;
use leptos::{ev, html};
use signalbox_api::cell::CellKey;

use super::press::key_of;
use crate::browser;
use crate::route::print_key;

/// Height of a row in pixels; the style sheet says the same.
pub(crate) const ROW_PX: f64 = 56.0;
/// Width of the rows' heads in pixels where there are many columns.
pub(crate) const HEAD_PX: f64 = 224.0;
/// From this many rows on, only those in sight are drawn.
const MANY_ROWS: usize = 48;
/// Width of a column in pixels where there are many; the style sheet says the same.
pub(crate) const COLUMN_PX: f64 = 150.0;
/// From this many columns on, only those in sight are drawn.
const MANY_COLUMNS: usize = 32;
/// Rows and columns drawn around those in sight.
const SPARE: usize = 6;

/// The cell that the tab key reaches, or the one that is explained.
pub(crate) type Anchor = Selector<Option<CellKey>>;

/// What of a table is in sight.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    /// The element that scrolls.
    pub scroller: NodeRef<html::Div>,
    /// The first row to draw, and one past the last.
    pub down: Memo<(usize, usize)>,
    /// The first column to draw, and one past the last.
    pub across: Memo<(usize, usize)>,
    /// Whether there are so many columns that not all are drawn.
    pub many: Memo<bool>,
    sight: RwSignal<Sight>,
}

/// In pixels.
#[derive(Clone, Copy, PartialEq)]
struct Sight {
    top: f64,
    height: f64,
    left: f64,
    width: f64,
}

impl Window {
    /// One on so many rows and columns.
    pub(crate) fn new(counts: Memo<(usize, usize)>) -> Self {
        let sight = RwSignal::new(Sight { top: 0.0, height: 900.0, left: 0.0, width: 2_000.0 });
        let down = Memo::new(move |_| {
            let sight = sight.get();
            in_sight(counts.get().0, MANY_ROWS, ROW_PX, sight.top, sight.height)
        });
        let across = Memo::new(move |_| {
            let sight = sight.get();
            in_sight(counts.get().1, MANY_COLUMNS, COLUMN_PX, sight.left, sight.width)
        });
        let many = Memo::new(move |_| counts.get().1 >= MANY_COLUMNS);
        let window = Self { scroller: NodeRef::new(), down, across, many, sight };
        let resize = window_event_listener(ev::resize, move |_| window.look_again());
        on_cleanup(move || resize.remove());
        window
    }

    /// The page has scrolled, or is of another size.
    pub(crate) fn look_again(self) {
        if let Some(scroller) = self.scroller.get_untracked() {
            self.sight.set(Sight {
                top: f64::from(scroller.scroll_top()),
                height: f64::from(scroller.client_height()),
                left: f64::from(scroller.scroll_left()),
                width: f64::from(scroller.client_width()),
            });
        }
    }

    /// The rows among all that are to be drawn.
    pub(crate) fn rows<T: Clone>(self, all: &[T]) -> Vec<T> {
        let (first, end) = self.down.get();
        all[first.min(all.len())..end.min(all.len())].to_vec()
    }

    /// The columns among all that are to be drawn.
    pub(crate) fn band<T: Clone>(self, all: &[T]) -> Band<T> {
        let (first, end) = self.across.get();
        let (first, end) = (first.min(all.len()), end.min(all.len()));
        Band { before: first, columns: all[first..end].to_vec(), behind: all.len() - end }
    }

    /// The table's width where there are many columns, for the style sheet.
    pub(crate) fn width(self, columns: usize) -> Option<String> {
        self.many.get().then(|| format!("{}px", HEAD_PX + columns as f64 * COLUMN_PX))
    }
}

/// The columns to draw, and how many there are on either side of them.
#[derive(Clone, PartialEq)]
pub(crate) struct Band<T> {
    pub before: usize,
    pub columns: Vec<T>,
    pub behind: usize,
}

/// The cell that Tab reaches: the one that was last in use, or the first one if that is out of the picture.
pub(crate) fn anchor(
    active: RwSignal<Option<CellKey>>,
    is_drawn: impl Fn(&CellKey) -> bool + Send + Sync + 'static,
    first: impl Fn() -> Option<CellKey> + Send + Sync + 'static,
) -> Anchor {
    let anchor = Memo::new(move |_| active.get().filter(|key| is_drawn(key)).or_else(&first));
    Selector::new(move || anchor.get())
}

/// A cell that has the focus may be drawn anew while the window moves under it: the focus stays with it. `track` looks at
/// what is drawn.
pub(crate) fn keep_focus(active: RwSignal<Option<CellKey>>, track: impl Fn() + 'static) {
    let inside = StoredValue::new(false);
    let focus = window_event_listener(ev::focusin, move |event| inside.set_value(key_of(event.target()).is_some()));
    on_cleanup(move || focus.remove());
    Effect::new(move |_| {
        track();
        if inside.get_value()
            && let Some(key) = active.get_untracked()
        {
            request_animation_frame(move || browser::refocus(&format!("[data-key='{}']", print_key(&key))));
        }
    });
}

/// Stands for rows that are out of sight.
pub(crate) fn spacer(rows: usize) -> impl IntoView {
    let px = rows as f64 * ROW_PX;
    (rows > 0).then(|| view! { <tr class="spacer" aria-hidden="true"><td style:height=format!("{px}px")></td></tr> })
}

/// Stands for columns that are out of sight.
pub(crate) fn gap(columns: usize) -> impl IntoView {
    (columns > 0).then(|| view! { <td class="gap" aria-hidden="true" colspan=columns.to_string()></td> })
}

/// What to draw of so many rows or columns of this size: the first, and one past the last.
fn in_sight(all: usize, many: usize, size: f64, from: f64, length: f64) -> (usize, usize) {
    if all < many {
        return (0, all);
    }
    let first = (from / size) as usize;
    let last = ((from + length) / size) as usize + 1;
    // Steps of four, so that a slow scroll does not build a row on each pixel.
    let first = first.saturating_sub(SPARE) / 4 * 4;
    (first, (last + SPARE).next_multiple_of(4).min(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_are_drawn_all_and_many_only_in_sight() {
        let rows = |all, top, height| in_sight(all, MANY_ROWS, ROW_PX, top, height);
        assert_eq!(rows(10, 5_000.0, 300.0), (0, 10));
        assert_eq!(rows(100, 0.0, 560.0), (0, 20));
        let (first, end) = rows(100, 50.0 * ROW_PX, 10.0 * ROW_PX);
        assert!(first <= 44 && end >= 67 && end - first < 40, "{first} {end}");
        assert_eq!(rows(100, 98.0 * ROW_PX, 560.0).1, 100);
    }
}
