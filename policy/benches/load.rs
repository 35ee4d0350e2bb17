//! Time and memory of a very large cluster, from text and from parsed values: 100,000 pods and 75,000 policies. Each part runs
//! in a process of its own, so that its peak is its own. Prints one line of JSON.

mod clock;
mod common;

use std::fs;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::Command;

use clock::thread_time;
use common::{Size, objects};
use serde_json::{Value, json};
use signalbox_policy::{Cluster, Party, Protocol};

const HUGE: Size = Size::of(100_000, 75_000);
const RUNS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|it| it == "--child") {
        Some(at) => child(Path::new(&arguments[at + 1])),
        None => parent(),
    }
}

fn parent() {
    let path = std::env::temp_dir().join(format!("signalbox-load-{}.jsonl", std::process::id()));
    let mut file = BufWriter::new(fs::File::create(&path).expect("a temporary file"));
    for object in objects(HUGE) {
        writeln!(file, "{object}").expect("room for a temporary file");
    }
    drop(file);
    let mut runs: Vec<Value> = Vec::new();
    for _ in 0..RUNS {
        let program = std::env::current_exe().expect("a program has a path");
        let output = Command::new(program).arg("--child").arg(&path).output().expect("this very program runs");
        runs.push(serde_json::from_slice(&output.stdout).expect("it prints JSON"));
    }
    let _ = fs::remove_file(&path);
    runs.sort_by(|a, b| a["values_ms"].as_f64().partial_cmp(&b["values_ms"].as_f64()).expect("numbers"));
    println!("{}", json!({"pods": HUGE.pods, "policies": HUGE.policies, "runs": runs}));
}

fn child(path: &Path) {
    let file = BufReader::new(fs::File::open(path).expect("the parent wrote it"));
    let lines: Vec<String> = file.lines().map(|line| line.expect("text")).collect();
    let text_mib = lines.iter().map(String::len).sum::<usize>() / 1024 / 1024;
    let started = thread_time();
    let values: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("generated")).collect();
    let text = thread_time() - started;
    drop(lines);
    let before = resident_mib();
    let started = thread_time();
    let cluster = Cluster::from_objects(&values);
    let read = thread_time() - started;
    drop(values);
    let started = thread_time();
    let first = Party::Pod(cluster.pods().next().expect("generated").clone());
    let verdict = cluster.verdict(&first, &first, Protocol::Tcp, 80);
    assert_eq!(verdict.allowed(), Some(true));
    let last = Party::Pod(cluster.pods().last().expect("generated").clone());
    std::hint::black_box(cluster.verdict(&first, &last, Protocol::Tcp, 80));
    let classified = thread_time() - started;
    let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1000.0;
    println!(
        "{}",
        json!({"text_mib": text_mib, "text_ms": ms(text), "values_ms": ms(read), "classify_ms": ms(classified),
        "values_mib": before, "cluster_mib": resident_mib(), "peak_mib": peak_mib()})
    );
}

fn peak_mib() -> u64 {
    status("VmHWM:")
}

fn resident_mib() -> u64 {
    status("VmRSS:")
}

fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("0 kB");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) / 1024
}
