//! The commands as a user runs them: arguments in; output, messages and exit status out.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod analyze;
mod diff;
mod explain;
mod folders;
mod lint;
mod run;
mod schema;
mod suggest;
mod suites;
