//! The end of namespaces: what lies in them goes first.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::delete;
use crate::store::Store;

/// Between the deletion of a namespace and that of its contents.
const PAUSE: Duration = Duration::from_millis(300);

/// Empties terminating namespaces until `shutdown`; also those that an earlier run left half-way.
pub(crate) async fn run(store: Arc<Store>, shutdown: CancellationToken) {
    let mut wake = store.subscribe();
    wake.mark_changed();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = wake.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        if !delete::terminating(&store) {
            continue;
        }
        tokio::time::sleep(PAUSE).await;
        wake.borrow_and_update();
        let swept = store.write(false, |transaction| {
            delete::sweep(transaction);
            Ok(())
        });
        if let Err(status) = swept {
            tracing::warn!(message = status.message, "cannot empty a terminating namespace; trying again");
            wake.mark_changed();
        }
    }
}
