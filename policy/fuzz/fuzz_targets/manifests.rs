//! Any text is read, judged and compiled without a panic, and within bounds of time and memory that libFuzzer watches.

#![no_main]

#[path = "../../tests/mutation/exercise.rs"]
mod exercise;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| exercise::exercise(text));
