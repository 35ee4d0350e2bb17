//! A text field for YAML: line numbers, and marks in the lines that are wrong.

use leptos::html;
use leptos::prelude::*;

use crate::model::check::Mark;

/// Height of a line of text, in its own size; the style sheet says the same.
const LINE_EM: f64 = 1.5;

/// The field. It grows with its text, so that numbers and marks need not follow any scrolling.
#[component]
pub(crate) fn CodeBox(
    /// What is in it.
    text: Memo<String>,
    /// What is wrong with it.
    marks: Memo<Vec<Mark>>,
    /// Takes what was typed.
    typed: Callback<String>,
    /// The field itself, for those who want to put the cursor somewhere.
    field: NodeRef<html::Textarea>,
) -> impl IntoView {
    let count = Memo::new(move |_| text.with(|text| text.split('\n').count()));
    let wrong = Memo::new(move |_| {
        let mut lines: Vec<usize> = marks.with(|marks| marks.iter().filter_map(|mark| mark.line).collect());
        lines.sort_unstable();
        lines.dedup();
        lines
    });
    view! {
        <div class="code">
            <div class="gutter" aria-hidden="true">
                <For each=move || 1..=count.get().max(12) key=|line| *line let:line>
                    <span class:marked=move || wrong.with(|wrong| wrong.contains(&line))>{line}</span>
                </For>
            </div>
            <div class="paper">
                <For each=move || wrong.get() key=|line| *line let:line>
                    <div class="stripe" style:top=format!("{}em", (line.saturating_sub(1)) as f64 * LINE_EM)></div>
                </For>
                <textarea
                    node_ref=field
                    aria-label="Manifest, YAML"
                    aria-describedby="faults"
                    aria-invalid=move || marks.with(|marks| !marks.is_empty()).to_string()
                    spellcheck="false"
                    autocomplete="off"
                    autocapitalize="off"
                    wrap="off"
                    rows=move || count.get().max(12).to_string()
                    prop:value=text
                    on:input=move |event| typed.run(event_target_value(&event))
                ></textarea>
            </div>
        </div>
    }
}

/// Where a line begins and ends, counted as browsers count: in UTF-16 units.
pub(crate) fn span(text: &str, line: usize) -> (u32, u32) {
    let units = |text: &str| u32::try_from(text.encode_utf16().count()).unwrap_or(u32::MAX);
    let start: u32 = text.split_inclusive('\n').take(line.saturating_sub(1)).map(units).sum();
    let length = text.split('\n').nth(line.saturating_sub(1)).map_or(0, units);
    (start, start + length)
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn lines_are_found_in_the_browsers_units() {
        assert_eq!(span("a\nbc\n", 1), (0, 1));
        assert_eq!(span("a\nbc\n", 2), (2, 4));
        assert_eq!(span("ü🚂\nbc", 2), (4, 6));
        assert_eq!(span("a", 9), (1, 1));
    }
}
