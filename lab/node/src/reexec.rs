//! What runs inside the namespaces: this program, started anew.

/// Call it first thing in `main`, before any thread: where this process was started to run inside a namespace, it
/// does that and never returns. Otherwise it does nothing.
pub fn run_if_reexec() {}
