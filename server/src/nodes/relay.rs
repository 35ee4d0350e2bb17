//! A probe agent at the other end of a stream: its lines, relayed.

use std::time::Duration;

use futures::future::BoxFuture;
use signalbox_api::probe::{Request, Response};
use tokio::sync::mpsc;

use super::registry::{Remote, Told};
use crate::silence::Silence;

/// Requests in one frame: however long their names are, they fit.
const MOST_REQUESTS: usize = 1_000;

/// Takes a line of an agent's; `false`: nobody listens.
pub type Heard<'a> = dyn Fn(Response) -> BoxFuture<'a, bool> + Send + Sync + 'a;

/// Relays until the agent, its stream, or whoever asks has ended. Gives back why. `hello`: whether the agent has said it.
pub async fn run(
    mut remote: Remote,
    requests: &mut mpsc::Receiver<Vec<Request>>,
    hello_wait: Duration,
    heard: &Heard<'_>,
    hello: &mut bool,
) -> String {
    // What was asked of an agent before this one is void.
    while requests.try_recv().is_ok() {}
    let deadline = tokio::time::sleep(hello_wait);
    tokio::pin!(deadline);
    let silence = Silence::new();
    loop {
        tokio::select! {
            told = remote.told.recv() => match told {
                Some(Told::Lines(lines)) => {
                    for line in lines {
                        silence.heard(&line);
                        *hello |= matches!(line, Response::Hello { .. });
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
                silence.asked(&batch);
                for lines in batch.chunks(MOST_REQUESTS) {
                    if let Err(why) = remote.send(lines.to_vec()).await {
                        return why;
                    }
                }
            }
            () = &mut deadline, if !*hello => return "it did not say hello".to_owned(),
            () = silence.too_long() => return "it answers nothing any more".to_owned(),
        }
    }
}
