//! The commands as a user runs them: arguments in; output, messages and exit status out.

mod analyze;
mod run;
mod suites;
