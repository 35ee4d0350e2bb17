//! Lint, rule by rule: a manifest on which it speaks, and one close by on which it is silent.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

#[path = "../common/mod.rs"]
mod common;

mod addresses;
mod cases;
mod directions;
mod dns;
mod flows;
#[path = "../laws/generate.rs"]
#[allow(dead_code, reason = "shared with the laws of the engine")]
mod generate;
mod laws;
mod lesson;
mod objects;
mod order;
mod ports;
mod selection;
mod shadow;
mod speed;

use std::collections::BTreeSet;
use std::path::Path;

use cases::{Case, Expected};
use signalbox_policy::lint::RuleId;

fn all() -> Vec<Case> {
    [
        objects::cases(),
        selection::cases(),
        shadow::cases(),
        order::cases(),
        ports::cases(),
        addresses::cases(),
        directions::cases(),
        dns::cases(),
        flows::cases(),
    ]
    .concat()
}

#[test]
fn each_case_gives_what_it_says() {
    let wrong: Vec<String> = all().iter().filter_map(|case| case.check().err()).collect();
    assert!(wrong.is_empty(), "{} cases:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn each_rule_has_a_case_and_a_near_miss() {
    let cases = all();
    let missing: Vec<String> = RuleId::ALL
        .iter()
        .flat_map(|rule| {
            let own = || cases.iter().filter(move |case| case.rule == *rule);
            let speaks = own().any(|case| !matches!(case.expected, Expected::Silent));
            let is_silent = own().any(|case| matches!(case.expected, Expected::Silent));
            // What is past the limit takes thousands of objects: see `speed`.
            let is_limit = *rule == RuleId::LimitReached;
            let lacks = |has: bool, what: &str| (!has && !is_limit).then(|| format!("{rule} has no {what}"));
            [lacks(speaks, "case"), lacks(is_silent, "near miss")].into_iter().flatten()
        })
        .collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn each_rule_is_described() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/lint.md");
    let text = std::fs::read_to_string(path).unwrap();
    for rule in RuleId::ALL {
        let heading = format!("### {} {}\n", rule.id(), rule.slug());
        let at = text.find(&heading).unwrap_or_else(|| panic!("docs/lint.md has no heading {heading:?}"));
        let section = &text[at + heading.len()..];
        let section = &section[..section.find("\n### ").unwrap_or(section.len())];
        for part in [format!("**{}**", rule.severity()), "Why:".to_owned(), "Instead:".to_owned(), "```".to_owned()] {
            assert!(section.contains(&part), "{rule}: its section in docs/lint.md lacks {part:?}");
        }
        assert!(text.contains(&format!("| [{}](#", rule.id())), "{rule} is not in the table of docs/lint.md");
        assert!(text.contains(rule.summary()), "{rule}: the table of docs/lint.md lacks {:?}", rule.summary());
    }
    let headings = text.lines().filter(|line| line.starts_with("### SB")).count();
    assert_eq!(headings, RuleId::ALL.len(), "docs/lint.md describes rules that there are not");
}

#[test]
fn ids_and_slugs_are_names() {
    let ids: BTreeSet<&str> = RuleId::ALL.iter().flat_map(|rule| [rule.id(), rule.slug()]).collect();
    assert_eq!(ids.len(), 2 * RuleId::ALL.len());
    for rule in RuleId::ALL {
        assert_eq!(RuleId::parse(rule.id()), Some(*rule));
        assert_eq!(RuleId::parse(rule.slug()), Some(*rule));
        assert_eq!(RuleId::parse(&rule.id().to_lowercase()), Some(*rule));
    }
    assert_eq!(RuleId::parse("SB999"), None);
    assert_eq!(RuleId::SelectsNothing.docs(), "docs/lint.md#sb101-selects-nothing");
}
