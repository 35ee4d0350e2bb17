//! The matrix as the page gets it, and waiting for what is to stand in it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use signalbox_api::cell::{Cell, Outcome};
use signalbox_api::state::Snapshot;

use crate::lab::Lab;

/// Far above what a round and a time-out take together on a busy machine.
const WITHIN: Duration = Duration::from_secs(20);

/// The cells whose source's id starts with `from`, to the endpoint `to`.
pub fn cells(lab: &Lab, from: &str, to: &str) -> Result<Vec<Cell>> {
    let snapshot: Snapshot = lab.get("/api/v1/state")?;
    Ok(snapshot.cells.into_iter().filter(|cell| cell.key.from.starts_with(from) && cell.key.to == to).collect())
}

/// The outcome that a cell shows.
pub fn outcome(cell: &Cell) -> Option<Outcome> {
    cell.probe.as_ref().map(|probe| probe.outcome)
}

/// Waits until there are such cells and each is as `wanted` has it; gives them back.
pub fn until(lab: &Lab, from: &str, to: &str, what: &str, wanted: impl Fn(&Cell) -> bool) -> Result<Vec<Cell>> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let found = cells(lab, from, to)?;
        if !found.is_empty() && found.iter().all(&wanted) {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("{from} to {to}: not {what} within {WITHIN:?}: {found:#?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
