//! The colours of the style sheet against WCAG 2.2, level AA: text 4.5:1 on what it lies on, what one has to see 3:1.

use std::collections::BTreeMap;

const SHEET: &str = include_str!("../../assets/ui/style.css");
const SURFACES: [&str; 4] = ["ground", "surface", "raised", "sunk"];
const SIGNALS: [&str; 7] = ["go", "stop", "warn", "dns", "idle", "clash", "accent"];

type Tokens = BTreeMap<String, String>;

/// The colours that a rule of the sheet sets.
fn tokens(selector: &str) -> Tokens {
    let rule = SHEET.split_once(selector).and_then(|(_, rest)| rest.split_once('}')).expect("the sheet has the rule").0;
    let colour = |line: &str| {
        let (name, value) = line.trim().strip_prefix("--")?.split_once(": ")?;
        let value = value.trim_end_matches(';');
        (value.len() == 7 && value.starts_with('#')).then(|| (name.to_owned(), value.to_owned()))
    };
    rule.lines().filter_map(colour).collect()
}

/// Relative luminance, as WCAG defines it.
fn luminance(colour: &str) -> f64 {
    let part = |at: usize| {
        let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).expect("hexadecimal")) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
}

fn contrast(one: &str, other: &str) -> f64 {
    let (a, b) = (luminance(one), luminance(other));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// Ink, what it lies on, and how much they have to differ.
fn pairs() -> Vec<(String, String, f64)> {
    let mut pairs = Vec::new();
    let mut add = |ink: &str, ground: &str, least: f64| pairs.push((ink.to_owned(), ground.to_owned(), least));
    for surface in SURFACES {
        for ink in ["ink", "ink-soft", "accent", "go", "stop", "warn", "clash"] {
            add(ink, surface, 4.5);
        }
        // Edges of fields, buttons, pods, and the ring of the focus.
        for edge in ["line-strong", "accent"] {
            add(edge, surface, 3.0);
        }
    }
    for signal in SIGNALS {
        for ink in ["ink", "ink-soft", signal] {
            add(ink, &format!("{signal}-wash"), 4.5);
        }
        add(signal, "surface", 4.5);
    }
    for (ink, ground) in [("accent-ink", "accent"), ("surface", "go"), ("bar-ink", "bar"), ("bar-soft", "bar")] {
        add(ink, ground, 4.5);
    }
    add("bar-ink", "bar-line", 4.5);
    for lamp in ["lamp-go", "lamp-stop", "lamp-warn", "bar-soft"] {
        add(lamp, "bar", 3.0);
    }
    pairs
}

#[test]
fn every_pair_of_colours_can_be_told_apart() {
    let light = tokens(":root {");
    let dark = tokens(":root[data-theme=\"dark\"] {");
    assert_eq!(dark, tokens(":root:not([data-theme=\"light\"]) {"), "dark by choice is dark by the system's wish");
    let mut failures = Vec::new();
    for (scheme, over) in [("light", Tokens::new()), ("dark", dark)] {
        let colours: Tokens = light.clone().into_iter().chain(over).collect();
        for (ink, ground, least) in pairs() {
            let found = contrast(&colours[&ink], &colours[&ground]);
            if found < least {
                failures.push(format!("{scheme}: {ink} on {ground} is {found:.2}, not {least}"));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
