//! The views.

pub mod map;
pub mod matrix;
pub mod policies;
