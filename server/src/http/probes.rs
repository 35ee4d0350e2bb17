//! One connection, tried from inside of a real pod on demand (docs/security.md).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::{Extension, Json};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use signalbox_api::cell::{Evidence, Outcome, ProbeFact};
use signalbox_api::flow::{Decision, Protocol};
use signalbox_api::rest::{ProbeReport, ProbeWish};
use signalbox_api::state::{Endpoint, EndpointKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::App;
use super::answer::Refusal;
use super::caller::{Caller, Who};
use super::changes::{self, Deed, Done, LIMIT, VIEW};
use super::names;
use crate::access::cut;
use crate::matrix::core::MERE_SILENCE;
use crate::nodes::Registry;
use crate::nodes::trial::{Found, Trial};

/// Probes at a time.
const AT_ONCE: usize = 8;
/// Probes that all users together may ask for within a minute.
const EACH_MINUTE: usize = 120;
/// Those of one user.
const OF_ONE: usize = 30;
const MINUTE: Duration = Duration::from_secs(60);
/// The longest that a connection may take, in milliseconds.
const LONGEST_MS: u32 = 10_000;
/// A question of DNS is answered there.
const DNS: u16 = 53;

/// Whether probes are started inside of real pods, by whom, and how many.
pub struct Probes {
    allowed: bool,
    registry: Option<Arc<Registry>>,
    /// How long a connection may take, where nobody says.
    timeout: Duration,
    slots: Arc<Semaphore>,
    lately: Mutex<VecDeque<(Instant, Option<String>)>>,
}

impl Probes {
    /// `registry`: the enforcers' streams, where they are taken.
    pub fn new(allowed: bool, registry: Option<Arc<Registry>>, timeout: Duration) -> Self {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        Self { allowed, registry, timeout, slots, lately: Mutex::default() }
    }

    /// Whether any are started at all.
    pub fn are_allowed(&self) -> bool {
        self.allowed
    }

    /// A place among those that may be at a time, and within a minute.
    fn place(&self, user: Option<&str>) -> Result<OwnedSemaphorePermit, Refusal> {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        while lately.front().is_some_and(|(at, _)| at.elapsed() > MINUTE) {
            lately.pop_front();
        }
        if lately.len() >= EACH_MINUTE {
            return Err(Refusal::Busy("there may be 120 probes from inside of pods within a minute; wait a moment"));
        }
        if lately.iter().filter(|(_, of)| of.as_deref() == user).count() >= OF_ONE {
            return Err(Refusal::Busy("you may ask for 30 probes from inside of pods within a minute; wait a moment"));
        }
        let place = self.slots.clone().try_acquire_owned();
        let place = place.map_err(|_| {
            Refusal::Busy("8 probes from inside of pods are under way, and there may be no more at a time")
        })?;
        lately.push_back((Instant::now(), user.map(str::to_owned)));
        Ok(place)
    }
}

/// What is to be tried, and what its answer has to be read by.
struct Plan {
    trial: Trial,
    /// Its silence says something: whoever listens there answers probes.
    answers: Vec<IpAddr>,
    /// Nothing is behind the Service.
    deserted: bool,
    _place: OwnedSemaphorePermit,
}

/// `POST /api/v1/probes`.
pub async fn probe(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Json(wish): Json<ProbeWish>,
) -> Result<Json<ProbeReport>, Refusal> {
    let begun = Instant::now();
    let (namespace, pod) = named(&wish.from)?;
    check(&wish)?;
    let deed = Deed::Probe { namespace, pod, to: wish.to.to_string() };
    changes::judge(&app, &caller, &deed).await?;
    let plan = match plan(&app, &caller, &wish).await {
        Ok(plan) => plan,
        Err((by, refusal)) => return Err(changes::refuse(&app, &caller, &deed, by, refusal).await),
    };
    let (teller, told) = oneshot::channel();
    let probes = app.probes.clone();
    let asked = wish.clone();
    let work = async move {
        let none = "this server takes no streams of enforcers: start it with --streams";
        let registry = probes.registry.as_ref().ok_or_else(|| Refusal::NotTried(none.to_owned()))?;
        let found = plan.trial.run(registry).await.map_err(Refusal::NotTried)?;
        let Found { remote, fact, words } = read(found, &plan);
        let outcome = Some(fact.outcome);
        let elapsed_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let node = plan.trial.node.clone();
        let report =
            ProbeReport { from: asked.from, node, to: asked.to, remote, probe: fact, kernels: words, elapsed_us };
        // Whoever asked may have gone: it is written down all the same.
        let _gone = teller.send(report);
        Ok(Done { outcome, ..Done::default() })
    };
    changes::carry_out(&app, &caller, deed, work).await?;
    let report = told.await.map_err(|_closed| Refusal::Ending)?;
    Ok(Json(cut::probe_report(report, &caller.view)))
}

/// Namespace and name of a pod.
fn named(pod: &str) -> Result<(String, String), Refusal> {
    let parts = pod.split_once('/').filter(|(namespace, name)| names::is_label(namespace) && names::is_subdomain(name));
    let (namespace, name) = parts.ok_or_else(|| Refusal::BadRequest("from: namespace/name of a pod".to_owned()))?;
    Ok((namespace.to_owned(), name.to_owned()))
}

/// What can be told to be wrong without a look at the cluster.
fn check(wish: &ProbeWish) -> Result<(), Refusal> {
    let wrong = |why: &str| Err(Refusal::BadRequest(why.to_owned()));
    if wish.to.port == 0 {
        return wrong("to.port: from 1 to 65535");
    }
    if wish.timeout_ms.is_some_and(|timeout| !(1..=LONGEST_MS).contains(&timeout)) {
        return wrong("timeout_ms: from 1 to 10000");
    }
    let host = wish.to.host.as_str();
    if host.parse::<IpAddr>().is_ok() || endpoint(host).is_some() {
        return Ok(());
    }
    let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if host.is_empty() || host.len() > 253 || !host.bytes().all(is_of_names) {
        return wrong("to.host: an address, a DNS name, or the id of an endpoint such as pod:NAMESPACE/NAME");
    }
    Ok(())
}

/// An endpoint's kind and the rest of its id.
fn endpoint(host: &str) -> Option<(EndpointKind, &str)> {
    let (kind, rest) = host.split_once(':')?;
    match kind {
        "pod" => Some((EndpointKind::Pod, rest)),
        "service" => Some((EndpointKind::Service, rest)),
        "outside" => Some((EndpointKind::Outside, rest)),
        _ => None,
    }
}

/// Finds pod, node and destination. Why not, and by what.
async fn plan(app: &App, caller: &Caller, wish: &ProbeWish) -> Result<Plan, (&'static str, Refusal)> {
    let user = match &caller.who {
        Who::Anyone => None,
        Who::User(person, _) => Some(person.name.as_str()),
    };
    let place = app.probes.place(user).map_err(|busy| (LIMIT, busy))?;
    let source = pod(app, caller, &wish.from).await?;
    let spec = source.spec.unwrap_or_default();
    let conflict = |why: &str| (VIEW, Refusal::Conflict(format!("{}: {why}", wish.from)));
    if spec.host_network == Some(true) {
        let why = "it has hostNetwork, so its network is the node's: policies of pods do not judge it, and no probe is started there";
        return Err(conflict(why));
    }
    let node = spec.node_name.ok_or_else(|| conflict("it runs on no node yet"))?;
    let status = source.status.unwrap_or_default();
    if status.phase.as_deref() != Some("Running") {
        return Err(conflict("it does not run"));
    }
    let own = addresses(&status);
    let endpoints = app.picture(caller).endpoints;
    let mut deserted = false;
    let host = match endpoint(&wish.to.host) {
        None => wish.to.host.clone(),
        Some((kind, rest)) => {
            let to = match kind {
                EndpointKind::Pod => addresses(&pod(app, caller, rest).await?.status.unwrap_or_default()),
                EndpointKind::Service | EndpointKind::Outside => {
                    let is_it = |endpoint: &&Endpoint| endpoint.id == wish.to.host;
                    let none = || (VIEW, Refusal::NotFound(format!("no endpoint {} that you may see", wish.to.host)));
                    let found = endpoints.iter().find(is_it).ok_or_else(none)?;
                    deserted = !found.ready;
                    found.addresses.clone()
                }
            };
            let is_reached = |to: &&IpAddr| own.iter().any(|own| own.is_ipv4() == to.is_ipv4());
            let to = to.iter().find(is_reached).or(to.first());
            to.ok_or_else(|| (VIEW, Refusal::Conflict(format!("{} has no address", wish.to.host))))?.to_string()
        }
    };
    let timeout = wish.timeout_ms.map_or(app.probes.timeout, |timeout| Duration::from_millis(timeout.into()));
    let (port, protocol) = (wish.to.port, wish.to.protocol);
    let trial = Trial { node, pod: wish.from.clone(), host, port, protocol, timeout };
    let vantages = endpoints.into_iter().filter(|endpoint| endpoint.vantage && endpoint.kind == EndpointKind::Pod);
    let answers = vantages.flat_map(|endpoint| endpoint.addresses).collect();
    Ok(Plan { trial, answers, deserted, _place: place })
}

/// A pod as the API has it now. Whether there is one that somebody may not see, they are not told.
async fn pod(app: &App, caller: &Caller, id: &str) -> Result<Pod, (&'static str, Refusal)> {
    let none = || (VIEW, Refusal::NotFound(format!("no pod {id} that you may see")));
    let (namespace, name) = named(id).map_err(|_| none())?;
    if !caller.view.namespace(&namespace) {
        return Err(none());
    }
    let pods: Api<Pod> = Api::namespaced(app.client.clone(), &namespace);
    let found = pods.get_opt(&name).await.map_err(|error| (changes::API, error.into()))?;
    found.ok_or_else(none)
}

fn addresses(status: &k8s_openapi::api::core::v1::PodStatus) -> Vec<IpAddr> {
    let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut all: Vec<IpAddr> = Vec::new();
    for text in status.pod_ip.as_deref().into_iter().chain(listed) {
        all.extend(text.parse().ok().filter(|address| !all.contains(address)));
    }
    all
}

/// Reads an outcome as the matrix does: silence and refusals say no more than they can.
fn read(found: Found, plan: &Plan) -> Found {
    let Found { remote, mut fact, words } = found;
    let denied = words.iter().any(|word| word.decision == Decision::Denied);
    let answers = plan.trial.port == DNS || remote.is_some_and(|remote| plan.answers.contains(&remote.ip()));
    let is_silent = fact.outcome == Outcome::Dropped && fact.evidence == Evidence::Timeout;
    if plan.deserted && matches!(fact.outcome, Outcome::Refused | Outcome::Unreachable) {
        let detail = Some("no ready pod is behind the Service".to_owned());
        fact = ProbeFact { outcome: Outcome::NoListener, detail, ..fact };
    } else if is_silent && plan.trial.protocol == Protocol::Udp && !denied && !answers {
        fact = ProbeFact { outcome: Outcome::ProbeBroken, detail: Some(MERE_SILENCE.to_owned()), ..fact };
    } else if fact.outcome == Outcome::Refused {
        fact.detail = Some("nobody there was asked whether somebody listens on that port".to_owned());
    }
    Found { remote, fact, words }
}

#[cfg(test)]
mod tests {
    use signalbox_api::cell::KernelFact;
    use signalbox_api::rest::ProbeGoal;

    use super::*;

    fn wish(host: &str) -> ProbeWish {
        let to = ProbeGoal { host: host.to_owned(), port: 80, protocol: Protocol::Tcp };
        ProbeWish { from: "a/x".to_owned(), to, timeout_ms: None }
    }

    #[test]
    fn what_is_no_destination_is_refused_before_anybody_is_asked() {
        for (host, fits) in [
            ("10.0.0.7", true),
            ("fd00::7", true),
            ("web", true),
            ("web.a.svc.cluster.local.", true),
            ("pod:a/x", true),
            ("service:a/x", true),
            ("outside:db", true),
            ("node:n", false),
            ("", false),
            ("a b", false),
            ("a/b", false),
            ("10.0.0.7:80", false),
            (&"a".repeat(254), false),
        ] {
            assert_eq!(check(&wish(host)).is_ok(), fits, "{host}");
        }
        for (from, fits) in
            [("a/x", true), ("a", false), ("a/", false), ("/x", false), ("a/x/y", false), ("A/x", false)]
        {
            assert_eq!(named(from).is_ok(), fits, "{from}");
        }
        let mut late = wish("web");
        late.timeout_ms = Some(10_001);
        assert!(check(&late).is_err());
        late.timeout_ms = Some(0);
        assert!(check(&late).is_err());
    }

    #[test]
    fn one_user_leaves_places_for_others_and_all_together_have_their_limit() {
        let probes = Probes::new(true, None, Duration::from_secs(1));
        for _ in 0..OF_ONE {
            probes.place(Some("ann")).map(drop).expect("a place");
        }
        assert!(matches!(probes.place(Some("ann")), Err(Refusal::Busy(why)) if why.contains("30 probes")));
        let held: Vec<_> = (0..AT_ONCE).map(|_| probes.place(Some("pat")).expect("a place")).collect();
        assert!(matches!(probes.place(Some("bob")), Err(Refusal::Busy(why)) if why.contains("8 probes")));
        drop(held);
        let mut others = 0;
        while probes.place(Some(&format!("user-{others}"))).is_ok() {
            others += 1;
        }
        assert_eq!(others, EACH_MINUTE - OF_ONE - AT_ONCE);
    }

    #[test]
    fn silence_over_udp_is_a_denial_only_where_somebody_says_so() {
        let place = || Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a place");
        let remote = || Some("10.244.0.3:5000".parse().expect("an address"));
        let case = |protocol, port, answers: &[&str], denied: bool| {
            let trial = Trial {
                node: "n".to_owned(),
                pod: "a/x".to_owned(),
                host: "h".to_owned(),
                port,
                protocol,
                timeout: Duration::from_secs(1),
            };
            let answers = answers.iter().map(|text| text.parse().expect("an address")).collect();
            let plan = Plan { trial, answers, deserted: false, _place: place() };
            let fact = ProbeFact {
                outcome: Outcome::Dropped,
                evidence: Evidence::Timeout,
                latency_us: None,
                seen_source: None,
                backend: None,
                detail: None,
                at_ms: 0,
            };
            let word = KernelFact {
                decision: Decision::Denied,
                direction: None,
                rule: None,
                isolated_by: Vec::new(),
                generation: 1,
                at_ms: 0,
                nodes: Vec::new(),
            };
            let words = if denied { vec![word] } else { Vec::new() };
            read(Found { remote: remote(), fact, words }, &plan).fact.outcome
        };
        use Outcome::{Dropped, ProbeBroken};
        assert_eq!(case(Protocol::Udp, 5000, &[], false), ProbeBroken);
        assert_eq!(case(Protocol::Udp, 5000, &[], true), Dropped, "the kernel says so");
        assert_eq!(case(Protocol::Udp, 5000, &["10.244.0.3"], false), Dropped, "a probe answers there");
        assert_eq!(case(Protocol::Udp, 5000, &["10.244.0.4"], false), ProbeBroken);
        assert_eq!(case(Protocol::Udp, 53, &[], false), Dropped);
        assert_eq!(case(Protocol::Tcp, 5000, &[], false), Dropped);
    }
}
