//! `signalbox watch`: what changes in the matrix, as it changes.

use std::collections::{HashMap, HashSet};
use std::process::ExitCode;
use std::time::Duration;

use http::Method;
use http_body_util::BodyExt;
use owo_colors::{OwoColorize, Style};
use serde::Serialize;
use signalbox_api::cell::{Agreement, Cell, CellKey, Outcome};
use signalbox_api::flow::{Decision, Protocol};
use signalbox_api::state::{Enforcement, Event, Snapshot};

use super::client::{self, Source};
use super::remote::Remote;
use super::signals::Asked;
use super::{complain, duration, request};

const EXAMPLES: &str = "\
Examples:
  signalbox watch                     all changes
  signalbox watch -n backend          those with an end in this namespace
  signalbox watch -o json | jq -c 'select(.kernel == \"denied\")'
  kubectl signalbox watch -n backend

A line for each cell whose facts change: what the policies say, what the probe saw, what the kernel decided; and for what the kernel denies
of a pod's own traffic. `not settled`: a change is under way, and the facts are not of the same moment; another line follows once they are.
Ends with Ctrl-C.";

/// Print what changes in the matrix, and what the kernel denies, as it happens
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    client: client::Args,
    /// Only what begins or ends in this namespace
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Lines)]
    output: Format,
    /// How long the first round may take where no server runs
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration::parse)]
    timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Lines,
    /// A line of JSON for each change
    Json,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    Request(#[from] request::Error),
    #[error("the event stream broke: {0}; start `signalbox watch` again")]
    Broken(String),
    #[error("cannot listen for signals, or start the runtime: {0}")]
    System(#[from] std::io::Error),
}

/// What is told of a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Facts {
    spec: Option<Decision>,
    probe: Option<Outcome>,
    kernel: Option<Decision>,
    agreement: Agreement,
}

/// One line.
#[derive(Debug, PartialEq, Serialize)]
struct Line {
    from: String,
    to: String,
    port: u16,
    protocol: Protocol,
    #[serde(flatten)]
    now: Facts,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Facts>,
    /// The policies' reason, in one sentence.
    why: Option<String>,
}

/// What is known so far.
#[derive(Default)]
struct Known {
    cells: HashMap<CellKey, Facts>,
    /// Those of which the last line said that they are not settled.
    unsettled: HashSet<CellKey>,
    enforcement: Enforcement,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let result = super::runtime().map_err(Error::from).and_then(|runtime| runtime.block_on(watch(args)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(2)
        }
    }
}

async fn watch(args: &Args) -> Result<(), Error> {
    let mut asked = Asked::listen()?;
    let source = tokio::select! {
        source = client::find(&args.client, args.timeout) => source?,
        () = asked.received() => return Ok(()),
    };
    let mut known = Known::default();
    let mut show = |event: Event| known.take(event, args);
    let ended = tokio::select! {
        ended = follow(&source, &mut show) => ended,
        () = asked.received() => Ok(()),
    };
    source.end().await;
    ended
}

async fn follow(source: &Source, show: &mut impl FnMut(Event)) -> Result<(), Error> {
    match source {
        Source::Remote(server) => follow_remote(server, show).await,
        Source::Here(watching) => {
            let snapshot = watching.handle().snapshot();
            let mut seq = snapshot.seq;
            show(Event::Snapshot(Box::new(snapshot)));
            while let Some(events) = watching.handle().events(seq).await {
                for (number, json) in events {
                    seq = number;
                    let event = serde_json::from_str(&json).map_err(|error| Error::Broken(error.to_string()))?;
                    show(event);
                }
            }
            Err(Error::Broken("this command could not keep up".to_owned()))
        }
    }
}

/// Reads the server's events: `data:` lines, each event's data in one.
async fn follow_remote(server: &Remote, show: &mut impl FnMut(Event)) -> Result<(), Error> {
    let (url, answer) = request::open(server, Method::GET, "/api/v1/events", None).await?;
    let status = answer.status();
    let mut body = answer.into_body();
    if !status.is_success() {
        let message = body.collect().await.map(|all| String::from_utf8_lossy(&all.to_bytes()).into_owned());
        return Err(request::Error::Refused { url, status, message: message.unwrap_or_default() }.into());
    }
    let mut waiting: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::Broken(error.to_string()))?;
        let Some(data) = frame.data_ref() else { continue };
        waiting.extend_from_slice(data);
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            let Some(json) = line.strip_prefix(b"data:") else { continue };
            let event = serde_json::from_slice(json.trim_ascii()).map_err(|error| Error::Broken(error.to_string()))?;
            show(event);
        }
    }
    Err(Error::Broken("the server has ended".to_owned()))
}

impl Known {
    fn take(&mut self, event: Event, args: &Args) {
        match event {
            Event::Snapshot(snapshot) => self.begin(*snapshot, args),
            Event::Cells(cells) => {
                for line in cells.iter().filter_map(|cell| self.change(cell)) {
                    if concerns(&line, args.namespace.as_deref()) {
                        print(&line, args.output);
                    }
                }
            }
            Event::CellsGone(keys) => {
                for key in keys {
                    self.cells.remove(&key);
                    self.unsettled.remove(&key);
                }
            }
            Event::Enforcement(enforcement) => self.enforcement(enforcement, args.output),
            Event::Flows(_)
            | Event::Endpoints(_)
            | Event::Namespaces(_)
            | Event::Policies(_)
            | Event::Dns(_)
            | Event::Round(_)
            | Event::Enforcers(_)
            | Event::Lesson(_)
            | Event::Problems(_) => {}
        }
    }

    /// What is there already is not told, except for what was missed meanwhile.
    fn begin(&mut self, snapshot: Snapshot, args: &Args) {
        let is_first = self.cells.is_empty();
        let lines: Vec<Line> = snapshot.cells.iter().filter_map(|cell| self.change(cell)).collect();
        if is_first {
            self.enforcement = snapshot.enforcement;
            let pairs = snapshot.cells.len();
            anstream::eprintln!("{} watching {pairs} cells of {}", "·".dimmed(), snapshot.cluster);
            return;
        }
        lines.iter().filter(|line| concerns(line, args.namespace.as_deref())).for_each(|line| print(line, args.output));
        self.enforcement(snapshot.enforcement, args.output);
    }

    fn enforcement(&mut self, now: Enforcement, format: Format) {
        if std::mem::replace(&mut self.enforcement, now) == now {
            return;
        }
        match format {
            Format::Json => println!("{}", serde_json::json!({"enforcement": now})),
            Format::Lines => {
                let text = match now {
                    Enforcement::Unknown => "whether anybody enforces policies is not known",
                    Enforcement::Signalbox => "Signalbox enforces policies",
                    Enforcement::Other => "the network plugin enforces policies",
                    Enforcement::Nobody => "policies exist, nothing enforces them",
                };
                anstream::println!("{}", text.bold());
            }
        }
    }

    /// What is different of a cell, if anything is.
    fn change(&mut self, cell: &Cell) -> Option<Line> {
        let now = Facts {
            spec: cell.spec.as_ref().and_then(|spec| spec.decision),
            probe: cell.probe.as_ref().map(|probe| probe.outcome),
            kernel: cell.kernel.as_ref().map(|kernel| kernel.decision),
            agreement: cell.agreement,
        };
        let before = self.cells.insert(cell.key.clone(), now.clone());
        // What is not settled, and what waits for the kernel's word, is about to change again.
        let matters = |facts: &Facts| (facts.spec, facts.probe, facts.kernel, facts.agreement == Agreement::Disagree);
        let is_same = before.as_ref().is_some_and(|before| matters(before) == matters(&now));
        let is_settled = now.agreement != Agreement::Unsettled;
        // Who was told that it is not settled is told once it is.
        if is_same && !(is_settled && self.unsettled.contains(&cell.key)) {
            return None;
        }
        if is_settled {
            self.unsettled.remove(&cell.key);
        } else {
            self.unsettled.insert(cell.key.clone());
        }
        Some(Line {
            from: cell.key.from.clone(),
            to: cell.key.to.clone(),
            port: cell.key.port,
            protocol: cell.key.protocol,
            now,
            before,
            why: cell.spec.as_ref().map(|spec| spec.summary.clone()),
        })
    }
}

fn concerns(line: &Line, namespace: Option<&str>) -> bool {
    let Some(namespace) = namespace else { return true };
    let is_in =
        |id: &str| id.split_once(':').and_then(|(_, rest)| rest.split_once('/')).is_some_and(|(of, _)| of == namespace);
    is_in(&line.from) || is_in(&line.to)
}

fn print(line: &Line, format: Format) {
    if format == Format::Json {
        println!("{}", serde_json::to_string(line).expect("strings are valid JSON"));
        return;
    }
    let style = match (line.now.agreement, line.now.probe, line.now.kernel) {
        (Agreement::Disagree, ..) => Style::new().red().bold(),
        (Agreement::Unsettled, ..) => Style::new().yellow(),
        (_, Some(Outcome::Dropped), _) | (_, _, Some(Decision::Denied)) => Style::new().red(),
        (_, Some(Outcome::Open), _) => Style::new().green(),
        (_, Some(_) | None, _) => Style::new().yellow(),
    };
    let before = line.before.as_ref().map_or("new".to_owned(), word);
    let kind = if line.to.starts_with("service:") { " (Service)" } else { "" };
    let cell = format!("{} -> {}{kind} {}/{}", name(&line.from), name(&line.to), line.protocol, line.port);
    anstream::println!("{} {} {}", cell.bold(), word(&line.now).style(style), format!("(was: {before})").dimmed());
    if line.now.agreement == Agreement::Disagree || line.now.spec == Some(Decision::Denied) {
        line.why.iter().for_each(|why| anstream::println!("    {why}"));
    }
}

fn word(facts: &Facts) -> String {
    let spec = facts.spec.map_or("unknown", decision);
    let probe = facts.probe.map_or("not tried", Outcome::as_str);
    let kernel = facts.kernel.map_or(String::new(), |kernel| format!(", kernel {}", decision(kernel)));
    let mark = if facts.agreement == Agreement::Unsettled { ", not settled" } else { "" };
    format!("policies {spec}, probe {probe}{kernel}{mark}")
}

/// As `test` calls it: `frontend/web-…`, `outside/users`.
fn name(id: &str) -> String {
    match id.split_once(':') {
        Some(("outside", name)) => format!("outside/{name}"),
        Some((_, rest)) => rest.to_owned(),
        None => id.to_owned(),
    }
}

const fn decision(decision: Decision) -> &'static str {
    match decision {
        Decision::Allowed => "allowed",
        Decision::Denied => "denied",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cell(probe: Option<&str>, agreement: &str) -> Cell {
        let mut cell = json!({
            "key": {"from": "pod:a/x", "to": "service:b/y", "port": 80, "protocol": "TCP"},
            "spec": {"decision": "allowed", "summary": "", "sides": []}, "agreement": agreement, "since_ms": 0,
        });
        if let Some(probe) = probe {
            cell["probe"] = json!({"outcome": probe, "evidence": "answer", "at_ms": 0});
        }
        serde_json::from_value(cell).unwrap()
    }

    #[test]
    fn a_cell_is_told_when_its_facts_change_and_not_before() {
        let mut known = Known::default();
        let cases = [
            (cell(None, "unsettled"), true),
            (cell(None, "unsettled"), false),
            (cell(Some("open"), "agree"), true),
            (cell(Some("open"), "unsettled"), false),
            (cell(Some("open"), "agree"), false),
            (cell(Some("dropped"), "unsettled"), true),
            (cell(Some("dropped"), "disagree"), true),
        ];
        for (number, (cell, told)) in cases.into_iter().enumerate() {
            assert_eq!(known.change(&cell).is_some(), told, "{number}");
        }
    }

    #[test]
    fn a_namespace_is_that_of_either_end() {
        let line = Known::default().change(&cell(None, "unsettled")).unwrap();
        let cases = [(None, true), (Some("a"), true), (Some("b"), true), (Some("c"), false)];
        for (namespace, expected) in cases {
            assert_eq!(concerns(&line, namespace), expected, "{namespace:?}");
        }
    }

    /// After a change of policies "policies denied, probe open, kernel allowed" came first, and nothing said that it is not settled.
    #[test]
    fn who_was_told_that_a_cell_is_not_settled_is_told_once_it_is() {
        let mut known = Known::default();
        let line = known.change(&cell(Some("open"), "unsettled")).unwrap();
        assert!(word(&line.now).ends_with(", not settled"), "{}", word(&line.now));
        assert!(known.change(&cell(Some("open"), "unsettled")).is_none());
        let line = known.change(&cell(Some("open"), "agree")).expect("it is settled now");
        assert!(!word(&line.now).contains("settled"), "{}", word(&line.now));
        assert!(known.change(&cell(Some("open"), "unsettled")).is_none());
        assert!(known.change(&cell(Some("open"), "agree")).is_none());
    }

    #[test]
    fn a_host_outside_is_called_as_elsewhere() {
        assert_eq!(["outside:users", "pod:a/x", "service:b/y"].map(name), ["outside/users", "a/x", "b/y"]);
    }
}
