//! What may happen to the agent, the API and the node, with an agent in a process of its own. Every criterion is one of
//! packets sent and received; the agent's word is only waited for.
//!
//! - [`death`]: the agent is killed, ended, replaced by another version.
//! - [`absence`]: the API is away, or slow.
//! - [`change`]: policies change, come in disorder, do not fit.
//! - [`removal`]: somebody takes away what the agent has put there.
//! - [`pods`]: pods come and go.
//! - [`exact`]: rules of every size say what the engine says.

mod absence;
mod bench;
mod change;
mod death;
mod exact;
mod pods;
mod removal;
#[path = "../support/mod.rs"]
mod support;

/// The agent of the other tests.
#[test]
#[ignore = "the agent's process of the other tests, started by them"]
fn agent_process() {
    support::faults::agent::live();
}
