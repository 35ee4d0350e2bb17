//! For Graphviz: namespaces are clusters.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use signalbox_policy::analyze::{Link, Place};

use super::Sink;
use crate::error::Error;
use crate::scope;
use crate::streams::{Paint, Streams};
use crate::unknown::Unknowns;

/// Graphviz itself needs minutes for less.
const MAX_LINKS: usize = 100_000;

#[derive(Default)]
pub(super) struct Dot {
    links: Vec<Link>,
}

impl Sink for Dot {
    fn links(&mut self, links: &[Link], _: &mut Streams<'_>) -> Result<(), Error> {
        // A pod to itself says nothing in a picture unless it may not.
        self.links.extend(links.iter().filter(|link| link.from != link.to).cloned());
        if self.links.len() > MAX_LINKS {
            return Err(Error::TooMuchToDraw { what: format!("more than {MAX_LINKS} connections"), max: MAX_LINKS });
        }
        Ok(())
    }

    fn end(&mut self, unknowns: &Unknowns, streams: &mut Streams<'_>) -> Result<(), Error> {
        streams.out.write_all(render(&self.links, unknowns).as_bytes())?;
        Ok(())
    }
}

fn render(links: &[Link], unknowns: &Unknowns) -> String {
    let mut places: BTreeMap<&str, BTreeSet<&Place>> = BTreeMap::new();
    for place in links.iter().flat_map(|link| [&link.from, &link.to]) {
        places.entry(scope::namespace(place).unwrap_or_default()).or_default().insert(place);
    }
    let mut text = String::from("digraph connections {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n");
    for line in unknowns.lines(Paint::Plain) {
        let _ = writeln!(text, "  // {line}");
    }
    for (index, (namespace, places)) in places.iter().enumerate() {
        let title = if namespace.is_empty() { "outside" } else { namespace };
        let _ = writeln!(text, "  subgraph cluster_{index} {{\n    label={};", quoted(title));
        for place in places {
            let label = match place {
                Place::Pod(pod) => pod.name.clone(),
                Place::Range(range) => range.to_string(),
            };
            let _ = writeln!(text, "    {} [label={}];", quoted(&place.to_string()), quoted(&label));
        }
        text.push_str("  }\n");
    }
    for link in links {
        let (from, to) = (quoted(&link.from.to_string()), quoted(&link.to.to_string()));
        let family = link.family.map_or(String::new(), |family| format!(" over {family}"));
        if !link.reach.open.is_empty() {
            let label = quoted(&format!("{}{family}", link.reach.open));
            let _ = writeln!(text, "  {from} -> {to} [label={label}];");
        }
        if !link.reach.unknown.is_empty() {
            let label = quoted(&format!("unknown: {}{family}", link.reach.unknown));
            let _ = writeln!(text, "  {from} -> {to} [label={label}, style=dashed];");
        }
    }
    text.push_str("}\n");
    text
}

/// A text for Graphviz. A backslash would begin an escape there.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " "))
}
