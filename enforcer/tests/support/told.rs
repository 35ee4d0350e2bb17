//! An enforcer in this process, in front of the smallest API server.

use std::time::Duration;

use signalbox_api::kernel::EnforcerStatus;
use signalbox_enforcer::Enforcer;
use tokio::time::timeout;

/// Waits for a condition of its status.
pub async fn until(enforcer: &Enforcer, what: &str, fits: impl Fn(&EnforcerStatus) -> bool) -> EnforcerStatus {
    let mut status = enforcer.status();
    let waited = timeout(Duration::from_secs(10), status.wait_for(|status| fits(status))).await;
    match waited {
        Ok(found) => found.expect("the enforcer lives").clone(),
        Err(_) => panic!("{what}: {:#?}", enforcer.status().borrow().clone()),
    }
}
