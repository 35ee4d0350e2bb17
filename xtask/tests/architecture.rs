//! The table in ARCHITECTURE.md says which of our crates may use which: what cargo knows of them has to agree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Crates by their folders, with the folders of those that they use: in the program itself, and in all, tests included.
struct Uses {
    itself: BTreeSet<String>,
    all: BTreeSet<String>,
    /// The names of everything else that the program itself uses.
    foreign: BTreeSet<String>,
}

#[test]
fn crates_use_each_other_as_the_table_says() -> Result<()> {
    let table = table()?;
    let crates = crates()?;
    let undocumented: Vec<_> = crates.keys().filter(|folder| !table.contains_key(*folder)).collect();
    ensure!(undocumented.is_empty(), "not in the table: {undocumented:?}");
    for (folder, uses) in &crates {
        let Some(may) = &table[folder] else { continue };
        let beyond: Vec<_> = uses.itself.difference(may).collect();
        ensure!(beyond.is_empty(), "{folder} uses {beyond:?}, which the table does not allow");
        let in_tests: Vec<_> = uses.all.difference(may).collect();
        let may_have_the_lab = ["server", "e2e"].contains(&folder.as_str());
        ensure!(in_tests.is_empty() || may_have_the_lab, "the tests of {folder} use {in_tests:?}");
        let unused: Vec<_> = may.difference(&uses.all).collect();
        ensure!(unused.is_empty(), "{folder} may use {unused:?}, and does not");
    }
    Ok(())
}

/// The cluster is reached through the `kube` crate, in the lab as anywhere: those two know nothing of the lab.
#[test]
fn server_and_enforcer_have_no_way_into_the_lab_but_its_api() -> Result<()> {
    let crates = crates()?;
    for folder in ["server", "enforcer"] {
        let uses = crates.get(folder).with_context(|| format!("there is no {folder}"))?;
        let of_the_lab: Vec<_> = uses.itself.iter().filter(|used| used.starts_with("lab")).collect();
        ensure!(of_the_lab.is_empty(), "{folder} uses {of_the_lab:?}");
        ensure!(uses.foreign.contains("kube"), "{folder} does not use kube");
    }
    Ok(())
}

#[test]
fn the_engine_does_no_input_or_output() -> Result<()> {
    let crates = crates()?;
    for folder in ["policy", "api"] {
        let uses = crates.get(folder).with_context(|| format!("there is no {folder}"))?;
        for no in ["kube", "tokio", "futures", "hyper", "axum", "nix", "rustix", "libc", "socket2"] {
            ensure!(!uses.foreign.contains(no), "{folder} uses {no}");
        }
    }
    Ok(())
}

/// The folders of the table, with those that each may use; `None` for everything above it.
fn table() -> Result<BTreeMap<String, Option<BTreeSet<String>>>> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md"))?;
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let table: BTreeMap<_, _> = rows
        .map(|row| {
            let columns: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let may = columns.last().copied().unwrap_or_default();
            let may = (may != "everything above").then(|| quoted(may));
            (quoted(columns[0]).into_iter().next().unwrap_or_default(), may)
        })
        .collect();
    ensure!(table.len() >= 15, "only {} rows in ARCHITECTURE.md", table.len());
    Ok(table)
}

/// What stands in backquotes, without a slash at the end.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(|word| word.trim_end_matches('/').to_owned()).collect()
}

fn crates() -> Result<BTreeMap<String, Uses>> {
    let output = Command::new("cargo")
        .args(["metadata", "--locked", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let folder_of = |path: &str| Some(Path::new(path).strip_prefix(root()).ok()?.to_string_lossy().into_owned());
    let mut crates = BTreeMap::new();
    for package in metadata["packages"].as_array().context("no packages")? {
        let manifest = package["manifest_path"].as_str().context("a package lies nowhere")?;
        let folder = folder_of(manifest.trim_end_matches("/Cargo.toml")).context("a package lies elsewhere")?;
        let mut uses = Uses { itself: BTreeSet::new(), all: BTreeSet::new(), foreign: BTreeSet::new() };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let is_its_own = dependency["kind"].is_null();
            let ours = dependency["path"].as_str().and_then(folder_of);
            match (ours, dependency["name"].as_str()) {
                (Some(ours), _) => {
                    uses.all.insert(ours.clone());
                    uses.itself.extend(is_its_own.then_some(ours));
                }
                (None, Some(name)) if is_its_own => {
                    uses.foreign.insert(name.to_owned());
                }
                (None, _) => {}
            }
        }
        crates.insert(folder, uses);
    }
    Ok(crates)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}
