//! The same, natively. Prints milliseconds, one line a run, and how many cells are open.

use std::time::Instant;

fn main() {
    signalbox_policy_wasm_bench::prepare(10_000, 1_000);
    for _ in 0..20 {
        let started = Instant::now();
        signalbox_policy_wasm_bench::matrix(10);
        println!("{}", started.elapsed().as_secs_f64() * 1000.0);
    }
    println!("open {}", signalbox_policy_wasm_bench::open_cells());
}
