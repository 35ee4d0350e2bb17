//! A picture: pods on a circle, namespace by namespace, connections across it.
//!
//! Nothing overlaps a name that way, however many connections there are. [`groups`] draws pods that no connection tells
//! apart as one, [`circle`] finds places and curves.

mod circle;
mod groups;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use signalbox_policy::PodRef;
use signalbox_policy::analyze::{Link, Place};

use super::Sink;
use crate::error::Error;
use crate::scope::Scope;
use crate::streams::{Paint, Streams};
use crate::unknown::Unknowns;
use circle::Circle;
use groups::{Edge, Group, Picture};

/// Beyond that a circle is a disc.
const MAX_GROUPS: usize = 150;
const MAX_PLACES: usize = 1_500;
const MAX_EDGES: usize = 6_000;

/// Line styles that differ in more than colour: stroke, width, dashes. The last one is for all the rest.
const STYLES: [(&str, &str, &str); 8] = [
    ("#1f5fbf", "1.6", "none"),
    ("#b3470a", "1.6", "9 3"),
    ("#0b7a4b", "1.6", "2 3"),
    ("#7a2fa8", "1.6", "12 3 2 3"),
    ("#a31545", "2.6", "none"),
    ("#0a6e83", "2.6", "9 3"),
    ("#6b6412", "2.6", "2 4"),
    ("#555555", "1.2", "none"),
];

/// Colours of the namespaces' arcs; neighbours differ.
const ARCS: [&str; 6] = ["#8fb4e8", "#f0b27a", "#8fcfb0", "#c9a3e0", "#e8a0b4", "#c8c08a"];

pub(super) struct Svg {
    places: Vec<Place>,
    links: Vec<Link>,
}

impl Svg {
    pub(super) fn new<'p>(pods: impl Iterator<Item = &'p PodRef>, scope: &Scope) -> Self {
        let places = pods.map(|pod| Place::Pod(pod.clone())).filter(|place| scope.has(place, place));
        Self { places: places.collect(), links: Vec::new() }
    }
}

impl Sink for Svg {
    fn links(&mut self, links: &[Link], _: &mut Streams<'_>) -> Result<(), Error> {
        self.links.extend(links.iter().filter(|link| link.from != link.to).cloned());
        if self.places.len() > MAX_PLACES {
            return Err(Error::TooMuchToDraw { what: format!("{} pods", self.places.len()), max: MAX_PLACES });
        }
        Ok(())
    }

    fn end(&mut self, unknowns: &Unknowns, streams: &mut Streams<'_>) -> Result<(), Error> {
        let mut places = std::mem::take(&mut self.places);
        places.extend(self.links.iter().flat_map(|link| [link.from.clone(), link.to.clone()]));
        places.sort();
        places.dedup();
        if places.len() > MAX_PLACES {
            return Err(Error::TooMuchToDraw { what: format!("{} pods", places.len()), max: MAX_PLACES });
        }
        let picture = Picture::of(&places, &self.links);
        if picture.groups.len() > MAX_GROUPS {
            let what = format!("{} pods with connections of their own", picture.groups.len());
            return Err(Error::TooMuchToDraw { what, max: MAX_GROUPS });
        }
        if picture.edges.len() > MAX_EDGES {
            let what = format!("{} connections", picture.edges.len());
            return Err(Error::TooMuchToDraw { what, max: MAX_EDGES });
        }
        streams.out.write_all(render(&picture, unknowns).as_bytes())?;
        Ok(())
    }
}

fn render(picture: &Picture, unknowns: &Unknowns) -> String {
    let circle = Circle::of(&picture.groups);
    let styles = Styles::of(&picture.edges);
    let doubts = unknowns.lines(Paint::Plain);
    let legend_top = circle.size + 8.0;
    let height =
        legend_top + 22.0 * lines(styles.legend.len() + 1) + 16.0 * lines(doubts.len().min(MOST_DOUBTS + 1)) + 16.0;
    let mut text = String::new();
    let width = circle.size.max(560.0);
    let _ = writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" \
         role=\"img\" aria-label=\"Connections that the policies allow\" font-family=\"system-ui, sans-serif\" font-size=\"12\">"
    );
    text.push_str("<title>Connections that the policies allow</title>\n<defs>\n");
    for (index, (stroke, ..)) in STYLES.iter().chain([&UNKNOWN]).enumerate() {
        let _ = writeln!(
            text,
            "<marker id=\"a{index}\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
             markerUnits=\"userSpaceOnUse\" orient=\"auto-start-reverse\"><path d=\"M0 0L8 4L0 8z\" fill=\"{stroke}\"/></marker>"
        );
    }
    let _ = writeln!(text, "</defs>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>");
    draw_arcs(&mut text, picture, &circle);
    for edge in &picture.edges {
        let index = styles.index(edge);
        let (stroke, width, dashes) = style(index);
        let path = circle.curve(edge.from, edge.to);
        let start = if edge.is_mutual { format!(" marker-start=\"url(#a{index})\"") } else { String::new() };
        let arrow = if edge.is_mutual { "<->" } else { "->" };
        let (from, to) = (picture.groups[edge.from].title(), picture.groups[edge.to].title());
        let title = escaped(&format!("{from} {arrow} {to}: {}", edge.label));
        let _ = writeln!(
            text,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{stroke}\" stroke-width=\"{width}\" stroke-dasharray=\"{dashes}\" \
             stroke-opacity=\"0.75\" marker-end=\"url(#a{index})\"{start}><title>{title}</title></path>"
        );
    }
    for (index, group) in picture.groups.iter().enumerate() {
        draw_group(&mut text, group, &circle, index);
    }
    draw_legend(&mut text, &styles, &doubts, legend_top);
    text.push_str("</svg>\n");
    text
}

fn draw_arcs(text: &mut String, picture: &Picture, circle: &Circle) {
    let mut first = 0;
    let mut count = 0;
    while first < picture.groups.len() {
        let namespace = picture.groups[first].namespace();
        let members = picture.groups[first..].iter().take_while(|group| group.namespace() == namespace).count();
        let title = escaped(namespace.map_or("outside", |namespace| namespace));
        let arc = circle.arc(first, first + members - 1);
        let colour = ARCS[count % ARCS.len()];
        let _ = writeln!(
            text,
            "<path d=\"{arc}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"10\"><title>{title}</title></path>"
        );
        first += members;
        count += 1;
    }
}

fn draw_group(text: &mut String, group: &Group, circle: &Circle, index: usize) {
    let (x, y) = circle.point(index);
    let (lx, ly, turn, anchor) = circle.label(index);
    let (label, title) = (escaped(&group.label()), escaped(&group.title()));
    let _ =
        writeln!(text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"#222222\"><title>{title}</title></circle>");
    let _ = writeln!(
        text,
        "<text x=\"{lx:.1}\" y=\"{ly:.1}\" transform=\"rotate({turn:.1} {lx:.1} {ly:.1})\" text-anchor=\"{anchor}\" \
         dominant-baseline=\"central\" fill=\"#222222\">{label}<title>{title}</title></text>"
    );
}

/// How many lines of what was not understood a picture shows.
const MOST_DOUBTS: usize = 12;

fn draw_legend(text: &mut String, styles: &Styles, doubts: &[String], top: f64) {
    let mut y = top;
    for (label, index) in &styles.legend {
        let (stroke, width, dashes) = style(*index);
        let label = escaped(label);
        let _ = writeln!(
            text,
            "<path d=\"M16 {y:.0}H66\" stroke=\"{stroke}\" stroke-width=\"{width}\" stroke-dasharray=\"{dashes}\" fill=\"none\" \
             marker-end=\"url(#a{index})\"/><text x=\"76\" y=\"{y:.0}\" dominant-baseline=\"central\" fill=\"#222222\">{label}</text>"
        );
        y += 22.0;
    }
    let hint = "Point at a line or a name to read it whole. A pod to itself is not drawn.";
    let more = doubts.len().saturating_sub(MOST_DOUBTS);
    let rest = (more > 0).then(|| format!("and {more} more: see -o json"));
    let shown = doubts.iter().take(MOST_DOUBTS).map(String::as_str).chain(rest.as_deref());
    for line in std::iter::once(hint).chain(shown) {
        let _ = writeln!(text, "<text x=\"16\" y=\"{y:.0}\" fill=\"#555555\">{}</text>", escaped(line));
        y += 16.0;
    }
}

/// Something that is not known.
const UNKNOWN: (&str, &str, &str) = ("#c77700", "1.6", "4 4");

fn style(index: usize) -> (&'static str, &'static str, &'static str) {
    STYLES.get(index).copied().unwrap_or(UNKNOWN)
}

/// Which style a connection has, and what that means.
struct Styles {
    by_label: BTreeMap<String, usize>,
    legend: Vec<(String, usize)>,
}

impl Styles {
    /// The most frequent labels have a style of their own.
    fn of(edges: &[Edge]) -> Self {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for edge in edges.iter().filter(|edge| !edge.is_unknown) {
            *counts.entry(&edge.label).or_default() += 1;
        }
        let mut labels: Vec<(&str, usize)> = counts.into_iter().collect();
        labels.sort_by_key(|(label, count)| (std::cmp::Reverse(*count), *label));
        let own = STYLES.len() - 1;
        let by_label: BTreeMap<String, usize> =
            labels.iter().take(own).enumerate().map(|(index, (label, _))| ((*label).to_owned(), index)).collect();
        let mut legend: Vec<(String, usize)> =
            labels.iter().take(own).enumerate().map(|(index, (label, _))| (shortened(label), index)).collect();
        if labels.len() > own {
            legend.push(("other ports".to_owned(), own));
        }
        if edges.iter().any(|edge| edge.is_unknown) {
            legend.push(("not known: something was not understood".to_owned(), STYLES.len()));
        }
        Self { by_label, legend }
    }

    fn index(&self, edge: &Edge) -> usize {
        if edge.is_unknown {
            return STYLES.len();
        }
        self.by_label.get(&edge.label).copied().unwrap_or(STYLES.len() - 1)
    }
}

/// What a link is labelled with.
fn label(link: &Link, is_unknown: bool) -> String {
    let traffic = if is_unknown { &link.reach.unknown } else { &link.reach.open };
    let family = link.family.map_or(String::new(), |family| format!(" over {family}"));
    format!("{}{traffic}{family}", if is_unknown { "unknown: " } else { "" })
}

fn shortened(text: &str) -> String {
    const MOST: usize = 70;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A text in XML. Control characters have no place there, in whatever form.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

fn lines(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
