//! Probes in flight, and the kernel's events that belong to them.
//!
//! An event names a flow by its source's pod or address, port and protocol; where to it went says which of several
//! connections from one port it is. Events and the agent's lines come by different ways, so either may be first. A pod that reaches
//! itself through a Service is masqueraded on the way, its port included: such a connection is known by its pod alone.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;

use signalbox_api::cell::CellKey;
use signalbox_api::flow::{Decision, Protocol};
use signalbox_api::kernel::FlowEvent;
use signalbox_api::probe::PORT_RESTS_MS;

/// How long an event waits for its probe, and a probe that has ended for its event.
const KEEP_MS: u64 = 2_000;
// Else an event could be about a probe whose port another one has just had.
const _: () = assert!(KEEP_MS < PORT_RESTS_MS);
/// Events that wait at most. What is older goes first: the kernel's other events are none of ours.
const MAX_EARLY: usize = 8_192;

/// Names one probe. Unique as long as the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeId(pub u64);

/// One probe.
#[derive(Clone, Debug)]
pub struct Flight {
    /// The cell that it is for.
    pub cell: CellKey,
    /// `namespace/name` of the pod that it starts from, if it is one.
    pub pod: Option<String>,
    /// Where its packets may go after translation.
    pub destinations: Vec<SocketAddr>,
    /// When it was sent.
    pub sent: u64,
    /// Until when an answer must be there.
    pub deadline: u64,
    /// Source and destination, before translation; absent until the agent tells.
    pub started: Option<(SocketAddr, SocketAddr)>,
    /// What the kernels said, by node. A denial stays: what passes later belongs to another set of policies.
    pub words: BTreeMap<String, FlowEvent>,
    /// When it ended.
    pub ended: Option<u64>,
}

impl Flight {
    /// The word of a node that denied it.
    pub fn denial(&self) -> Option<&FlowEvent> {
        self.words.values().find(|event| event.decision == Decision::Denied)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Flights {
    flights: HashMap<ProbeId, Flight>,
    by_port: HashMap<(Protocol, u16), Vec<ProbeId>>,
    early: VecDeque<(u64, FlowEvent)>,
}

impl Flights {
    /// A probe has been sent.
    pub fn sent(&mut self, id: ProbeId, flight: Flight) {
        self.flights.insert(id, flight);
    }

    /// One probe.
    pub fn get(&self, id: ProbeId) -> Option<&Flight> {
        self.flights.get(&id)
    }

    /// The agent told where a probe leaves from. Gives back whether an event was waiting for it.
    pub fn started(&mut self, id: ProbeId, local: SocketAddr, remote: SocketAddr) -> bool {
        let Some(flight) = self.flights.get_mut(&id) else { return false };
        flight.started = Some((local, remote));
        self.by_port.entry((flight.cell.protocol, local.port())).or_default().push(id);
        let sent = flight.sent;
        let mut early = std::mem::take(&mut self.early);
        let mut ours = Vec::new();
        early.retain(|(at, event)| {
            let may_be = self.flights.get(&id).is_some_and(|flight| belongs(flight, event));
            let is_ours = (may_be || is_return(event) && *at >= sent) && self.whose(event) == Some(id);
            if is_ours {
                ours.push(event.clone());
            }
            !is_ours
        });
        self.early = early;
        let found = !ours.is_empty();
        if let Some(flight) = self.flights.get_mut(&id) {
            ours.into_iter().for_each(|event| take(flight, event));
        }
        found
    }

    /// The kernel told something. Gives back the probe that it is about.
    pub fn event(&mut self, event: FlowEvent, now: u64) -> Option<ProbeId> {
        let Some(id) = self.whose(&event).or_else(|| self.whose_late_return(&event, now)) else {
            // Probes are of protocols with ports.
            event.protocol.transport()?;
            if self.early.len() >= MAX_EARLY {
                self.early.pop_front();
            }
            self.early.push_back((now, event));
            return None;
        };
        if let Some(flight) = self.flights.get_mut(&id) {
            take(flight, event);
        }
        Some(id)
    }

    /// An event that waits is known to be about something else.
    pub fn is_of_others(&mut self, event: &FlowEvent) {
        self.early.retain(|(_, waits)| waits != event);
    }

    /// The probe that an event is about: the newest that left from the event's port.
    fn whose(&self, event: &FlowEvent) -> Option<ProbeId> {
        let protocol = event.protocol.transport()?;
        let candidates = self.by_port.get(&(protocol, event.source.port())).into_iter().flatten();
        let newest =
            candidates.copied().filter(|id| self.flights.get(id).is_some_and(|flight| belongs(flight, event))).max();
        newest.or_else(|| self.whose_return(event))
    }

    /// The one that comes back to its pod, of those in flight to Services: what a pod sends to its own address no kernel's hook sees. Where
    /// several may be it, it is none: they may go to different pods.
    fn whose_return(&self, event: &FlowEvent) -> Option<ProbeId> {
        if !is_return(event) {
            return None;
        }
        let mut may_be = self
            .flights
            .iter()
            .filter(|(_, flight)| flight.ended.is_none() && flight.started.is_some() && may_return(flight, event));
        let (id, _) = may_be.next()?;
        may_be.next().is_none().then_some(*id)
    }

    /// The same of those that have ended and are kept, where none in flight may be it, not even one of which the agent has yet to tell.
    fn whose_late_return(&self, event: &FlowEvent, now: u64) -> Option<ProbeId> {
        if !is_return(event) {
            return None;
        }
        let is_kept = |flight: &Flight| flight.ended.is_none_or(|ended| ended + KEEP_MS >= now);
        let mut may_be = self.flights.iter().filter(|(_, flight)| is_kept(flight) && may_return(flight, event));
        let (id, only) = may_be.next()?;
        (may_be.next().is_none() && only.ended.is_some() && only.started.is_some()).then_some(*id)
    }

    /// A probe has ended. It is kept for events that come late.
    pub fn ended(&mut self, id: ProbeId, now: u64) {
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.ended = Some(now);
        }
    }

    /// Probes from one place that have not ended.
    pub fn open_from(&self, from: &str) -> Vec<ProbeId> {
        let open = self.flights.iter().filter(|(_, flight)| flight.ended.is_none() && flight.cell.from == from);
        open.map(|(id, _)| *id).collect()
    }

    /// Probes whose deadline has passed.
    pub fn overdue(&self, now: u64) -> Vec<ProbeId> {
        let late = self.flights.iter().filter(|(_, flight)| flight.ended.is_none() && flight.deadline <= now);
        late.map(|(id, _)| *id).collect()
    }

    /// The next deadline.
    pub fn next_deadline(&self) -> Option<u64> {
        self.flights.values().filter(|flight| flight.ended.is_none()).map(|flight| flight.deadline).min()
    }

    /// Forgets what is too old to matter.
    pub fn expire(&mut self, now: u64) {
        while self.early.front().is_some_and(|(at, _)| at + KEEP_MS < now) {
            self.early.pop_front();
        }
        let before = self.flights.len();
        self.flights.retain(|_, flight| flight.ended.is_none_or(|ended| ended + KEEP_MS >= now));
        if self.flights.len() != before {
            let flights = &self.flights;
            self.by_port.retain(|_, ids| {
                ids.retain(|id| flights.contains_key(id));
                !ids.is_empty()
            });
        }
    }
}

fn belongs(flight: &Flight, event: &FlowEvent) -> bool {
    let Some((local, remote)) = flight.started else { return false };
    if event.protocol.transport() != Some(flight.cell.protocol) || event.source.port() != local.port() {
        return false;
    }
    let same_source = match (&event.source_pod, &flight.pod) {
        (Some(event), Some(flight)) => event == flight,
        _ => event.source.ip().to_canonical() == local.ip().to_canonical(),
    };
    let to = canonical(event.destination);
    same_source && (to == canonical(remote) || flight.destinations.iter().any(|known| canonical(*known) == to))
}

/// Whether a pod comes back to itself.
fn is_return(event: &FlowEvent) -> bool {
    event.source_pod.is_some() && event.source_pod == event.destination_pod
}

/// Whether a pod's probe to a Service may be the one that comes back as this event tells.
fn may_return(flight: &Flight, event: &FlowEvent) -> bool {
    let destination = canonical(event.destination);
    flight.cell.to.starts_with("service:")
        && flight.pod == event.source_pod
        && Some(flight.cell.protocol) == event.protocol.transport()
        && flight.destinations.iter().any(|known| canonical(*known) == destination)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn take(flight: &mut Flight, event: FlowEvent) {
    if flight.words.get(&event.node).is_some_and(|known| known.decision == Decision::Denied) {
        return;
    }
    flight.words.insert(event.node.clone(), event);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(from: &str, pod: Option<&str>, destinations: &[&str]) -> Flight {
        Flight {
            cell: CellKey { from: from.to_owned(), to: "service:b/s".to_owned(), port: 9000, protocol: Protocol::Tcp },
            pod: pod.map(str::to_owned),
            destinations: destinations.iter().map(|text| text.parse().expect("an address")).collect(),
            sent: 0,
            deadline: 3_000,
            started: None,
            words: BTreeMap::new(),
            ended: None,
        }
    }

    fn event(source: &str, pod: Option<&str>, destination: &str, decision: Decision) -> FlowEvent {
        FlowEvent {
            node: "lab".to_owned(),
            decision,
            direction: None,
            protocol: Protocol::Tcp.into(),
            source: source.parse().expect("an address"),
            destination: destination.parse().expect("an address"),
            source_pod: pod.map(str::to_owned),
            destination_pod: None,
            rule: None,
            isolated_by: Vec::new(),
            reason: None,
            generation: 1,
            at_us: 0,
        }
    }

    const LOCAL: &str = "10.244.0.5:40000";
    const SERVICE: &str = "10.96.0.7:9000";
    const BACKEND: &str = "10.244.0.9:9000";

    fn start(flights: &mut Flights, id: u64) -> bool {
        flights.started(ProbeId(id), LOCAL.parse().expect("an address"), SERVICE.parse().expect("an address"))
    }

    #[test]
    fn which_event_is_whose() {
        let cases = [
            ("by pod, after translation", event(LOCAL, Some("a/x"), BACKEND, Decision::Denied), true),
            ("by pod, before translation", event(LOCAL, Some("a/x"), SERVICE, Decision::Denied), true),
            ("by address alone", event(LOCAL, None, BACKEND, Decision::Allowed), true),
            ("masqueraded, by pod", event("10.244.0.1:40000", Some("a/x"), BACKEND, Decision::Allowed), true),
            ("mapped address", event("[::ffff:10.244.0.5]:40000", None, BACKEND, Decision::Allowed), true),
            ("another pod's", event(LOCAL, Some("a/y"), BACKEND, Decision::Denied), false),
            ("another port's", event("10.244.0.5:40001", Some("a/x"), BACKEND, Decision::Denied), false),
            ("the same port to somewhere else", event(LOCAL, Some("a/x"), "10.244.0.9:53", Decision::Denied), false),
            ("another address", event("10.244.0.6:40000", None, BACKEND, Decision::Denied), false),
        ];
        for (what, event, ours) in cases {
            let mut flights = Flights::default();
            flights.sent(ProbeId(1), flight("pod:a/x", Some("a/x"), &[BACKEND]));
            assert!(!start(&mut flights, 1));
            assert_eq!(flights.event(event, 0).is_some(), ours, "{what}");
        }
    }

    #[test]
    fn a_pod_that_comes_back_to_itself_is_known_whatever_port_it_was_masqueraded_to() {
        let own = "10.244.0.5:9000";
        let returned = |decision| FlowEvent {
            destination_pod: Some("a/x".to_owned()),
            ..event("10.244.0.1:61234", Some("a/x"), own, decision)
        };
        let mut flights = Flights::default();
        flights.sent(ProbeId(1), flight("pod:a/x", Some("a/x"), &[BACKEND, own]));
        flights.sent(ProbeId(2), flight("pod:a/x", Some("a/x"), &[BACKEND]));
        let mut to_itself = flight("pod:a/x", Some("a/x"), &[own]);
        to_itself.cell.to = "pod:a/x".to_owned();
        flights.sent(ProbeId(4), to_itself);
        start(&mut flights, 4);
        // Whatever is first, the event or the line that tells of the probe.
        assert_eq!(flights.event(returned(Decision::Denied), 10), None);
        assert!(!start(&mut flights, 2), "it does not go there");
        assert!(start(&mut flights, 1));
        assert!(flights.get(ProbeId(1)).and_then(Flight::denial).is_some());
        assert_eq!(flights.event(returned(Decision::Allowed), 20), Some(ProbeId(1)));
        let of_another = FlowEvent { destination_pod: Some("a/y".to_owned()), ..returned(Decision::Denied) };
        assert_eq!(flights.event(of_another, 20), None);
        // Two through different Services: one of them may have gone to another pod.
        flights.sent(ProbeId(3), flight("pod:a/x", Some("a/x"), &[own]));
        start(&mut flights, 3);
        assert_eq!(flights.event(returned(Decision::Denied), 30), None);
        flights.ended(ProbeId(1), 40);
        assert_eq!(flights.event(returned(Decision::Denied), 50), Some(ProbeId(3)));
    }

    /// An allowed connection of a pod to itself stayed unsettled for a round: its event came after the answer, and only probes that had not
    /// ended were asked whose it was.
    #[test]
    fn a_pods_return_to_itself_may_be_told_after_the_end() {
        let own = "10.244.0.5:9000";
        let returned = FlowEvent {
            destination_pod: Some("a/x".to_owned()),
            ..event("10.244.0.1:61234", Some("a/x"), own, Decision::Allowed)
        };
        let ended = |flights: &mut Flights, id: u64, at: u64| {
            flights.sent(ProbeId(id), flight("pod:a/x", Some("a/x"), &[own]));
            start(flights, id);
            flights.ended(ProbeId(id), at);
        };
        let mut flights = Flights::default();
        ended(&mut flights, 1, 100);
        assert_eq!(flights.event(returned.clone(), 110), Some(ProbeId(1)));
        assert_eq!(flights.get(ProbeId(1)).map(|flight| flight.words.len()), Some(1));
        // As long as it is kept, and no longer, whether or not it has been forgotten yet.
        assert_eq!(flights.event(returned.clone(), 100 + KEEP_MS), Some(ProbeId(1)));
        assert_eq!(flights.event(returned.clone(), 101 + KEEP_MS), None);
        // Of two that have ended none is taken: they may have gone to different pods.
        let mut flights = Flights::default();
        ended(&mut flights, 1, 100);
        ended(&mut flights, 2, 120);
        assert_eq!(flights.event(returned.clone(), 130), None);
        // One that is open goes before one that has ended, and two that are open leave it to nobody.
        let mut flights = Flights::default();
        ended(&mut flights, 1, 100);
        for id in [2, 3] {
            flights.sent(ProbeId(id), flight("pod:a/x", Some("a/x"), &[own]));
            start(&mut flights, id);
            let expected = if id == 2 { Some(ProbeId(2)) } else { None };
            assert_eq!(flights.event(returned.clone(), 130), expected);
        }
        // One of which the agent has yet to tell may be it, too: the event waits for that.
        let mut flights = Flights::default();
        ended(&mut flights, 1, 100);
        flights.sent(ProbeId(2), flight("pod:a/x", Some("a/x"), &[own]));
        assert_eq!(flights.event(returned.clone(), 130), None);
        assert!(start(&mut flights, 2));
        // To the pod itself, or of another protocol, it never is.
        let mut flights = Flights::default();
        ended(&mut flights, 1, 100);
        for (id, to, protocol) in [(2, "pod:a/x", Protocol::Tcp), (3, "service:b/s", Protocol::Udp)] {
            let mut other = flight("pod:a/x", Some("a/x"), &[own]);
            (other.cell.to, other.cell.protocol) = (to.to_owned(), protocol);
            flights.sent(ProbeId(id), other);
            start(&mut flights, id);
        }
        assert_eq!(flights.event(returned, 130), Some(ProbeId(1)));
    }

    #[test]
    fn an_event_may_come_before_the_agent_tells_its_port() {
        let mut flights = Flights::default();
        flights.sent(ProbeId(1), flight("pod:a/x", Some("a/x"), &[BACKEND]));
        assert_eq!(flights.event(event(LOCAL, Some("a/x"), BACKEND, Decision::Denied), 10), None);
        assert!(start(&mut flights, 1));
        assert!(flights.get(ProbeId(1)).and_then(Flight::denial).is_some());
    }

    #[test]
    fn an_event_may_come_after_the_end_but_not_for_ever() {
        let mut flights = Flights::default();
        flights.sent(ProbeId(1), flight("pod:a/x", Some("a/x"), &[BACKEND]));
        start(&mut flights, 1);
        flights.ended(ProbeId(1), 100);
        flights.expire(1_000);
        assert_eq!(flights.event(event(LOCAL, Some("a/x"), BACKEND, Decision::Allowed), 1_000), Some(ProbeId(1)));
        flights.expire(5_000);
        assert_eq!(flights.event(event(LOCAL, Some("a/x"), BACKEND, Decision::Allowed), 5_000), None);
    }

    #[test]
    fn events_of_others_do_not_pile_up() {
        let mut flights = Flights::default();
        for _ in 0..MAX_EARLY + 10 {
            flights.event(event(LOCAL, None, BACKEND, Decision::Denied), 0);
        }
        assert_eq!(flights.early.len(), MAX_EARLY);
        flights.expire(KEEP_MS + 1);
        assert!(flights.early.is_empty());
    }

    #[test]
    fn a_denial_stays_and_the_newest_probe_on_a_port_wins() {
        let mut flights = Flights::default();
        for id in [1, 2] {
            flights.sent(ProbeId(id), flight("pod:a/x", Some("a/x"), &[BACKEND]));
            start(&mut flights, id);
        }
        assert_eq!(flights.event(event(LOCAL, Some("a/x"), BACKEND, Decision::Denied), 0), Some(ProbeId(2)));
        flights.event(event(LOCAL, Some("a/x"), BACKEND, Decision::Allowed), 0);
        assert!(flights.get(ProbeId(2)).and_then(Flight::denial).is_some());
        let elsewhere = FlowEvent { node: "other".to_owned(), ..event(LOCAL, Some("a/x"), BACKEND, Decision::Allowed) };
        flights.event(elsewhere, 0);
        let words = &flights.get(ProbeId(2)).expect("the probe").words;
        assert_eq!(words.values().map(|word| word.decision).collect::<Vec<_>>(), [Decision::Denied, Decision::Allowed]);
    }
}
