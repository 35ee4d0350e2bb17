//! What the task waits for: each thing that may come, and what is there already.

use signalbox_api::kernel::{EnforcerStatus, FlowEvent};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc, watch};

use crate::nodes::News;

/// Inputs that are taken together before browsers are told.
pub(super) const BATCH: usize = 2_048;

/// Takes what is there already.
pub(super) fn drain<T>(queue: &mut mpsc::Receiver<T>, mut take: impl FnMut(T)) {
    for _ in 0..BATCH {
        let Ok(next) = queue.try_recv() else { return };
        take(next);
    }
}

/// What the kernel's events bring.
#[derive(Debug, PartialEq)]
pub(super) enum Told {
    /// One of them.
    Flow(Box<FlowEvent>),
    /// So many were gone before they could be read.
    Lost(u64),
}

/// The next event. Never resolves where nobody enforces.
pub(super) async fn next_event(events: &mut Option<broadcast::Receiver<FlowEvent>>) -> Told {
    let Some(receiver) = events else { return std::future::pending().await };
    match receiver.recv().await {
        Ok(event) => Told::Flow(Box::new(event)),
        Err(RecvError::Lagged(lost)) => Told::Lost(lost),
        Err(RecvError::Closed) => {
            *events = None;
            std::future::pending().await
        }
    }
}

/// An event that is there already.
pub(super) fn waiting_event(events: &mut Option<broadcast::Receiver<FlowEvent>>) -> Option<Told> {
    match events.as_mut()?.try_recv() {
        Ok(event) => Some(Told::Flow(Box::new(event))),
        Err(TryRecvError::Lagged(lost)) => Some(Told::Lost(lost)),
        Err(TryRecvError::Empty | TryRecvError::Closed) => None,
    }
}

/// What a node's stream brings next. Never resolves where there are none.
pub(super) async fn next_news(nodes: &mut Option<mpsc::Receiver<News>>) -> News {
    if let Some(receiver) = nodes {
        if let Some(news) = receiver.recv().await {
            return news;
        }
        *nodes = None;
    }
    std::future::pending().await
}

/// The enforcer's next condition; `None` once it has ended. Never resolves where nobody enforces.
pub(super) async fn next_status(status: &mut Option<watch::Receiver<EnforcerStatus>>) -> Option<EnforcerStatus> {
    let Some(receiver) = status else { return std::future::pending().await };
    receiver.changed().await.ok()?;
    Some(receiver.borrow_and_update().clone())
}

#[cfg(test)]
mod tests {
    use signalbox_api::flow::{Decision, Protocol};

    use super::*;

    fn event(at_us: u64) -> FlowEvent {
        let address = std::net::SocketAddr::from(([10, 244, 0, 5], 40_000));
        FlowEvent {
            node: "lab".to_owned(),
            decision: Decision::Denied,
            direction: None,
            protocol: Protocol::Tcp.into(),
            source: address,
            destination: address,
            source_pod: None,
            destination_pod: None,
            rule: None,
            isolated_by: Vec::new(),
            reason: None,
            generation: 1,
            at_us,
        }
    }

    #[tokio::test]
    async fn every_event_is_read_or_counted_as_lost() {
        let (sender, receiver) = broadcast::channel(2);
        let mut events = Some(receiver);
        let send = |number| sender.send(event(number)).map(drop).expect("somebody listens");
        let flow = |number| Told::Flow(Box::new(event(number)));
        send(1);
        assert_eq!(next_event(&mut events).await, flow(1));
        // Five come while the batch is being read: three of them are gone by then.
        (2..=6).for_each(send);
        assert_eq!(waiting_event(&mut events), Some(Told::Lost(3)));
        assert_eq!(waiting_event(&mut events), Some(flow(5)));
        assert_eq!(waiting_event(&mut events), Some(flow(6)));
        assert_eq!(waiting_event(&mut events), None);
        (7..=10).for_each(send);
        assert_eq!(next_event(&mut events).await, Told::Lost(2));
    }
}
