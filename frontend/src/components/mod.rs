//! Parts that more than one view uses.

pub mod header;
pub mod icon;
pub mod lesson;
pub mod login;
pub mod theme;
pub mod why;
