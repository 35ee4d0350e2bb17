//! The map in a real browser: every connection that is tried runs along its line and stops where it is stopped.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fantoccini::Locator;
use serde::Deserialize;
use signalbox_api::flow::Direction;
use signalbox_api::state::{EndpointKind, Snapshot};
use signalbox_e2e::browser::{Browser, run};
use signalbox_e2e::lab::Lab;
use signalbox_e2e::lesson::{ALL, STEPS, Step};

/// Reads the way of every runner that comes from now on, by having its own animation stand still at one moment after the other:
/// whatever is read is where the browser draws it. `window.ways` holds the last one of each line.
const WATCH: &str = "
    window.ways = {};
    window.since = performance.now();
    const MOMENTS = 80;
    const read = (runner, born) => {
        const [animation] = runner.getAnimations();
        if (!animation) { if (runner.isConnected) requestAnimationFrame(() => read(runner, born)); return; }
        const line = document.querySelector(
            `.tracks .track[data-from='${runner.dataset.from}'][data-to='${runner.dataset.to}']`);
        if (born < window.since || !line) return;
        const now = animation.currentTime;
        const points = [];
        for (let moment = 0; moment <= MOMENTS; moment++) {
            animation.currentTime = animation.effect.getComputedTiming().endTime * Math.min(moment / MOMENTS, 0.999);
            const matrix = new DOMMatrix(getComputedStyle(runner).transform);
            points.push(new DOMPoint(matrix.e, matrix.f));
        }
        animation.currentTime = now;
        const path = line.querySelector('path.line');
        const length = path.getTotalLength();
        const along = [...Array(401).keys()].map(step => path.getPointAtLength(length * step / 400));
        const far = (a, b) => Math.hypot(a.x - b.x, a.y - b.y);
        const middle = bar => bar.getPointAtLength(bar.getTotalLength() / 2);
        const outside = (point, id) => {
            const box = document.querySelector(`[data-node='${id}'] rect`).getBBox();
            return Math.hypot(Math.max(box.x - point.x, 0, point.x - box.x - box.width),
                Math.max(box.y - point.y, 0, point.y - box.y - box.height));
        };
        const off = Math.max(...points.map(point => Math.min(...along.map(it => far(it, point)))));
        const last = points[points.length - 1];
        const [egress, ingress] = [...line.querySelectorAll('path.gate')];
        window.ways[`${runner.dataset.from} ${runner.dataset.to}`] = {
            from: runner.dataset.from,
            to: runner.dataset.to,
            round: runner.classList.contains('lamp-open'),
            off,
            nearest: Math.min(...points.map(point => outside(point, runner.dataset.to))),
            short: Math.min(...points.map(point => far(point, along[along.length - 1]))),
            last_to_source: outside(last, runner.dataset.from),
            last_to_destination: outside(last, runner.dataset.to),
            last_to_egress: far(last, middle(egress)),
            last_to_ingress: far(last, middle(ingress)),
            egress_shut: egress.classList.contains('closed'),
            ingress_shut: ingress.classList.contains('closed'),
        };
    };
    new MutationObserver(changes => {
        const born = performance.now();
        for (const change of changes) for (const added of change.addedNodes)
            if (added.classList?.contains('runner')) requestAnimationFrame(() => read(added, born));
    }).observe(document.querySelector('.runners'), { childList: true });";

/// Where a runner went, in the map's units.
#[derive(Clone, Debug, Deserialize)]
struct Way {
    /// The id of who connects.
    from: String,
    /// The id of the pod or host at the other end.
    to: String,
    /// Drawn as an open one.
    round: bool,
    /// How far it left its line, at most.
    off: f64,
    /// How near it came to the box of its destination.
    nearest: f64,
    /// How near it came to the end of its line. Of a Service's pod to itself it is another place than where it began.
    short: f64,
    /// Where it was at the end, from the boxes of the two ends.
    last_to_source: f64,
    last_to_destination: f64,
    /// The same from the line's two gates.
    last_to_egress: f64,
    last_to_ingress: f64,
    /// Which gate is drawn shut.
    egress_shut: bool,
    ingress_shut: bool,
}

/// How far the way back lies beside the line, and what rounding adds.
const BESIDE: f64 = 4.5;
/// A gate stands just outside its pod's area.
const AT_GATE: f64 = 30.0;
/// What rounding to tenths makes of one point.
const SAME: f64 = 0.8;

impl Way {
    /// What is wrong with it, if anything is.
    fn wrong(&self, stopped_at: Option<Direction>) -> Option<&'static str> {
        let loops = self.from == self.to;
        let at_gate = match stopped_at {
            None => self.nearest < SAME && self.short < BESIDE && self.last_to_source < BESIDE,
            Some(Direction::Egress) => {
                let side = loops || self.last_to_source < self.last_to_destination;
                self.last_to_egress < SAME && self.last_to_source < AT_GATE && side
            }
            Some(Direction::Ingress) => {
                let side = loops || self.last_to_destination < self.last_to_source;
                self.last_to_ingress < SAME && self.last_to_destination < AT_GATE && side
            }
        };
        let gates = (self.egress_shut, self.ingress_shut);
        [
            (self.off > BESIDE, "left its line"),
            (stopped_at.is_some() && self.short < BESIDE, "reached its destination"),
            (!at_gate, "did not stop where it should"),
            (self.round != stopped_at.is_none(), "is drawn as what it is not"),
            (
                gates != (stopped_at == Some(Direction::Egress), stopped_at == Some(Direction::Ingress)),
                "runs on a line whose gates say something else",
            ),
        ]
        .into_iter()
        .find_map(|(wrong, what)| wrong.then_some(what))
    }
}

#[test]
fn every_tried_connection_runs_along_its_line_and_stops_where_it_is_stopped() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &["--interval", "1s"])?;
    run(async {
        let browser = Browser::open_lab(&lab, "map", 1400, 1000, "light").await?;
        browser.until("the map", "document.querySelector('.runners')").await?;
        browser.client.execute(WATCH, Vec::new()).await?;
        for step in STEPS {
            if step.manifest.is_some() {
                let button =
                    format!("//div[@aria-label='Steps of the lesson']//button[span[text()='{}']]", step.number);
                browser.client.find(Locator::XPath(&button)).await?.click().await?;
            }
            browser.tally(step.open.len()).await?;
            // What was on its way before tells of the step before.
            browser.client.execute("window.ways = {}; window.since = performance.now()", Vec::new()).await?;
            all_run(&lab, &browser, step).await?;
        }
        browser.close().await
    })
}

/// Waits for a runner on each line, and looks where each went.
async fn all_run(lab: &Lab, browser: &Browser, step: &Step) -> Result<()> {
    let names = workloads(lab)?;
    let name = |id: &str| names.get(id).map(String::as_str).with_context(|| format!("{id} is nowhere in the picture"));
    let deadline = Instant::now() + Duration::from_secs(15);
    let ways = loop {
        let ways: Vec<Way> = serde_json::from_value(browser.value("Object.values(window.ways)").await?)?;
        if ways.len() >= ALL.len() {
            break ways;
        }
        ensure!(Instant::now() < deadline, "step {}: only {} connections ran: {ways:#?}", step.number, ways.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    ensure!(ways.len() == ALL.len(), "step {}: {} lines: {ways:#?}", step.number, ways.len());
    for way in &ways {
        let (from, to) = (name(&way.from)?, name(&way.to)?);
        ensure!(ALL.contains(&(from, to)), "nobody tries {from} to {to}");
        let stopped_at = step.stopped_at(from, to);
        println!(
            "step {}: {from} to {to}, stopped at {stopped_at:?}: off its line by {:.1}, its end {:.1} from the source and {:.1} from the \
             destination, and it came as near as {:.1} to its line's end",
            step.number, way.off, way.last_to_source, way.last_to_destination, way.short
        );
        if let Some(wrong) = way.wrong(stopped_at) {
            let file = browser.screenshot("failed").await?;
            anyhow::bail!(
                "step {}: the connection from {from} to {to}, to be stopped at {stopped_at:?}, {wrong}; see {}\n{way:#?}",
                step.number,
                file.display()
            );
        }
    }
    browser.screenshot(&format!("map-runners-step-{}-light", step.number)).await?;
    Ok(())
}

fn workloads(lab: &Lab) -> Result<BTreeMap<String, String>> {
    let snapshot: Snapshot = lab.get("/api/v1/state")?;
    let ends = snapshot.endpoints.into_iter().filter(|one| one.kind != EndpointKind::Service);
    Ok(ends.map(|one| (one.id, one.workload)).collect())
}
