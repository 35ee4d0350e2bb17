//! Fuzzes the engine for a bounded while.

use std::ffi::OsString;
use std::fs;

use anyhow::{Context, Result};

use crate::step::{command, root, run, step};
use crate::tools;

/// How long CI looks for what no test has thought of.
pub const IN_CI: u32 = 60;

/// Any text through the whole engine, for so many seconds. What is found lies in `policy/fuzz/artifacts/`.
pub fn manifests(seconds: u32) -> Result<()> {
    let tools = tools::cargo_fuzz()?;
    let corpus = root().join("target/fuzz/corpus");
    fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
    let mut path = OsString::from(tools);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let fuzz = |task: &str| {
        let mut fuzz = command("cargo");
        // libFuzzer's hooks in the compiler are not stable; the sanitizers look for what safe Rust cannot do.
        fuzz.env("RUSTC_BOOTSTRAP", "1").env("PATH", &path);
        fuzz.args([
            "fuzz",
            task,
            "--sanitizer",
            "none",
            "--fuzz-dir",
            "policy/fuzz",
            "--target-dir",
            "target/fuzz",
            "manifests",
        ]);
        fuzz
    };
    step("build the fuzz target", || run(&mut fuzz("build")))?;
    step(&format!("fuzz the engine for {seconds} s"), || {
        run(fuzz("run")
            .args([
                "target/fuzz/corpus",
                "policy/fuzz/seeds",
                "--",
                "-timeout=10",
                "-rss_limit_mb=1024",
                "-max_len=16384",
            ])
            .args(["-dict=policy/fuzz/manifests.dict", "-print_final_stats=1", "-verbosity=0"])
            .arg(format!("-max_total_time={seconds}")))
    })
}
