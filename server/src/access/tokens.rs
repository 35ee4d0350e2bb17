//! Bearer tokens: reviewed, and remembered for a short while by a keyed hash. No token is kept here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::person::Person;
use super::reviews::{NoReview, Reviews, TokenVerdict};

/// Tokens that are remembered at a time, good and bad ones.
const REMEMBERED: usize = 4_096;
/// The longest token that is looked at, in bytes.
const LONGEST: usize = 16 * 1024;

/// Who tokens belong to.
pub struct Tokens {
    key: [u8; 32],
    kept: Duration,
    away_kept: Duration,
    known: Mutex<HashMap<[u8; 32], Known>>,
}

struct Known {
    verdict: Option<Arc<Person>>,
    at: Instant,
}

/// Why a token opens nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It says itself that it has ended.
    #[error("the token has expired; log in with a new one, such as `kubectl create token` prints")]
    Expired,
    /// The API does not know it.
    #[error("the Kubernetes API does not accept the token; log in with one such as `kubectl create token` prints")]
    Unknown,
    /// Nobody can tell.
    #[error("{0}")]
    Unjudged(#[from] NoReview),
}

impl Tokens {
    /// Remembers verdicts for `kept`; where the API is away, good ones for `away_kept`.
    pub fn new(kept: Duration, away_kept: Duration) -> Self {
        Self { key: rand::random(), kept, away_kept, known: Mutex::default() }
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// Where it is nobody's, has expired, or the API gives no answer.
    pub async fn owner(&self, token: &str, reviews: &Reviews) -> Result<Arc<Person>, BadToken> {
        if token.is_empty() || token.len() > LONGEST {
            return Err(BadToken::Unknown);
        }
        let expires_ms = expiry(token);
        let is_over = expires_ms.is_some_and(|end| end <= now_ms());
        let hash = self.hash(token);
        if let Some(verdict) = self.recall(&hash, self.kept) {
            return verdict.filter(|_| !is_over).ok_or_else(|| bad(is_over));
        }
        match reviews.token(token).await {
            Ok(TokenVerdict::Good(person)) if !is_over => {
                let person = Arc::new(Person { expires_ms, ..person });
                self.remember(hash, Some(person.clone()));
                Ok(person)
            }
            Ok(TokenVerdict::Good(_) | TokenVerdict::Bad) => {
                self.remember(hash, None);
                Err(bad(is_over))
            }
            // Who was known a moment ago goes on reading while the API is away: it changes nothing.
            Err(NoReview::Away(why)) => match self.recall(&hash, self.away_kept).flatten() {
                Some(person) if !is_over => Ok(person),
                Some(_) | None => Err(NoReview::Away(why).into()),
            },
            Err(refused @ NoReview::Refused(_)) => Err(refused.into()),
        }
    }

    fn hash(&self, token: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.key).chain_update(token).finalize().into()
    }

    fn recall(&self, hash: &[u8; 32], kept: Duration) -> Option<Option<Arc<Person>>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(hash).filter(|known| known.at.elapsed() < kept).map(|known| known.verdict.clone())
    }

    fn remember(&self, hash: [u8; 32], verdict: Option<Arc<Person>>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED && !known.contains_key(&hash) {
            // Bad ones first: whoever invents tokens drives nobody out.
            known.retain(|_, known| known.verdict.is_some() && known.at.elapsed() < self.kept);
            if known.len() >= REMEMBERED {
                known.clear();
            }
        }
        known.insert(hash, Known { verdict, at: Instant::now() });
    }
}

const fn bad(is_over: bool) -> BadToken {
    if is_over { BadToken::Expired } else { BadToken::Unknown }
}

/// When a JSON Web Token says that it ends, in Unix milliseconds. Nothing of it is believed but that it ends.
fn expiry(token: &str) -> Option<u64> {
    let payload = token.split('.').nth(1)?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Value = serde_json::from_slice(&bytes).ok()?;
    let seconds = claims.get("exp")?;
    let seconds = seconds.as_u64().or_else(|| seconds.as_f64().map(|seconds| seconds as u64))?;
    seconds.checked_mul(1_000)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_tokens_end() {
        let token = |claims: &str| {
            let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
            format!("{}.{}.x", engine.encode("{}"), engine.encode(claims))
        };
        for (token, end) in [
            (token(r#"{"exp": 17}"#), Some(17_000)),
            (token(r#"{"exp": 17.9}"#), Some(17_000)),
            (token(r#"{"exp": "17"}"#), None),
            (token(r#"{"exp": 18446744073709551615}"#), None),
            (token("{}"), None),
            ("abc".to_owned(), None),
            ("a.!.c".to_owned(), None),
        ] {
            assert_eq!(expiry(&token), end, "{token}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_bad_ones_go_first() {
        let tokens = Tokens::new(Duration::from_secs(60), Duration::from_secs(60));
        let person = Arc::new(Person {
            name: "ann".to_owned(),
            uid: String::new(),
            groups: Vec::new(),
            extra: Default::default(),
            via: signalbox_api::session::Via::Token,
            expires_ms: None,
        });
        let good = tokens.hash("good");
        tokens.remember(good, Some(person));
        for number in 0..REMEMBERED + 10 {
            tokens.remember(tokens.hash(&number.to_string()), None);
        }
        assert!(tokens.known.lock().expect("nobody panicked").len() <= REMEMBERED);
        assert!(tokens.recall(&good, Duration::from_secs(60)).is_some_and(|verdict| verdict.is_some()));
        assert!(tokens.recall(&good, Duration::ZERO).is_none());
    }
}
