//! What the simulated matrix draws of one pair.

use signalbox_policy::diff::{self, Access};
use signalbox_policy::reach::Reach;
use signalbox_policy::traffic::{PortSet, Traffic};
use signalbox_policy::{Family, Protocol};

use super::scene::{Cell, Reaches};

/// The lamp of a pair. Each has a shape and a word of its own: colour is never the only sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shade {
    /// All ports of all protocols are open.
    Open,
    /// Some are, the others are shut.
    Part,
    /// None is.
    Shut,
    /// Of some or all it cannot be told.
    Unknown,
    /// The ends have no address family in common.
    Apart,
}

impl Shade {
    /// All, as legends have them.
    pub const ALL: [Self; 5] = [Self::Open, Self::Part, Self::Shut, Self::Unknown, Self::Apart];

    /// Name in the style sheet.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Part => "part",
            Self::Shut => "shut",
            Self::Unknown => "unjudged",
            Self::Apart => "unreachable",
        }
    }

    /// Name in the icon sprite.
    pub const fn icon(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Part => "part",
            Self::Shut => "shut",
            Self::Unknown => "unjudged",
            Self::Apart => "unreachable",
        }
    }

    /// The word in the cell.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "all open",
            Self::Part => "some ports",
            Self::Shut => "shut",
            Self::Unknown => "unknown",
            Self::Apart => "no family",
        }
    }

    /// The word behind a number of pairs.
    pub const fn count_word(self) -> &'static str {
        match self {
            Self::Part => "in part",
            Self::Open | Self::Shut | Self::Unknown | Self::Apart => self.word(),
        }
    }

    /// What it means, for legends.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Open => "every port of TCP, UDP and SCTP is open",
            Self::Part => "the ports named are open, the others shut",
            Self::Shut => "no port is open",
            Self::Unknown => "something that bears on it was not understood: neither open nor shut",
            Self::Apart => "the two ends have no address family in common",
        }
    }
}

/// One port of one protocol that the reader wants to see alone.
pub type Lens = Option<(Protocol, u16)>;

/// Reads `9000`, `UDP 53`, `53/udp`. Nothing, or nonsense: all ports.
pub fn lens(text: &str) -> Lens {
    let mut protocol = Protocol::Tcp;
    let mut port = None;
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        match word.to_ascii_lowercase().as_str() {
            "tcp" => protocol = Protocol::Tcp,
            "udp" => protocol = Protocol::Udp,
            "sctp" => protocol = Protocol::Sctp,
            number => port = Some(number.parse::<u16>().ok().filter(|port| *port > 0)?),
        }
    }
    port.map(|port| (protocol, port))
}

/// What differs from the baseline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Difference {
    /// Shut before, open now.
    pub opens: Traffic,
    /// Open before, shut now.
    pub closes: Traffic,
    /// Could be told before and cannot now, or the other way round.
    pub unsure: Traffic,
}

impl Difference {
    /// Nothing differs.
    pub fn is_empty(&self) -> bool {
        self.opens.is_empty() && self.closes.is_empty() && self.unsure.is_empty()
    }

    fn of(before: &Reach, now: &Reach) -> Self {
        let mut difference = Self::default();
        for (was, is, traffic) in diff::between(before, now) {
            let part = match (was, is) {
                (Access::Unknown, _) | (_, Access::Unknown) => &mut difference.unsure,
                (_, Access::Open) => &mut difference.opens,
                (_, Access::Shut | Access::Absent) => &mut difference.closes,
            };
            *part = part.union(&traffic);
        }
        difference
    }

    /// `opens TCP 9000; shuts UDP 53`.
    pub fn words(&self) -> String {
        let parts = [("opens", &self.opens), ("shuts", &self.closes), ("knowledge changes of", &self.unsure)];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(_, traffic)| !traffic.is_empty())
            .map(|(what, traffic)| format!("{what} {}", ports(traffic)))
            .collect();
        parts.join("; ")
    }
}

/// What differs, by family; without a family where all say the same.
pub fn differences(before: &Reaches, now: &Reaches) -> Vec<(Option<Family>, Difference)> {
    let of = |reaches: &Reaches, family: Option<Family>| {
        let found = reaches.iter().find(|(it, _)| it.is_none() || *it == family);
        found.map(|(_, reach)| reach.clone()).unwrap_or_default()
    };
    let mut families: Vec<Option<Family>> = before.iter().chain(now).map(|(family, _)| *family).collect();
    families.sort_unstable();
    families.dedup();
    if families.len() > 1 {
        families.retain(Option::is_some);
    }
    let mut found: Vec<_> =
        families.into_iter().map(|family| (family, Difference::of(&of(before, family), &of(now, family)))).collect();
    if found.len() > 1 && found.windows(2).all(|pair| pair[0].1 == pair[1].1) {
        found.truncate(1);
        found[0].0 = None;
    }
    found.retain(|(_, difference)| !difference.is_empty());
    found
}

/// Everything that the matrix draws of a pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Face {
    /// The lamp.
    pub shade: Shade,
    /// The word beside it.
    pub word: &'static str,
    /// The second line: which ports.
    pub detail: String,
    /// What differs from the baseline, in words; empty where nothing does.
    pub change: String,
    /// Name of the mark of the change: `opens`, `shuts`, `both`.
    pub mark: Option<&'static str>,
}

/// The shade of what is open and unknown.
pub fn shade(reaches: &Reaches, lens: Lens) -> Shade {
    let of = |reach: &Reach| match lens {
        Some((protocol, port)) if reach.unknown.contains(protocol, port) => Shade::Unknown,
        Some((protocol, port)) if reach.open.contains(protocol, port) => Shade::Open,
        Some(_) => Shade::Shut,
        None if !reach.unknown.is_empty() => Shade::Unknown,
        None if reach.open.is_all() => Shade::Open,
        None if reach.open.is_empty() => Shade::Shut,
        None => Shade::Part,
    };
    let mut shades = reaches.iter().map(|(_, reach)| of(reach));
    let Some(first) = shades.next() else { return Shade::Apart };
    shades.fold(first, |all, it| match (all, it) {
        (all, it) if all == it => all,
        (Shade::Unknown, _) | (_, Shade::Unknown) => Shade::Unknown,
        (_, _) => Shade::Part,
    })
}

/// Draws a pair.
pub fn face(cell: &Cell, lens: Lens) -> Face {
    let shade = shade(&cell.now, lens);
    let word = match (lens, shade) {
        (Some(_), Shade::Open) => "open",
        (Some(_), Shade::Part) => "by family",
        (_, shade) => shade.word(),
    };
    let detail = match (lens, shade) {
        (_, _) if cell.is_self => "itself".to_owned(),
        (Some((protocol, port)), Shade::Open | Shade::Shut | Shade::Unknown) => format!("{protocol} {port}"),
        (_, Shade::Open | Shade::Shut | Shade::Apart) => String::new(),
        (_, Shade::Part | Shade::Unknown) => by_family(&cell.now, parts),
    };
    let mut differences = cell.before.as_ref().map(|before| differences(before, &cell.now)).unwrap_or_default();
    if let Some((protocol, port)) = lens {
        differences.retain(|(_, it)| [&it.opens, &it.closes, &it.unsure].iter().any(|it| it.contains(protocol, port)));
    }
    let has = |of: fn(&Difference) -> &Traffic| differences.iter().any(|(_, it)| !of(it).is_empty());
    let mark = match (has(|it| &it.opens), has(|it| &it.closes), has(|it| &it.unsure)) {
        (true, false, false) => Some("opens"),
        (false, true, false) => Some("shuts"),
        (false, false, false) => None,
        (_, _, _) => Some("both"),
    };
    let change: Vec<String> = differences.iter().map(|(family, it)| with_family(*family, it.words())).collect();
    Face { shade, word, detail, change: change.join("; "), mark }
}

/// `TCP 9000`, and of what is unknown: `open UDP 53; unknown TCP 1-65535`.
fn parts(reach: &Reach) -> String {
    match (reach.open.is_empty(), reach.unknown.is_empty()) {
        (_, true) => ports(&reach.open),
        (true, false) => ports(&reach.unknown),
        (false, false) => format!("{}; open {}", ports(&reach.unknown), ports(&reach.open)),
    }
}

fn by_family(reaches: &Reaches, words: impl Fn(&Reach) -> String) -> String {
    reaches.iter().map(|(family, reach)| with_family(*family, words(reach))).collect::<Vec<_>>().join("; ")
}

/// `IPv6: …` where it goes for one family only.
pub fn with_family(family: Option<Family>, words: String) -> String {
    match family {
        None => words,
        Some(Family::V4) => format!("IPv4: {words}"),
        Some(Family::V6) => format!("IPv6: {words}"),
    }
}

/// Ports in words: `TCP 9000`, `TCP, UDP 53`: a protocol without a number has all its ports open.
pub fn ports(traffic: &Traffic) -> String {
    if traffic.is_all() {
        return "all ports".to_owned();
    }
    if traffic.is_empty() {
        return "nothing".to_owned();
    }
    let parts = traffic.protocols().map(|(protocol, ports)| match ports.is_all() {
        true => format!("{protocol} all"),
        false => format!("{protocol} {}", ranges(ports)),
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn ranges(ports: &PortSet) -> String {
    let one = |(first, last): &(u16, u16)| if first == last { first.to_string() } else { format!("{first}–{last}") };
    ports.ranges().iter().map(one).collect::<Vec<_>>().join(", ")
}

/// `989,000`.
pub fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The whole of a pair as a sentence.
pub fn sentence(from: &str, to: &str, face: &Face) -> String {
    let mut text = format!("{from} to {to}: {}", face.word);
    if !face.detail.is_empty() {
        text.push_str(&format!(", {}", face.detail));
    }
    if !face.change.is_empty() {
        text.push_str(&format!("; compared with the baseline: {}", face.change));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::super::scene::Scene;
    use super::*;

    fn drawn(scene: &Scene, from: &str, to: &str, lens: Lens) -> Face {
        let end = |name: &str| (0..scene.ends.len()).find(|end| scene.title(*end) == name).expect("it is there");
        face(&scene.cell(end(from), end(to)), lens)
    }

    #[test]
    fn large_numbers_are_grouped() {
        for (n, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (989_000, "989,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(n), text);
        }
    }

    #[test]
    fn a_lens_is_read_as_people_write_it() {
        for (text, lens) in [
            ("9000", Some((Protocol::Tcp, 9000))),
            ("udp 53", Some((Protocol::Udp, 53))),
            ("53/UDP", Some((Protocol::Udp, 53))),
            ("", None),
            ("TCP", None),
            ("0", None),
            ("70000", None),
            ("dns", None),
        ] {
            assert_eq!(super::lens(text), lens, "{text}");
        }
    }

    #[test]
    fn the_lesson_as_the_matrix_draws_it() {
        let scene = Scene::build(&sample::lesson(0), None);
        assert_eq!(drawn(&scene, "frontend/web", "backend/dbsvc", None).shade, Shade::Open);
        let scene = Scene::build(&sample::lesson(4), None);
        let cases = [
            // DNS is let out to anyone, and the ingress of dbsvc names no port.
            ("frontend/web", "backend/dbsvc", None, Shade::Part, "TCP 9000, UDP 53"),
            ("backend/dbsvc", "frontend/web", None, Shade::Shut, ""),
            ("backend/dbsvc", "198.51.100.0/24", None, Shade::Part, "TCP 3306, UDP 53"),
            ("198.51.100.0/24", "frontend/web", Some((Protocol::Tcp, 9000)), Shade::Open, "TCP 9000"),
            ("198.51.100.0/24", "frontend/web", Some((Protocol::Tcp, 80)), Shade::Shut, "TCP 80"),
            ("frontend/web", "frontend/web", None, Shade::Open, "itself"),
        ];
        for (from, to, lens, shade, detail) in cases {
            let face = drawn(&scene, from, to, lens);
            assert_eq!((face.shade, face.detail.as_str()), (shade, detail), "{from} to {to}");
            assert_eq!((face.mark, face.change.as_str()), (None, ""));
        }
    }

    #[test]
    fn what_was_not_understood_is_never_open() {
        let mut workspace = sample::lesson(4);
        let id = workspace.named("NetworkPolicy backend/dbsvc").expect("it is there").id;
        let text = workspace.item(id).expect("it is there").text();
        workspace.edit(id, &text.replace("matchLabels: {tier: front}", "matchLabels: {tier: [front]}"));
        let scene = Scene::build(&workspace, None);
        let face = drawn(&scene, "frontend/web", "backend/dbsvc", None);
        assert_eq!(face.shade, Shade::Unknown, "{face:?}");
        assert_eq!(face.mark, Some("both"), "{face:?}");
        assert!(face.change.starts_with("knowledge changes"), "{face:?}");
    }

    #[test]
    fn an_edit_shows_what_opens_and_what_shuts() {
        let mut workspace = sample::lesson(4);
        let id = workspace.named("NetworkPolicy frontend/web").expect("it is there").id;
        let text = workspace.item(id).expect("it is there").text().replace("port: 9000", "port: 9001");
        workspace.edit(id, &text);
        let scene = Scene::build(&workspace, None);
        let face = drawn(&scene, "frontend/web", "backend/dbsvc", None);
        assert_eq!((face.mark, face.change.as_str()), (Some("both"), "opens TCP 9001; shuts TCP 9000"));
        let seen = drawn(&scene, "frontend/web", "backend/dbsvc", Some((Protocol::Udp, 1)));
        assert_eq!(seen.mark, None, "nothing changes there");
        assert_eq!(
            sentence("a", "b", &face),
            "a to b: some ports, TCP 9001, UDP 53; compared with the baseline: opens TCP 9001; shuts TCP 9000"
        );
    }
}
