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
    let mut source = String::from("static ASSETS: &[Asset] = &[\n");
    for (path, file) in &files {
        let is_sibling = [".br", ".gz"]
            .iter()
            .any(|extension| path.strip_suffix(extension).is_some_and(|plain| files.contains_key(plain)));
        if is_sibling {
            continue;
        }
        let sibling = |extension: &str| match files.get(&format!("{path}{extension}")) {
            Some(file) => format!("Some(include_bytes!({:?}))", file.display().to_string()),
            None => "None".to_owned(),
        };
        let mut hasher = DefaultHasher::new();
        fs::read(file)?.hash(&mut hasher);
        writeln!(
            source,
            "    Asset {{ path: {path:?}, etag: \"{:016x}\", plain: include_bytes!({:?}), brotli: {}, gzip: {} }},",
            hasher.finish(),
            file.display().to_string(),
            sibling(".br"),
            sibling(".gz"),
        )?;
    }
    source.push_str("];\n");
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
