//! A probe agent at the other end of a stream: its lines, relayed.

use std::time::Duration;

use signalbox_api::probe::{Request, Response};
use tokio::sync::mpsc;

use super::registry::{Remote, Told};

/// Requests in one frame: however long their names are, they fit.
const MOST_REQUESTS: usize = 1_000;

/// Relays until the agent, its stream, or whoever asks has ended. Gives back why. `heard` takes each line; `false`: nobody listens.
pub async fn run(
    mut remote: Remote,
    requests: &mut mpsc::Receiver<Vec<Request>>,
    hello_wait: Duration,
    mut heard: impl AsyncFnMut(Response) -> bool,
) -> String {
    // What was asked of an agent before this one is void.
    while requests.try_recv().is_ok() {}
    let mut hello = false;
    let deadline = tokio::time::sleep(hello_wait);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            told = remote.told.recv() => match told {
                Some(Told::Lines(lines)) => {
                    for line in lines {
                        hello |= matches!(line, Response::Hello { .. });
                        if !heard(line).await {
                            return "the server ends".to_owned();
                        }
                    }
                }
                Some(Told::Ended(why)) => return why,
                None => return "its stream ended".to_owned(),
            },
            batch = requests.recv() => {
                let Some(batch) = batch else { return "the server ends".to_owned() };
                for lines in batch.chunks(MOST_REQUESTS) {
                    if let Err(why) = remote.send(lines.to_vec()).await {
                        return why;
                    }
                }
            }
            () = &mut deadline, if !hello => return "it did not say hello".to_owned(),
        }
    }
}
