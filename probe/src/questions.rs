//! Questions to DNS servers that wait for their answers, and who ends the wait.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// All of them, by the request that each is for.
#[derive(Debug, Default)]
pub struct Questions {
    waiting: Mutex<HashMap<u64, Vec<Waiting>>>,
}

#[derive(Debug)]
struct Waiting {
    local: SocketAddr,
    end: oneshot::Sender<()>,
}

impl Questions {
    /// A question leaves from here. What this gives back is told when the kernel drops it.
    pub fn left(&self, id: u64, local: SocketAddr) -> oneshot::Receiver<()> {
        let (end, dropped) = oneshot::channel();
        let mut waiting = self.lock();
        let of_request = waiting.entry(id).or_default();
        // Those whose wait has ended otherwise.
        of_request.retain(|one| !one.end.is_closed());
        of_request.push(Waiting { local, end });
        dropped
    }

    /// The kernel dropped the question that left from here. One that does not wait any more is passed over.
    pub fn dropped(&self, id: u64, local: SocketAddr) {
        let mut waiting = self.lock();
        let Some(of_request) = waiting.get_mut(&id) else { return };
        if let Some(at) = of_request.iter().position(|one| one.local == local) {
            let _answered = of_request.swap_remove(at).end.send(());
        }
    }

    /// A request is over, and with it its questions.
    pub fn forget(&self, id: u64) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Vec<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
