//! The explanation for people.

use std::collections::BTreeMap;

use super::Explanation;
use super::answer::{Answer, At, FAMILIES, Place, Policy, Remedy, Service, SideAnswer, Whole, Word};
use crate::error::Error;
use crate::streams::{Paint, Streams};

pub(super) fn print(explanation: &Explanation, streams: &mut Streams<'_>) -> Result<(), Error> {
    let paint = streams.paint;
    for note in &explanation.notes {
        writeln!(streams.out, "{}", paint.dim(note))?;
    }
    let Explanation { from, protocol, .. } = explanation;
    if let Some(service) = &explanation.service {
        let title = paint.bold(&format!("{from} -> Service {} {protocol} {}:", service.name, explanation.port));
        writeln!(streams.out, "{title} {}", whole(service, &explanation.answers, paint))?;
    }
    for answer in &explanation.answers {
        let (to, port) = match &answer.backend {
            Some(At { to, port }) => (to, *port),
            None => (&explanation.to, explanation.port),
        };
        let family = answer.family.map_or(String::new(), |family| format!(" over {family}"));
        let title = paint.bold(&format!("{from} -> {to} {protocol} {port}{family}:"));
        writeln!(streams.out, "{title} {}", word(answer.verdict, paint))?;
        for line in lines(answer, paint) {
            writeln!(streams.out, "{line}")?;
        }
    }
    Ok(())
}

/// What is so of all pods behind a Service.
fn whole(service: &Service, answers: &[Answer], paint: Paint) -> String {
    let told = words_of_pods(answers);
    let all = match told.len() {
        1 => "the pod behind it".to_owned(),
        count => format!("all {count} pods behind it"),
    };
    match service.verdict {
        Whole::Allowed => format!("{}, to {all}", word(Word::Allowed, paint)),
        Whole::Denied => format!("{}, to {all}", word(Word::Denied, paint)),
        Whole::Unknown => {
            let unknown = told.values().filter(|words| words.contains(&Word::Unknown)).count();
            format!("{}, since it is to {unknown} of {all}", word(Word::Unknown, paint))
        }
        Whole::Differs => paint.doubtful(&format!("backends differ: {}", counted(&told))),
        Whole::FamiliesDiffer => {
            let over = FAMILIES.map(|family| {
                let told = words_of_pods(answers.iter().filter(|answer| answer.is_over(family)));
                format!("over {} {}", family.as_str(), counted(&told))
            });
            paint.doubtful(&format!("families differ: {}", over.join(", ")))
        }
    }
}

/// What is said of each pod.
fn words_of_pods<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> BTreeMap<&'a str, Vec<Word>> {
    let mut told: BTreeMap<&str, Vec<Word>> = BTreeMap::new();
    for answer in answers {
        let Some(backend) = &answer.backend else { continue };
        let words = told.entry(&backend.to).or_default();
        if !words.contains(&answer.verdict) {
            words.push(answer.verdict);
        }
    }
    told
}

/// To how many pods it is what.
fn counted(told: &BTreeMap<&str, Vec<Word>>) -> String {
    let of = |is_it: &dyn Fn(&[Word]) -> bool| told.values().filter(|words| is_it(words)).count();
    let counts = [
        ("allowed to", of(&|words| words == [Word::Allowed])),
        ("denied to", of(&|words| words == [Word::Denied])),
        ("unknown to", of(&|words| words == [Word::Unknown])),
        ("by the family to", of(&|words| words.len() > 1)),
    ];
    let some = counts.iter().filter(|(_, count)| *count > 0);
    some.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

fn lines(answer: &Answer, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, side) in [("egress", &answer.egress), ("ingress", &answer.ingress)] {
        match side {
            Some(side) => lines.extend(side_lines(name, side, paint)),
            None if answer.unknown.is_empty() => {
                lines.push(format!("  {name:8} {}", paint.dim("no pod that a policy could select")));
            }
            None => {}
        }
    }
    if !answer.unknown.is_empty() {
        lines.push(format!("  {}", paint.doubtful("not understood:")));
    }
    lines.extend(answer.unknown.iter().map(|unknown| format!("  {} {unknown}", paint.doubtful("?"))));
    if let Some(remedy) = &answer.remedy {
        lines.extend(remedy_lines(remedy, paint));
    }
    lines
}

/// More lines of what else opens help nobody.
const MOST_OPENINGS: usize = 20;

fn remedy_lines(remedy: &Remedy, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    if !remedy.patches.is_empty() {
        lines.push(String::new());
        lines.push(paint.bold("to open it, apply:"));
        lines.extend(remedy.yaml.lines().map(|line| format!("  {line}")));
        let openings = &remedy.also_opens;
        if openings.is_empty() {
            lines.push(paint.good("this opens nothing else"));
        } else {
            lines.push(paint.doubtful("this opens, too:"));
        }
        let listed = openings.iter().take(MOST_OPENINGS);
        lines.extend(listed.map(|opening| format!("  {} -> {}  {}", opening.src, opening.dst, opening.ports.0)));
        if openings.len() > MOST_OPENINGS {
            lines.push(format!("  and {} more: see -o json", openings.len() - MOST_OPENINGS));
        }
    }
    if !remedy.obstacles.is_empty() {
        lines.push(paint.doubtful("it stays shut all the same:"));
    }
    lines.extend(remedy.obstacles.iter().map(|obstacle| format!("  {obstacle}")));
    lines
}

fn side_lines(name: &str, side: &SideAnswer, paint: Paint) -> Vec<String> {
    let (colour, rest) = match (side.verdict, side.text.split_once(' ')) {
        (_, Some(("allowed", rest))) => (paint.good("allowed"), format!(" {rest}")),
        (_, Some(("denied", rest))) => (paint.bad("denied"), format!(" {rest}")),
        (verdict, _) => (word(verdict, paint), format!(": {}", side.text)),
    };
    let mut lines = vec![format!("  {name:8} {colour}{rest}")];
    if let Some(rule) = &side.rule {
        lines.extend(excerpt(rule, paint));
    } else {
        lines.extend(
            side.isolated_by.iter().filter_map(location).map(|place| format!("           {}", paint.dim(&place))),
        );
    }
    if let Some(nearest) = &side.nearest {
        let Policy { kind, namespace, name, .. } = &nearest.rule.policy;
        let namespace = namespace.as_ref().map_or(String::new(), |namespace| format!("{namespace}/"));
        let path = &nearest.rule.path;
        lines.push(format!("           nearest: {kind} {namespace}{name}, {path}: {}", nearest.difference));
        lines.extend(excerpt(&nearest.rule, paint));
    }
    lines
}

fn excerpt(rule: &Place, paint: Paint) -> Vec<String> {
    let place = location(&rule.policy).map(|place| format!("           {}", paint.dim(&place)));
    let lines = rule.excerpt.iter().map(|line| format!("           {} {line}", paint.dim("|")));
    place.into_iter().chain(lines).collect()
}

fn location(policy: &Policy) -> Option<String> {
    Some(format!("{}:{}", policy.file.as_ref()?, policy.line?))
}

fn word(word: Word, paint: Paint) -> String {
    match word {
        Word::Allowed => paint.good("allowed"),
        Word::Denied => paint.bad("denied"),
        Word::Unknown => paint.doubtful("unknown"),
    }
}
