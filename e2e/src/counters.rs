//! The enforcer's counters, check by check.

use anyhow::{Context, Result, ensure};
use signalbox_api::cell::CellKey;
use signalbox_api::flow::{IpProtocol, Protocol};
use signalbox_api::kernel::VerdictCount;
use signalbox_api::state::{Endpoint, EndpointKind, Snapshot};

use crate::lab::{Check, Lab};
use crate::lesson::{self, Step};

/// By how much the kernel's two counters of one connection have grown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// Flows that were allowed.
    pub allowed: u64,
    /// Packets that were denied.
    pub denied: u64,
}

/// Runs the demo script and holds the growth of each check's own counters against the lesson's table: of an open one only what is
/// allowed may grow, of a shut one only what is denied, and by no less than what was tried. A round tries a pod by its Service and by
/// its own address, which are one row of counters.
///
/// The kernel has to judge by this step's policies already, and by no others until the end: [`lesson::check`] has been called.
/// Rounds of the lab's own accord may come in between, since they are judged by the same.
pub fn check(lab: &Lab, step: &Step) -> Result<()> {
    let before: Vec<VerdictCount> = lab.get("/api/v1/kernel/counts")?;
    let report = lesson::check(lab, step)?;
    let after: Vec<VerdictCount> = lab.get("/api/v1/kernel/counts")?;
    let snapshot: Snapshot = lab.get("/api/v1/state")?;
    for check in &report.checks {
        let Growth { allowed, denied } = growth(&snapshot, &before, &after, check)?;
        let tried = tried(&snapshot, check)?;
        let (number, from, to) = (step.number, &check.from, &check.to);
        println!("step {number}: {from} to {to}: {tried} tried in a round, {allowed} allowed, {denied} denied");
        let open = step.is_open(&check.from, &check.to);
        let right = if open { allowed >= tried && denied == 0 } else { allowed == 0 && denied >= tried };
        ensure!(
            right,
            "step {number}, {from} to {to}: must be {}, and of {tried} connections the enforcer counted {allowed} allowed and {denied} denied; \
             its rows: {:#?}",
            if open { "open" } else { "shut" },
            rows(&after, &ends(&snapshot, from)?, &ends(&snapshot, to)?, check.port).collect::<Vec<_>>()
        );
    }
    Ok(())
}

/// What was added to the counters of a check's connections.
fn growth(snapshot: &Snapshot, before: &[VerdictCount], after: &[VerdictCount], check: &Check) -> Result<Growth> {
    let (from, to) = (ends(snapshot, &check.from)?, ends(snapshot, &check.to)?);
    let sum = |counts: &[VerdictCount]| {
        rows(counts, &from, &to, check.port).fold(Growth::default(), |sum, row| Growth {
            allowed: sum.allowed + row.allowed,
            denied: sum.denied + row.denied,
        })
    };
    let (before, after) = (sum(before), sum(after));
    // Less than before: the kernel has forgotten a row, and the difference would say nothing.
    let less = || format!("{} to {}: from {before:?} to {after:?}", check.from, check.to);
    Ok(Growth {
        allowed: after.allowed.checked_sub(before.allowed).with_context(less)?,
        denied: after.denied.checked_sub(before.denied).with_context(less)?,
    })
}

fn rows<'a>(
    counts: &'a [VerdictCount],
    from: &'a [String],
    to: &'a [String],
    port: u16,
) -> impl Iterator<Item = &'a VerdictCount> {
    counts.iter().filter(move |row| {
        row.protocol == IpProtocol::Transport(Protocol::Tcp)
            && row.port == port
            && from.contains(&row.source)
            && to.contains(&row.destination)
    })
}

/// How many connections of one round end up in a check's rows. A pod to itself by its own address never leaves it, and nobody judges.
fn tried(snapshot: &Snapshot, check: &Check) -> Result<u64> {
    let ids = |workload: &str| -> Vec<&str> {
        snapshot.endpoints.iter().filter(|one| one.workload == workload).map(|one| one.id.as_str()).collect()
    };
    let (from, to) = (ids(&check.from), ids(&check.to));
    let is_one = |key: &&CellKey| {
        let ends = from.contains(&key.from.as_str()) && to.contains(&key.to.as_str());
        ends && key.from != key.to && key.port == check.port && key.protocol == Protocol::Tcp
    };
    let tried = snapshot.cells.iter().map(|cell| &cell.key).filter(is_one).count();
    ensure!(tried > 0, "{} to {} is not tried at all", check.from, check.to);
    Ok(tried as u64)
}

/// Under which names the kernel's counters know an end of a check. A Service stands for its pods: counted is after the translation.
fn ends(snapshot: &Snapshot, workload: &str) -> Result<Vec<String>> {
    let is_it = |endpoint: &&Endpoint| endpoint.workload == workload;
    let mut names = Vec::new();
    for endpoint in snapshot.endpoints.iter().filter(is_it) {
        match endpoint.kind {
            EndpointKind::Pod => names.push(pod(&endpoint.id)),
            EndpointKind::Service => names.extend(endpoint.backends.iter().map(|id| pod(id))),
            EndpointKind::Outside => names.extend(endpoint.addresses.iter().map(ToString::to_string)),
        }
    }
    ensure!(!names.is_empty(), "{workload} is nowhere in the picture");
    names.sort();
    names.dedup();
    Ok(names)
}

fn pod(id: &str) -> String {
    id.trim_start_matches("pod:").to_owned()
}
