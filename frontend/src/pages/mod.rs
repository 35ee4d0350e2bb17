//! The views.

pub mod alone;
pub mod map;
pub mod matrix;
pub mod policies;
