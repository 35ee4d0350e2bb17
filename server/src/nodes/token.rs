//! Whose a token is: asked of the API server (`TokenReview`), and remembered for a moment.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::Api;
use kube::api::PostParams;
use sha2::{Digest, Sha256};
use signalbox_api::stream::AUDIENCE;
use tokio::sync::Semaphore;

use crate::kube_error::sentence;

/// How long an answer is good for.
const KEPT: Duration = Duration::from_secs(30);
/// The same where it was "nobody's": a token may become good, as when the API server learns of a new key.
const KEPT_REFUSALS: Duration = Duration::from_secs(5);
/// Answers that are kept at most.
const MOST: usize = 4_096;
/// Reviews at a time: whoever sends made-up tokens must not keep the API server busy.
const AT_ONCE: usize = 8;
/// No token is longer, in bytes.
const LONGEST: usize = 16 * 1024;
/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody whose token is good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// `system:serviceaccount:NAMESPACE:NAME`, or a person's name.
    pub user: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// Its number.
    pub uid: String,
    /// What else the token says.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Why a token opens nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is nobody's, or for somebody else.
    #[error("the token is not good: {0}")]
    NotGood(String),
    /// Nobody can be asked.
    #[error("the token cannot be reviewed now: {0}")]
    Unavailable(String),
}

/// Asks, and remembers.
pub struct Reviewer {
    client: kube::Client,
    known: Mutex<HashMap<[u8; 32], Known>>,
    slots: Semaphore,
}

struct Known {
    until: Instant,
    answer: Result<Caller, Refused>,
}

impl Reviewer {
    /// Nothing is known yet.
    pub fn new(client: kube::Client) -> Self {
        Self { client, known: Mutex::default(), slots: Semaphore::new(AT_ONCE) }
    }

    /// The cluster.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// Whose it is.
    ///
    /// # Errors
    /// Where it is nobody's, for somebody else, or nobody can be asked.
    pub async fn review(&self, token: &str) -> Result<Caller, Refused> {
        if token.is_empty() || token.len() > LONGEST {
            return Err(Refused::NotGood("it is empty, or too long for one".to_owned()));
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(answer) = self.remembered(&digest) {
            return answer;
        }
        let answer = match tokio::time::timeout(PATIENCE, self.ask(token)).await {
            Ok(answer) => answer,
            Err(_) => Err(Refused::Unavailable("the API server takes too long".to_owned())),
        };
        let kept = match &answer {
            Ok(_) => KEPT,
            Err(Refused::NotGood(_)) => KEPT_REFUSALS,
            Err(Refused::Unavailable(_)) => return answer,
        };
        self.remember(digest, Known { until: Instant::now() + kept, answer: answer.clone() });
        answer
    }

    async fn ask(&self, token: &str) -> Result<Caller, Refused> {
        let _slot = self.slots.acquire().await.map_err(|_closed| Refused::Unavailable("the server ends".to_owned()))?;
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![AUDIENCE.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = reviews.create(&PostParams::default(), &review).await;
        let status = answer.map_err(|error| Refused::Unavailable(sentence(&error)))?.status.unwrap_or_default();
        if status.authenticated != Some(true) {
            let why = status.error.filter(|why| !why.is_empty());
            return Err(Refused::NotGood(why.unwrap_or_else(|| "the API server does not know it".to_owned())));
        }
        // An API server that knows of no audiences answers without: then the token is for the API, and for nobody here.
        if !status.audiences.unwrap_or_default().iter().any(|audience| audience == AUDIENCE) {
            return Err(Refused::NotGood(format!("it is not for the audience {AUDIENCE}")));
        }
        let user = status.user.unwrap_or_default();
        let username = user.username.filter(|name| !name.is_empty());
        Ok(Caller {
            user: username.ok_or_else(|| Refused::NotGood("it has no user".to_owned()))?,
            groups: user.groups.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        })
    }

    fn remembered(&self, digest: &[u8; 32]) -> Option<Result<Caller, Refused>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(digest).filter(|known| known.until > Instant::now()).map(|known| known.answer.clone())
    }

    fn remember(&self, digest: [u8; 32], answer: Known) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            let now = Instant::now();
            known.retain(|_, known| known.until > now && known.answer.is_ok());
        }
        if known.len() < MOST {
            known.insert(digest, answer);
        }
    }
}
