//! Embeds the probe: `target/artifacts/signalbox-probe`, or the one in `$SIGNALBOX_ARTIFACTS`.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=SIGNALBOX_ARTIFACTS");
    let folder = env::var_os("SIGNALBOX_ARTIFACTS").map_or_else(
        || Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../target/artifacts"),
        PathBuf::from,
    );
    let probe = folder.join("signalbox-probe");
    println!("cargo::rerun-if-changed={}", probe.display());
    let value = match probe.canonicalize() {
        Ok(path) => format!("Some(include_bytes!({path:?}))"),
        // The crate still compiles; at run time it says what is missing. A path that never exists has cargo look again
        // each time: the probe may appear with an older date than this run's.
        Err(_) => {
            println!("cargo::rerun-if-changed={}", folder.join("no-probe-yet").display());
            "None".to_owned()
        }
    };
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it")).join("probe.rs");
    let source = format!("/// The probe's bytes.\npub(crate) static PROBE: Option<&[u8]> = {value};\n");
    fs::write(&out, source).expect("cargo's output directory is writable");
}
