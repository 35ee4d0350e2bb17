//! The same connection, tried from inside of the pod that connects.

use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::Value;
use signalbox_api::rest::{ProbeGoal, ProbeReport, ProbeWish};
use tokio::time::Instant;

use super::super::client::Source;
use super::{Args, Backend};

/// Pods behind a Service that are tried from inside of a pod: a server takes 30 such probes a minute from one user.
const MOST_TRIED: usize = 8;

/// Of these at a time: a node's enforcer takes 4 at a time, of all who ask.
const AT_A_TIME: usize = 2;

/// Tries the pods behind a Service, all of them `within` one time. Tells of each that has no answer why, in the order that they have.
pub(super) async fn each(
    backends: &mut [Backend],
    within: Duration,
    attempt: impl AsyncFn(String, u16) -> Result<ProbeReport, String>,
) -> Vec<String> {
    let until = Instant::now() + within;
    let time = match within.subsec_millis() {
        0 => format!("{} s", within.as_secs()),
        _ => format!("{} ms", within.as_millis()),
    };
    let one = async |to: String, port: u16| {
        let not_tried = format!("{to} was not tried from inside of the pod");
        if Instant::now() >= until {
            return Err(format!("{not_tried}: the {time} for all of them were over; give them more with --timeout"));
        }
        match tokio::time::timeout_at(until, attempt(to.clone(), port)).await {
            Ok(tried) => tried.map_err(|why| format!("{not_tried}: {why}")),
            Err(_) => Err(format!(
                "no answer about {to}, whether or not it was tried from inside of the pod, in what was left of the {time} for all of them; give \
                 them more with --timeout"
            )),
        }
    };
    let ends: Vec<_> = backends.iter().take(MOST_TRIED).map(|backend| (backend.to.clone(), backend.port)).collect();
    let all = stream::iter(ends).map(|(to, port)| one(to, port)).buffered(AT_A_TIME).collect::<Vec<_>>().await;
    let mut notes = Vec::new();
    for (backend, tried) in backends.iter_mut().zip(all) {
        match tried {
            Ok(report) => backend.in_pod = Some(report),
            Err(note) => notes.push(note),
        }
    }
    if let Some(more) = backends.len().checked_sub(MOST_TRIED).filter(|more| *more > 0) {
        notes.push(format!("{more} more pods behind the Service were not tried from inside of the pod"));
    }
    notes
}

/// Asks a server to try one.
pub(super) async fn attempt(
    args: &Args,
    source: &Source,
    spec: &Value,
    to: Option<&str>,
    port: Option<u16>,
) -> Result<ProbeReport, String> {
    let Some(wish) = to.zip(port).and_then(|(to, port)| wish(spec, to, port)) else {
        return Err("it takes a pod to start from, and a pod or an address to go to".to_owned());
    };
    source.probe(&wish, args.timeout).await.map_err(|error| error.to_string())
}

/// The same connection, as a server is asked to try it from inside of the pod; `None` where it starts or ends at something else.
pub(super) fn wish(spec: &Value, to: &str, port: u16) -> Option<ProbeWish> {
    let from = spec["from"].as_str()?;
    // Not a block of addresses, which has a slash as well.
    let is_pod = |end: &str| {
        end.split_once('/').is_some_and(|(at, name)| !at.is_empty() && !at.contains(['.', ':']) && !name.is_empty())
    };
    let host = match to.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => is_pod(to).then(|| format!("pod:{to}"))?,
    };
    let protocol = serde_json::from_value(spec["protocol"].clone()).ok()?;
    is_pod(from).then(|| ProbeWish { from: from.to_owned(), to: ProbeGoal { host, port, protocol }, timeout_ms: None })
}
