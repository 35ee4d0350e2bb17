//! Labels that no object has and that are spelt almost like one that some have.

use std::collections::BTreeMap;

use fixedbitset::FixedBitSet;

use crate::label::Labels;
use crate::selector::{Requirement, Selector, Test};

use super::classes::Classes;
use super::context::Budget;

/// A word that is likely misspelt.
pub(super) struct Typo<'s> {
    pub requirement: &'s Requirement,
    pub found: &'s str,
    pub near: String,
    pub part: Part,
}

/// More labels would have had to be looked at than there is time for.
pub(super) struct Spent;

/// Of what it is a part.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Key,
    Value,
}

/// Looks for the first word that is near.
type Find<'f> = dyn Fn(&mut dyn FnMut(&str) -> bool) -> Option<String> + 'f;

/// The labels that some objects have.
pub(super) trait Vocabulary {
    fn has_key(&self, key: &str) -> bool;
    fn has_value(&self, key: &str, value: &str) -> bool;
    /// The first key, and the first value of a key, that `is_near` takes.
    fn find_key(&self, is_near: &mut dyn FnMut(&str) -> bool) -> Option<String>;
    fn find_value(&self, key: &str, is_near: &mut dyn FnMut(&str) -> bool) -> Option<String>;
}

/// The labels of pods.
pub(super) struct PodLabels<'c, 'm> {
    pub classes: &'c Classes<'m>,
    pub scope: &'c FixedBitSet,
}

/// The labels of namespaces or nodes: keys with the values they have.
#[derive(Default)]
pub(super) struct Known<'m> {
    values: BTreeMap<&'m str, std::collections::BTreeSet<&'m str>>,
}

impl<'m> Known<'m> {
    pub fn of(all: impl IntoIterator<Item = &'m Labels>) -> Self {
        let mut values: BTreeMap<&str, std::collections::BTreeSet<&str>> = BTreeMap::new();
        for (key, value) in all.into_iter().flatten() {
            values.entry(key).or_default().insert(value);
        }
        Self { values }
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl Vocabulary for Known<'_> {
    fn has_key(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    fn has_value(&self, key: &str, value: &str) -> bool {
        self.values.get(key).is_some_and(|values| values.contains(value))
    }

    fn find_key(&self, is_near: &mut dyn FnMut(&str) -> bool) -> Option<String> {
        self.values.keys().find(|key| is_near(key)).map(|key| (*key).to_owned())
    }

    fn find_value(&self, key: &str, is_near: &mut dyn FnMut(&str) -> bool) -> Option<String> {
        self.values.get(key)?.iter().find(|value| is_near(value)).map(|value| (*value).to_owned())
    }
}

impl Vocabulary for PodLabels<'_, '_> {
    // A word that is right elsewhere is no slip of the pen here.
    fn has_key(&self, key: &str) -> bool {
        self.classes.is_key(key)
    }

    fn has_value(&self, key: &str, value: &str) -> bool {
        !self.classes.with_value(key, value).is_clear()
    }

    fn find_key(&self, is_near: &mut dyn FnMut(&str) -> bool) -> Option<String> {
        let mut near: Vec<&str> = self.classes.keys().filter(|key| is_near(key)).collect();
        near.sort_unstable();
        near.into_iter().find(|key| self.classes.has_key(key, self.scope)).map(str::to_owned)
    }

    fn find_value(&self, key: &str, is_near: &mut dyn FnMut(&str) -> bool) -> Option<String> {
        let mut near: Vec<&str> = self.classes.values(key).filter(|value| is_near(value)).collect();
        near.sort_unstable();
        near.into_iter().find(|value| self.classes.has_value(key, value, self.scope)).map(str::to_owned)
    }
}

/// The first word of a selector that nothing has and that is near to one that something has.
pub(super) fn typo<'s>(
    selector: &'s Selector,
    known: &dyn Vocabulary,
    budget: &mut Budget,
) -> Result<Option<Typo<'s>>, Spent> {
    let inner = selector.expression().map(|expression| expression.requirements()).unwrap_or_default();
    for requirement in selector.requirements().iter().chain(inner) {
        if let Some(typo) = misspelt(requirement, known, budget)? {
            return Ok(Some(typo));
        }
    }
    Ok(None)
}

fn misspelt<'s>(
    requirement: &'s Requirement,
    known: &dyn Vocabulary,
    budget: &mut Budget,
) -> Result<Option<Typo<'s>>, Spent> {
    let key = requirement.key.as_str();
    let mut is_enough = true;
    let mut near_to = |word: &'s str, budget: &mut Budget, find: &Find<'_>| {
        find(&mut |other| {
            is_enough &= budget.take(1);
            is_enough && is_near(word, other)
        })
    };
    let mut found = None;
    if !known.has_key(key) {
        found = near_to(key, budget, &|is_near| known.find_key(is_near)).map(|near| (key, near, Part::Key));
    } else if let Test::In(values) | Test::NotIn(values) = &requirement.test {
        for value in values.iter().filter(|value| !known.has_value(key, value)) {
            // Beside the right word in the same list it is no slip.
            let near = near_to(value, budget, &|is_near| known.find_value(key, is_near));
            found = near.filter(|near| !values.contains(near)).map(|near| (value.as_str(), near, Part::Value));
            if found.is_some() {
                break;
            }
        }
    }
    if !is_enough {
        return Err(Spent);
    }
    Ok(found.map(|(word, near, part)| Typo { requirement, found: word, near, part }))
}

/// Whether one word is likely a slip of the pen for the other: case or separators differ, or one or two letters do. Words
/// that differ in their digits only are names in a row, `db1` and `db2`.
fn is_near(word: &str, other: &str) -> bool {
    let length = word.chars().count();
    if word == other || length.abs_diff(other.chars().count()) > 2 {
        return false;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '.'], "-");
    if plain(word) == plain(other) {
        return true;
    }
    let without_digits = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    if word.chars().any(|c| c.is_ascii_digit()) && without_digits(word) == without_digits(other) {
        return false;
    }
    if other.chars().any(|c| c.is_ascii_digit()) && without_digits(word) == without_digits(other) {
        return false;
    }
    let most = match length {
        0..=2 => return false,
        3..=7 => 1,
        _ => 2,
    };
    // Short words lie close together: among three letters only two that have changed places are a slip.
    let distance = strsim::osa_distance(word, other);
    distance <= most && (length > 3 || strsim::levenshtein(word, other) > distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_are_near() {
        for (word, other, expected) in [
            ("frontent", "frontend", true),
            ("forntend", "frontend", true),
            ("Web", "web", true),
            ("my_app", "my-app", true),
            ("rnu", "run", true),
            ("app", "api", false),
            ("web", "web", false),
            ("db1", "db2", false),
            ("db", "db2", false),
            ("front", "frontend", false),
            ("tire", "tier", true),
            ("prod", "test", false),
            ("databsae", "database", true),
        ] {
            assert_eq!(is_near(word, other), expected, "{word} {other}");
        }
    }
}
