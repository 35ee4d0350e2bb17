//! Seeds of the fuzz target, mutated by bytes and by structure: nothing panics, nothing contradicts itself, nothing takes
//! long. It is the fuzz target in small, for every run of the tests: the same texts each time, since the numbers are drawn from a
//! seed. `SIGNALBOX_MUTATIONS` sets how many texts are tried, `SIGNALBOX_SEED` from which seed.

mod exercise;
mod structure;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use exercise::exercise;

/// No text of these sizes takes longer, not even unoptimised on a busy machine.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Numbers that look drawn, and are the same each time (Steele, Lea, Flood 2014: SplitMix64).
pub struct Draw(u64);

impl Draw {
    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One below `end`; 0 where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).expect("a length fits");
        usize::try_from(self.number() % end).expect("it is smaller than a length")
    }

    /// Any of them.
    pub fn one_of<'t, T>(&mut self, items: &'t [T]) -> &'t T {
        &items[self.below(items.len())]
    }
}

/// Names and texts of the seeds, in order of their names.
fn seeds() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let files = std::fs::read_dir(&folder).expect("the seeds are there");
    let mut seeds: Vec<(String, String)> = files
        .map(|file| {
            let path = file.expect("the folder can be listed").path();
            let text = std::fs::read_to_string(&path).expect("a seed can be read");
            (path.file_name().expect("a file has a name").to_string_lossy().into_owned(), text)
        })
        .collect();
    seeds.sort();
    assert!(seeds.len() >= 12, "{} seeds", seeds.len());
    seeds
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Takes texts through the engine; a failure names the text, so that it can become a test.
fn all(texts: impl Iterator<Item = String>) {
    for text in texts {
        let started = Instant::now();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| exercise(&text))) {
            eprintln!("the text was:\n{text}\n(end of text)");
            std::panic::resume_unwind(panic);
        }
        assert!(started.elapsed() < MAX_TIME, "{:?} for\n{text}", started.elapsed());
    }
}

#[test]
fn seeds_are_taken_as_they_are() {
    for (name, text) in seeds() {
        eprintln!("{name}");
        all(std::iter::once(text));
    }
}

#[test]
fn texts_mutated_by_bytes() {
    let seeds: Vec<String> = seeds().into_iter().map(|(_, text)| text).collect();
    let mut draw = Draw(number("SIGNALBOX_SEED", 1));
    let count = number("SIGNALBOX_MUTATIONS", 600);
    all((0..count).map(|_| by_bytes(&seeds, &mut draw)));
}

#[test]
fn texts_mutated_by_structure() {
    let seeds: Vec<String> = seeds().into_iter().map(|(_, text)| text).collect();
    let objects = structure::objects(&seeds);
    let mut draw = Draw(number("SIGNALBOX_SEED", 2));
    let count = number("SIGNALBOX_MUTATIONS", 150);
    all((0..count).map(|_| structure::mutated(&objects, &mut draw)));
}

const WORDS: &[&str] = &[
    "---\n",
    "\n",
    "  ",
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "'",
    "\"",
    "&a ",
    "*a",
    "!",
    "#",
    "null",
    "0",
    "-1",
    "65536",
    "1e99",
    ".nan",
    "::/0",
    "0.0.0.0/0",
    "::ffff:0:0/96",
    "global()",
    "has(a)",
    "||",
    "&&",
    "\t",
    "\r",
    "\u{0}",
    "\u{feff}",
    "\u{1f980}",
    "<<: ",
    "? ",
    "|",
];

/// A seed in which some bytes are others.
fn by_bytes(seeds: &[String], draw: &mut Draw) -> String {
    let mut bytes = draw.one_of(seeds).clone().into_bytes();
    for _ in 0..=draw.below(6) {
        let at = draw.below(bytes.len());
        let end = (at + draw.below(24)).min(bytes.len());
        match draw.below(6) {
            0 => {
                bytes.drain(at..end);
            }
            1 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            2 => {
                bytes.splice(at..at, draw.one_of(WORDS).bytes());
            }
            3 => {
                bytes.splice(at..end, draw.one_of(WORDS).bytes());
            }
            4 => {
                let other = draw.one_of(seeds).as_bytes();
                let from = draw.below(other.len());
                let to = (from + draw.below(200)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << draw.below(7);
                }
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
