//! Embeds the kernel programs where they have been built: `target/artifacts/enforcer.bpf.o` under the workspace's root, or
//! in the folder that `SIGNALBOX_ARTIFACTS` names.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(signalbox_object)");
    println!("cargo::rerun-if-env-changed=SIGNALBOX_ARTIFACTS");
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let artifacts = match env::var_os("SIGNALBOX_ARTIFACTS") {
        Some(folder) => PathBuf::from(folder),
        None => manifest.join("../target/artifacts"),
    };
    let object = artifacts.join("enforcer.bpf.o");
    println!("cargo::rerun-if-changed={}", object.display());
    if object.is_file() {
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
        fs::copy(&object, out.join("enforcer.bpf.o"))
            .expect("the kernel programs can be read and OUT_DIR can be written");
        println!("cargo::rustc-cfg=signalbox_object");
    } else {
        // A path that never exists has cargo look again each time: the object may appear with an older date than this run's.
        println!("cargo::rerun-if-changed={}", artifacts.join("no-object-yet").display());
    }
}
