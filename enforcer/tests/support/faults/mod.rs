//! What the fault suite needs: an agent that can be killed, an API that can be away, traffic whose every verdict is known.

pub mod agent;
pub mod api;
pub mod load;
pub mod storm;
