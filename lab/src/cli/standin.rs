//! A stand-in for as long as a command needs it.

use std::time::{Duration, Instant};

use owo_colors::OwoColorize;
use rand::Rng;
use signalbox_api::rest::{StandInReport, StandInWish};
use signalbox_api::state::{Endpoint, Snapshot};

use super::client::{self, Source};

/// The label of stand-ins' pods that names their Job.
const JOB: &str = "job-name";
/// Between two looks at whether it is there.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two renewals of the run.
const RENEWAL: Duration = Duration::from_secs(20);

/// What to stand in for.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Keep the labels that Services select by, too; the stand-in is never ready then, so that Services send it nothing
    #[arg(long)]
    pub keep_service_labels: bool,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("the stand-in {job} is not ready within {} s: {why}; give it more with --timeout", after.as_secs())]
    Late { job: String, after: Duration, why: String },
}

/// A name for a run that nobody else has.
pub(super) fn new_run() -> String {
    format!("{:012x}", rand::rng().random::<u64>() & 0xffff_ffff_ffff)
}

/// Deploys what is wished and waits until a round has been run from it. Gives back the picture then. Whatever happens, the
/// caller removes the run.
pub(super) async fn deployed(
    source: &Source,
    wish: &StandInWish,
    timeout: Duration,
) -> Result<(StandInReport, Snapshot), Error> {
    let begin = Instant::now();
    let report = source.deploy(wish).await?;
    tell(&report);
    let mut renewed = Instant::now();
    loop {
        let snapshot = source.round(timeout).await?;
        let missing = report.jobs.iter().find_map(|job| Some((job, lacks(job, &snapshot)?)));
        let Some((job, why)) = missing else { return Ok((report, snapshot)) };
        if begin.elapsed() > timeout {
            return Err(Error::Late { job: format!("{}/{job}", report.namespace), after: timeout, why });
        }
        if renewed.elapsed() > RENEWAL {
            source.renew(&wish.run).await?;
            renewed = Instant::now();
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether an endpoint is a stand-in of these Jobs.
pub(super) fn is_one(endpoint: &Endpoint, report: &StandInReport) -> bool {
    let job = endpoint.labels.get(JOB);
    endpoint.namespace.as_deref() == Some(&report.namespace) && job.is_some_and(|job| report.jobs.contains(job))
}

/// What a stand-in lacks until its row is known.
fn lacks(job: &str, snapshot: &Snapshot) -> Option<String> {
    let Some(pod) = snapshot.endpoints.iter().find(|endpoint| endpoint.labels.get(JOB).is_some_and(|of| of == job))
    else {
        return Some("its pod is not there yet".to_owned());
    };
    if let Some(problem) = &pod.problem {
        return Some(problem.clone());
    }
    let mut row = snapshot.cells.iter().filter(|cell| cell.key.from == pod.id).peekable();
    if row.peek().is_none() {
        return Some("nothing is to be tried from it yet".to_owned());
    }
    let untried = row.filter(|cell| cell.probe.is_none()).count();
    (untried > 0).then(|| format!("{untried} connections are not tried yet"))
}

fn tell(report: &StandInReport) {
    let names = report.jobs.join(", ");
    anstream::eprintln!("{} {names} in {} stands in for {}", "·".dimmed(), report.namespace, report.stands_in_for);
    if !report.dropped.is_empty() {
        let dropped = report.dropped.join(", ");
        anstream::eprintln!(
            "  without the labels {dropped}, by which Services select; the policies treat it alike all the same"
        );
    }
    if report.never_ready {
        anstream::eprintln!(
            "  with the labels by which Services select; it is never ready, so that they send it nothing"
        );
    }
    for difference in &report.differences {
        anstream::eprintln!("  {} {difference}", "unlike:".yellow().bold());
    }
}
