//! Skips what has not changed: a digest of the inputs' paths, sizes and times, kept beside the output.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::step::{artifacts, root};

/// Runs `work` unless `output` is there and was made from inputs that look as they look now.
pub fn unless_fresh(name: &str, inputs: &[&str], output: &Path, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let stamp = artifacts().join(format!(".{name}.stamp"));
    let now = digest(inputs)?;
    if output.exists() && fs::read_to_string(&stamp).is_ok_and(|before| before == now) {
        return Ok(());
    }
    // Gone until the work is done: an interrupted build must not look finished.
    fs::remove_file(&stamp).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    work()?;
    fs::create_dir_all(artifacts())?;
    fs::write(&stamp, now).with_context(|| format!("cannot write {}", stamp.display()))
}

fn digest(inputs: &[&str]) -> Result<String> {
    let mut files = Vec::new();
    for input in inputs {
        collect(&root().join(input), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let metadata = fs::metadata(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        hash.update(file.as_os_str().as_encoded_bytes());
        hash.update(metadata.len().to_le_bytes());
        hash.update(modified.as_nanos().to_le_bytes());
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        if path.exists() {
            files.push(path.to_owned());
        }
        return Ok(());
    }
    for entry in fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
        let entry = entry?;
        if entry.file_name() != "target" && entry.file_name() != "node_modules" {
            collect(&entry.path(), files)?;
        }
    }
    Ok(())
}
