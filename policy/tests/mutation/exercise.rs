//! One text through the whole engine: read, judged pair by pair, linted, analysed and compiled. The fuzz target does the same.

use signalbox_policy::analyze::{External, Loopback, Options};
use signalbox_policy::evaluate::Endpoint;
use signalbox_policy::traffic::Traffic;
use signalbox_policy::{Cluster, Connection, Family, Party, Protocol, Route, parse_documents};

/// How many objects of a text are taken, so that no pair-by-pair walk grows without bounds.
const MAX_OBJECTS: usize = 40;

/// How many ends are asked about.
const MAX_PARTIES: usize = 8;

const PORTS: [u16; 4] = [1, 53, 80, 65535];

/// What must hold for any text, sound or not.
///
/// # Panics
/// Where it does not: that is what is looked for.
pub fn exercise(text: &str) {
    let mut objects = Vec::new();
    for result in parse_documents(text, "fuzz") {
        match result {
            Ok(object) if objects.len() < MAX_OBJECTS => objects.push(object),
            Ok(_) => {}
            Err(error) => {
                assert!(error.document >= 1 && error.line >= 1 && error.column >= 1, "{error:?}");
                assert!(!error.reason.contains('\n') && !error.remedy.is_empty(), "{error:?}");
            }
        }
    }
    let cluster = Cluster::from_objects(&objects);
    for problem in cluster.problems() {
        assert!(problem.index.is_none_or(|index| index < objects.len()), "{problem:?}");
        assert!(cluster.unknowns().contains(&problem.to_string()), "{problem} is told");
    }
    let mut parties = vec![
        Party::LocalNode,
        Party::Address("192.0.2.1".parse().expect("an address")),
        Party::Address("2001:db8::1".parse().expect("an address")),
    ];
    parties.extend(cluster.pods().take(MAX_PARTIES).cloned().map(Party::Pod));
    // A cluster that grew to the same objects says the same.
    let (first, rest) = objects.split_at(objects.len() / 2);
    let grown = Cluster::from_objects(first).with_change(rest, []);
    for from in &parties {
        for to in &parties {
            let [read, grown] = [&cluster, &grown].map(|cluster| cluster.reach(from, to, Route::Direct, None));
            assert_eq!((&read.open, &read.unknown), (&grown.open, &grown.unknown), "{from:?} -> {to:?} after a change");
            for route in [Route::Direct, Route::Service] {
                for family in [None, Some(Family::V4), Some(Family::V6)] {
                    pair(&cluster, from, to, route, family);
                }
            }
        }
    }
    let findings = cluster.lint(&objects);
    assert!(findings.is_sorted() && findings.iter().all(|it| !it.message.is_empty() && !it.remedy.is_empty()));
    for loopback in [Loopback::Omit, Loopback::Policy] {
        let links = cluster.analyze(Options { loopback, external: External::Ranges });
        assert!(links.len() <= 1_000_000, "{} links", links.len());
    }
    for node in ["n1", ""] {
        let tables = cluster.compile(node);
        let ends =
            ["192.0.2.1", "10.0.0.1", "fd00::1"].map(|text| Endpoint::Address(text.parse().expect("an address")));
        for from in ends {
            for to in ends {
                tables.judge(from, to, Protocol::Tcp, 80);
            }
        }
    }
}

/// What both ways of judging say of a pair, which must be the same.
fn pair(cluster: &Cluster, from: &Party, to: &Party, route: Route, family: Option<Family>) {
    let reach = cluster.reach(from, to, route, family);
    for protocol in Protocol::ALL {
        for port in PORTS {
            let verdict = cluster.judge(&Connection { from, to, protocol, port, route, family });
            let is_in = |traffic: &Traffic| traffic.contains(protocol, port);
            let by_reach = match (is_in(&reach.open), is_in(&reach.unknown)) {
                (true, false) => Some(true),
                (false, false) => Some(false),
                (_, true) => None,
            };
            assert_eq!(verdict.allowed(), by_reach, "{from:?} -> {to:?} {protocol} {port} {route:?} {family:?}");
            for side in [&verdict.egress, &verdict.ingress].into_iter().flatten() {
                assert!(!format!("{side:?}").is_empty());
            }
        }
    }
}
