//! What the page knows and how it reads, without a browser.
//!
//! - [`picture`]: the state that events change.
//! - [`directory`]: the names of endpoints as people read them.
//! - [`look`]: one cell as lamp, words and sentence.
//! - [`enforcers`]: the nodes' enforcers in words.
//! - [`grid`]: the matrix's rows and columns.
//! - [`lesson`]: the lesson's checks counted.
//! - [`plan`]: where things stand on the map; [`track`]: the lines between them.
//! - [`draft`]: what was typed and not yet applied; [`check`]: what is wrong with it, line by line.
//! - [`position`]: ids of events.
//! - [`time`]: durations in words.
//! - [`alone`]: the page without a server.

pub mod alone;
pub mod check;
pub mod directory;
pub mod draft;
pub mod enforcers;
pub mod grid;
pub mod lesson;
pub mod look;
pub mod picture;
pub mod plan;
pub mod position;
pub mod time;
pub mod track;

#[cfg(test)]
pub(crate) mod sample;
