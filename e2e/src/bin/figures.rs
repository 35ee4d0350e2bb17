//! Measures the lab and rewrites docs/performance.md. Run it by `cargo xtask figures`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use plotters::prelude::*;
use signalbox_api::cell::{Evidence, Outcome};
use signalbox_api::rest::RoundReport;
use signalbox_api::state::{Event, Snapshot};
use signalbox_e2e::browser::Browser;
use signalbox_e2e::events::Events;
use signalbox_e2e::lab::{Lab, binary, free_port};
use signalbox_e2e::lesson::{self, STEPS};
use signalbox_e2e::shell::{curl, root};
use signalbox_e2e::talk::Talk;

const STARTS: usize = 10;
const SECOND_STARTS: usize = 5;
const LESSONS: usize = 3;
const CHANGES: usize = 40;
const ROUNDS: usize = 10;
const WITHIN: Duration = Duration::from_secs(5);

/// Shuts web's ingress: `web` is then reached by nobody.
const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: figures, namespace: frontend}
spec: {podSelector: {matchLabels: {run: web}}, policyTypes: [Ingress]}
";
const WATCHED: (&str, &str) = ("outside:users", "service:frontend/web");

/// One measured thing.
struct Figure {
    what: &'static str,
    goal: f64,
    unit: &'static str,
    values: Vec<f64>,
}

impl Figure {
    fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let index = ((sorted.len() - 1) as f64 * share).round() as usize;
        sorted[index]
    }

    fn row(&self) -> String {
        let numbers = [0.0, 0.5, 0.99, 1.0].map(|share| format!("{:.1}", self.quantile(share))).join(" | ");
        let goal = if self.goal.is_nan() { "none".to_owned() } else { format!("{} {}", self.goal, self.unit) };
        format!("| {} | {goal} | {} | {numbers} |", self.what, self.values.len())
    }
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let state = tempfile::tempdir()?;
        let lab = Lab::start(state.path(), &[])?;
        starts.push(lab.ready_after.as_secs_f64() * 1000.0);
    }
    let second = (0..SECOND_STARTS).map(|_| second_start()).collect::<Result<Vec<f64>>>()?;
    let lessons = (0..LESSONS).map(|_| whole_lesson()).collect::<Result<Vec<f64>>>()?;
    let (told, waited) = nine_pods()?;
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    let (kernel, cell) = changes(&lab)?;
    let browser = runtime.block_on(browser(&lab))?;
    let memory = memory_mib(&lab)?;
    let figures = [
        Figure { what: "command to first full matrix", goal: 2000.0, unit: "ms", values: starts },
        Figure {
            what: "`cargo xtask lab`, with nothing left to build, to the page",
            goal: 3000.0,
            unit: "ms",
            values: second,
        },
        Figure { what: "the same, to lesson one followed to its end", goal: 60.0, unit: "s", values: lessons },
        Figure { what: "policy sent to kernel enforcing", goal: 10.0, unit: "ms", values: kernel },
        Figure { what: "policy sent to cell changed in the event stream", goal: 250.0, unit: "ms", values: cell },
        Figure { what: "policy sent to cell changed in the browser", goal: 250.0, unit: "ms", values: browser },
        Figure {
            what: "round of 9 x 9 x 6 connections, all denied, with the kernel's events",
            goal: 1000.0,
            unit: "ms",
            values: told,
        },
        Figure { what: "the same without them, waiting 1 s for each, ms", goal: f64::NAN, unit: "ms", values: waited },
        Figure { what: "memory of the lab, pods included (PSS)", goal: 150.0, unit: "MiB", values: vec![memory] },
    ];
    plot(&figures[3..6])?;
    let rows: Vec<String> = figures.iter().map(Figure::row).collect();
    let machine = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cores = std::thread::available_parallelism()?;
    let text = format!(
        "# Performance\n\nMeasured by `cargo xtask figures` on {cores} cores, kernel {}. It starts the lab of lesson one {STARTS} times, \
         and {SECOND_STARTS} times by `cargo xtask lab`, with nothing to build; it follows the lesson {LESSONS} times, with `kubectl apply` for each step and \
         `signalbox test` before the first and after each, whose tables must be the lesson's; then it applies and deletes a policy {CHANGES} times and watches. Each figure is what a user sees: from the moment before the command or \
         the request, to the moment the answer is there.\n\n\
         | what | goal | runs | least | median | 99 % | most |\n|---|---|---|---|---|---|---|\n{}\n\n\
         ![from the policy to the kernel, the event stream and the browser](performance.svg)\n\n\
         \"Kernel enforcing\" is the enforcer's own word that the generation with this policy is live, as it arrives in the event stream; \
         the stream's way to the reader is part of it. A round is timed by the server, from its first request to its last answer; the nine pods' \
         54 connections to themselves are open, since they never leave a pod. Memory is the proportional set size of the lab's process and of all its pods' processes.\n",
        machine.trim(),
        rows.join("\n")
    );
    let path = root().join("docs/performance.md");
    // The engine's figures have a part of their own, see `cargo xtask bench engine`.
    let before = fs::read_to_string(&path).unwrap_or_default();
    let engine = before.find("<!-- engine:").map(|at| format!("\n{}", &before[at..])).unwrap_or_default();
    fs::write(path, text + &engine).context("cannot write docs/performance.md")?;
    rows.iter().for_each(|row| println!("{row}"));
    Ok(())
}

/// Milliseconds from the README's command, with nothing left to build, to the page's answer.
fn second_start() -> Result<f64> {
    let state = tempfile::tempdir()?;
    let listen = format!("127.0.0.1:{}", free_port()?);
    let started = Instant::now();
    let page = std::thread::spawn({
        let listen = listen.clone();
        move || {
            while started.elapsed() < WITHIN * 8 {
                if is_there(&listen) {
                    return Some(started.elapsed());
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            None
        }
    });
    let lab = Lab::start_by_xtask(&listen, state.path())?;
    let reached = page.join().ok().flatten().context("the page did not answer")?;
    lab.end(nix::sys::signal::Signal::SIGINT)?;
    Ok(reached.as_secs_f64() * 1000.0)
}

/// Seconds from the README's command, with nothing left to build, to the table of the last step; all five are the lesson's.
fn whole_lesson() -> Result<f64> {
    let state = tempfile::tempdir()?;
    let listen = format!("127.0.0.1:{}", free_port()?);
    let started = Instant::now();
    let lab = Lab::start_by_xtask(&listen, state.path())?;
    for step in STEPS {
        step.manifest.map(|manifest| lab.apply_step(manifest)).transpose()?;
        lesson::check(&lab, step)?;
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Milliseconds of a round in which nine pods of three namespaces try each other's six ports (TCP and UDP 80 to 82) and policies deny
/// everything: by the lab's own server, which hears the kernel's events, and by another one, which only sees that nothing comes back.
fn nine_pods() -> Result<(Vec<f64>, Vec<f64>)> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &["--empty", "--interval", "10m"])?;
    let ports: String = ["TCP", "UDP"]
        .iter()
        .flat_map(|protocol| (80..83).map(move |port| format!("{{containerPort: {port}, protocol: {protocol}}}, ")))
        .collect();
    let mut manifest = String::new();
    for namespace in ["one", "two", "three"] {
        manifest += &format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n---\n");
        for pod in ["a", "b", "c"] {
            manifest += &format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, namespace: {namespace}, labels: {{signalbox.dev/probe: \"\"}}}}\n\
                 spec: {{containers: [{{name: c, image: signalbox/probe, ports: [{ports}]}}]}}\n---\n"
            );
        }
    }
    lab.apply_text(&manifest)?;
    lab.kubectl(&["wait", "--for=condition=Ready", "pods", "--all", "--all-namespaces", "--timeout=20s"])?;
    // Names would be asked for, and hosts outside tried: more than is to be measured.
    lab.kubectl(&["delete", "externalhosts", "--all"])?;
    for namespace in ["one", "two", "three"] {
        lab.apply_text(&format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: deny, namespace: {namespace}}}\n\
             spec: {{podSelector: {{}}, policyTypes: [Ingress, Egress]}}\n"
        ))?;
    }
    let told = rounds(&lab.url, &lab.token, Evidence::KernelEvent)?;
    let mut serve = Command::new(binary()?);
    serve.args(["serve", "--listen", "127.0.0.1:0", "--interval", "10m", "--kubeconfig"]).arg(&lab.kubeconfig);
    let mut other = Talk::start(serve)?;
    let ready = other.until("the line `ready`", |text| text.contains("ready ") && text.ends_with('\n'))?;
    let (url, token) = ready
        .split_whitespace()
        .find_map(|word| word.split_once("/?token="))
        .with_context(|| format!("no link in {ready:?}"))?;
    let waited = rounds(url, token, Evidence::Timeout)?;
    Ok((told, waited))
}

/// Has so many rounds run, each of the 486 cells, of which all but those of a pod to itself are shut, and known to be so by `evidence`.
fn rounds(url: &str, token: &str, evidence: Evidence) -> Result<Vec<f64>> {
    let authorization = format!("Authorization: Bearer {token}");
    let mut values = Vec::new();
    for _ in 0..ROUNDS {
        let answer = curl(&["-X", "POST", "-H", &authorization], &format!("{url}/api/v1/rounds"))?;
        ensure!(answer.status == 200, "{answer:?}");
        let report: RoundReport = serde_json::from_str(&answer.body)?;
        let count = |wanted: (Outcome, Evidence)| {
            let facts = report.cells.iter().filter_map(|cell| cell.probe.as_ref());
            facts.filter(|probe| (probe.outcome, probe.evidence) == wanted).count()
        };
        let (shut, open) = (count((Outcome::Dropped, evidence)), count((Outcome::Open, Evidence::Answer)));
        ensure!(
            (shut, open, report.cells.len()) == (432, 54, 486),
            "{shut} shut by {evidence:?}, {open} open of {}",
            report.cells.len()
        );
        let ended = report.round.ended_ms.context("the round has no end")?;
        values.push((ended - report.round.started_ms) as f64);
    }
    Ok(values)
}

/// Whether the page's frame comes from there.
fn is_there(address: &str) -> bool {
    let ask = || -> Result<String> {
        let mut connection = TcpStream::connect(address)?;
        connection.set_read_timeout(Some(WITHIN))?;
        connection.write_all(format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ") && answer.contains("<html"))
}

/// Milliseconds from sending a policy to the kernel's and to the cell's change, in both directions.
fn changes(lab: &Lab) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut kernel, mut cell) = (Vec::new(), Vec::new());
    let events = Events::open(&lab.url)?;
    events.until(WITHIN, |_, event| matches!(event, Event::Snapshot(_)))?;
    for change in 0..CHANGES {
        let shut = change % 2 == 0;
        let generation = generation(lab)?;
        let (method, path, body) = request(shut);
        let (sent, status) = send(lab, method, path, body)?;
        ensure!((200..300).contains(&status), "{method} {path}: {status}");
        let (mut live, mut changed) = (None, None);
        events.until(WITHIN, |arrived, event| {
            if let Event::Enforcers(enforcers) = event
                && enforcers.iter().any(|enforcer| enforcer.generation > generation)
            {
                live.get_or_insert(arrived);
            }
            if let Event::Cells(cells) = event
                && cells.iter().any(|cell| {
                    let outcome = cell.probe.as_ref().map(|probe| probe.outcome);
                    let wanted = if shut { Outcome::Dropped } else { Outcome::Open };
                    (cell.key.from.as_str(), cell.key.to.as_str()) == WATCHED && outcome == Some(wanted)
                })
            {
                changed.get_or_insert(arrived);
            }
            live.is_some() && changed.is_some()
        })?;
        let since = |then: Option<Instant>| then.map(|then| (then - sent).as_secs_f64() * 1000.0);
        kernel.extend(since(live));
        cell.extend(since(changed));
        // Rounds of their own accord must not fall into the next measurement more often than in real use.
        std::thread::sleep(Duration::from_millis(150));
    }
    Ok((kernel, cell))
}

/// One request on a connection of its own, without the cost of starting a client; when it was sent, and the answer's status.
fn send(lab: &Lab, method: &str, path: &str, body: &str) -> Result<(Instant, u16)> {
    let address = lab.url.strip_prefix("http://").context("the page is served by HTTP")?;
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(WITHIN))?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Type: application/yaml\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        lab.token,
        body.len()
    );
    let sent = Instant::now();
    connection.write_all(request.as_bytes())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let status = answer.split_whitespace().nth(1).context("the answer has no status")?;
    Ok((sent, status.parse()?))
}

fn request(shut: bool) -> (&'static str, &'static str, &'static str) {
    if shut { ("POST", "/api/v1/policies", POLICY) } else { ("DELETE", "/api/v1/policies/frontend/figures", "") }
}

fn generation(lab: &Lab) -> Result<u32> {
    let snapshot: Snapshot = lab.get("/api/v1/state")?;
    Ok(snapshot.enforcers.first().context("no enforcer")?.generation)
}

/// Milliseconds from the page's own request to the change of the cell that the page shows.
async fn browser(lab: &Lab) -> Result<Vec<f64>> {
    let browser = Browser::open(1400, 900, "light").await?;
    browser.client.goto(&lab.link()).await?;
    let cell = format!("[data-key='{}~{}~9000~TCP']", WATCHED.0, WATCHED.1);
    browser.until("the matrix", &format!("document.querySelector(\"{cell}\")")).await?;
    let mut values = Vec::new();
    for change in 0..CHANGES {
        let shut = change % 2 == 0;
        let (method, path, body) = request(shut);
        let wanted = if shut { "shut" } else { "open" };
        let script = format!(
            "const done = arguments[arguments.length - 1];
             const cell = () => document.querySelector(\"{cell}\")?.classList.contains('lamp-{wanted}');
             const sent = performance.now();
             const look = () => {{ if (cell()) {{ observer.disconnect(); done(performance.now() - sent); }} }};
             const observer = new MutationObserver(look);
             observer.observe(document.body, {{ subtree: true, childList: true, attributes: true, characterData: true }});
             fetch('{path}', {{ method: '{method}', headers: {{ 'Content-Type': 'application/yaml',
                 Authorization: 'Bearer ' + localStorage.getItem('signalbox.token') }}, body: {body} }}).then(look);",
            body = if body.is_empty() { "null".to_owned() } else { serde_json::to_string(body)? }
        );
        let took = browser.client.execute_async(&script, Vec::new()).await?;
        values.push(took.as_f64().context("a time")?);
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    browser.close().await?;
    Ok(values)
}

/// Proportional set size of the lab and of everything it started.
fn memory_mib(lab: &Lab) -> Result<f64> {
    let mut parents = std::collections::HashMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<i32>().ok());
        parents.insert(pid, parent.unwrap_or(0));
    }
    let ours = |mut pid: i32| loop {
        if pid == lab.pid().as_raw() {
            return true;
        }
        match parents.get(&pid) {
            Some(parent) if *parent > 0 => pid = *parent,
            _ => return false,
        }
    };
    let mut kib = 0.0;
    for pid in parents.keys().filter(|pid| ours(**pid)) {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix("kB"));
        kib += pss.and_then(|text| text.trim().parse::<f64>().ok()).unwrap_or(0.0);
    }
    Ok(kib / 1024.0)
}

/// Each change's times, one dot a change.
fn plot(figures: &[Figure]) -> Result<()> {
    let path = root().join("docs/performance.svg");
    let area = SVGBackend::new(&path, (900, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let most = figures.iter().map(|figure| figure.quantile(1.0)).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption("From the policy sent to … (ms)", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(34)
        .y_label_area_size(54)
        .build_cartesian_2d(0..CHANGES, 0.0..most * 1.1)?;
    chart.configure_mesh().x_desc("change").y_desc("ms").draw()?;
    for (index, figure) in figures.iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        let dots =
            figure.values.iter().enumerate().map(|(change, value)| Circle::new((change, *value), 3, colour.filled()));
        chart.draw_series(dots)?.label(figure.what).legend(move |(x, y)| Circle::new((x + 8, y), 3, colour.filled()));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    area.present()?;
    Ok(())
}
