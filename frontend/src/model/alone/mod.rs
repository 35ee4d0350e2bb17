//! The page in the browser alone: manifests in, the engine's answers out. No server has a part in it.
//!
//! - [`workspace`]: what the reader put in; [`keep`]: what of it is kept; [`yaml`]: objects as text; [`pack`]: all of it
//!   in a link.
//! - [`scene`]: the engine's picture of it; [`cell`]: one pair as the matrix draws it; [`survey`]: all pairs counted and
//!   compared, in slices; [`table`]: rows and columns; [`why`]: one connection explained; [`remedy`]: what would open it;
//!   [`review`]: what a reviewer would say.
//! - [`lesson`]: an example.

pub mod cell;
pub mod keep;
pub mod lesson;
pub mod pack;
pub mod remedy;
pub mod review;
pub mod scene;
pub mod survey;
pub mod table;
pub mod why;
pub mod workspace;
pub mod yaml;

#[cfg(test)]
pub(crate) mod sample;
