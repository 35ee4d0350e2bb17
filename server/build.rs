//! Puts the built page into the binary, if it is there: `target/artifacts/ui`, or `ui` under `SIGNALBOX_ARTIFACTS`.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=SIGNALBOX_ARTIFACTS");
    let artifacts = match std::env::var_os("SIGNALBOX_ARTIFACTS") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../target/artifacts"),
    };
    let ui = artifacts.join("ui");
    println!("cargo::rerun-if-changed={}", ui.display());
    let mut files = BTreeMap::new();
    if ui.join("index.html").is_file() {
        collect(&ui, "", &mut files)?;
    }
    let mut source = String::new();
    let mut count = 0;
    for (path, file) in &files {
        if path.strip_suffix(".br").is_some_and(|plain| files.contains_key(plain)) {
            continue;
        }
        let mut hasher = DefaultHasher::new();
        fs::read(file)?.hash(&mut hasher);
        // Where there is a packed copy that one alone: whoever wants it otherwise has it unpacked.
        let kept = match files.get(&format!("{path}.br")) {
            Some(packed) => format!("Brotli(include_bytes!({packed:?}), OnceLock::new())"),
            None => format!("Plain(include_bytes!({file:?}))"),
        };
        writeln!(source, "    Asset {{ path: {path:?}, etag: \"{:016x}\", kept: Kept::{kept} }},", hasher.finish())?;
        count += 1;
    }
    let source = format!("static ASSETS: [Asset; {count}] = [\n{source}];\n");
    fs::write(Path::new(&std::env::var("OUT_DIR")?).join("page.rs"), source)?;
    Ok(())
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files)?;
        } else {
            files.insert(name, path.canonicalize()?);
        }
    }
    Ok(())
}
