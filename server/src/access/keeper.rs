//! Who asks, what they see, and what they may do: as the page's API asks for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{self, StreamExt, TryStreamExt};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use signalbox_api::session::{PolicyVerb, Rights};

use super::Kubernetes;
use super::person::{Person, PersonKey, Wish};
use super::proxy::{self, Peer, Trust};
use super::reviews::{NoReview, Reviews};
use super::sight::Sight;
use super::tokens::{BadToken, Tokens};
use super::view::View;
use crate::error::Error;

/// Questions for one list of rights that are under way at a time.
const AT_A_TIME: usize = 8;

/// Keeps the door with [`super::Access::Kubernetes`].
pub struct Keeper {
    config: Kubernetes,
    reviews: Reviews,
    tokens: Tokens,
    sight: Sight,
    trust: Option<Trust>,
    followers: Mutex<HashMap<PersonKey, usize>>,
}

/// How somebody showed who they are: kept for as long as their event stream is open, to look again.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A bearer token.
    Token(Secret),
    /// The word of the proxy.
    Proxy,
}

/// A text that no log shows.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Why somebody is not let in.
#[derive(Debug, thiserror::Error)]
pub enum NotLetIn {
    /// No token, a bad one, one that has expired.
    #[error("{0}")]
    NoToken(String),
    /// Not to be believed, whatever the token.
    #[error("{0}")]
    Refused(String),
    /// Nobody can tell.
    #[error(transparent)]
    Unjudged(#[from] NoReview),
}

impl From<BadToken> for NotLetIn {
    fn from(bad: BadToken) -> Self {
        match bad {
            BadToken::Unjudged(why) => Self::Unjudged(why),
            BadToken::Expired | BadToken::Unknown => Self::NoToken(bad.to_string()),
        }
    }
}

impl Keeper {
    /// Asks through this client.
    ///
    /// # Errors
    /// Where the proxy's files cannot be read.
    pub fn new(config: Kubernetes, client: kube::Client) -> Result<Self, Error> {
        let trust = config.proxy.as_ref().map(Trust::new).transpose()?;
        Ok(Self {
            reviews: Reviews::new(client),
            tokens: Tokens::new(config.tokens_kept, config.away_kept),
            sight: Sight::new(config.rights_kept, config.away_kept),
            trust,
            followers: Mutex::default(),
            config,
        })
    }

    /// What it was told.
    pub fn config(&self) -> &Kubernetes {
        &self.config
    }

    /// The proxy that it believes.
    pub fn trust(&self) -> Option<&Trust> {
        self.trust.as_ref()
    }

    /// Who sends a request; `None` where nobody says.
    ///
    /// # Errors
    /// Where they are not whom they say, or nobody can tell.
    pub async fn who(&self, peer: &Peer, headers: &HeaderMap) -> Result<Option<(Arc<Person>, Credentials)>, NotLetIn> {
        let token = bearer(headers).map_err(|why| NotLetIn::Refused(why.to_owned()))?;
        if proxy::claims(headers) {
            let Some(trust) = &self.trust else {
                let why = "the request names a user as a proxy does, and this server believes no proxy";
                return Err(NotLetIn::Refused(why.to_owned()));
            };
            if token.is_some() {
                let why = "the request names a user twice, by a token and as a proxy does";
                return Err(NotLetIn::Refused(why.to_owned()));
            }
            let person = trust.person(peer, headers).map_err(|why| NotLetIn::Refused(why.to_owned()))?;
            return Ok(Some((Arc::new(person), Credentials::Proxy)));
        }
        let Some(token) = token else { return Ok(None) };
        let person = self.tokens.owner(token, &self.reviews).await?;
        Ok(Some((person, Credentials::Token(Secret(token.into())))))
    }

    /// Looks again whether somebody is still who they were.
    ///
    /// # Errors
    /// Where they are not, or nobody can tell.
    pub async fn again(&self, person: &Arc<Person>, credentials: &Credentials) -> Result<Arc<Person>, NotLetIn> {
        match credentials {
            Credentials::Proxy => Ok(person.clone()),
            Credentials::Token(token) => Ok(self.tokens.owner(&token.0, &self.reviews).await?),
        }
    }

    /// What somebody may see of a cluster with these namespaces.
    ///
    /// # Errors
    /// Where nobody can tell.
    pub async fn view(&self, person: &Person, namespaces: &BTreeSet<String>) -> Result<Arc<View>, NoReview> {
        self.sight.view(person, namespaces, &self.reviews).await
    }

    /// Whether somebody may, now: nothing of it is remembered.
    ///
    /// # Errors
    /// Where nobody can tell.
    pub async fn may(&self, person: &Person, wish: &Wish) -> Result<bool, NoReview> {
        self.reviews.may(person, wish).await
    }

    /// What somebody may change in these namespaces.
    ///
    /// # Errors
    /// Where nobody can tell.
    pub async fn rights(&self, person: &Person, namespaces: &[String]) -> Result<Rights, NoReview> {
        if !self.config.allow_apply {
            return Ok(Rights::default());
        }
        let rounds = self.may(person, &Wish::round()).await?;
        let mut policies: BTreeMap<String, BTreeSet<PolicyVerb>> =
            namespaces.iter().map(|namespace| (namespace.clone(), BTreeSet::new())).collect();
        for verb in PolicyVerb::ALL {
            let everywhere = Wish::Resource {
                verb: verb.as_str(),
                group: "networking.k8s.io",
                resource: "networkpolicies",
                namespace: None,
                name: None,
            };
            let held: Vec<String> = if self.may(person, &everywhere).await? {
                namespaces.to_vec()
            } else {
                let asked = namespaces.iter().cloned().map(|namespace| async move {
                    let may = self.may(person, &Wish::change(verb, &namespace, None)).await?;
                    Ok::<_, NoReview>(may.then_some(namespace))
                });
                let found: Vec<Option<String>> = stream::iter(asked).buffer_unordered(AT_A_TIME).try_collect().await?;
                found.into_iter().flatten().collect()
            };
            for namespace in held {
                policies.entry(namespace).or_default().insert(verb);
            }
        }
        Ok(Rights { changes: true, rounds, policies, ..Rights::default() })
    }

    /// In which of these namespaces somebody may have probes started inside of pods.
    ///
    /// # Errors
    /// Where nobody can tell.
    pub async fn probes_in_pods(&self, person: &Person, namespaces: &[String]) -> Result<BTreeSet<String>, NoReview> {
        let everywhere =
            Wish::Resource { verb: "create", group: "signalbox.dev", resource: "probes", namespace: None, name: None };
        if self.may(person, &everywhere).await? {
            return Ok(namespaces.iter().cloned().collect());
        }
        let asked = namespaces.iter().cloned().map(|namespace| async move {
            let may = self.may(person, &Wish::probe(&namespace)).await?;
            Ok::<_, NoReview>(may.then_some(namespace))
        });
        let found: Vec<Option<String>> = stream::iter(asked).buffer_unordered(AT_A_TIME).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Takes one of a user's places for an event stream; `None` where all are taken.
    pub fn place(self: &Arc<Self>, person: &Person) -> Option<FollowersPlace> {
        let key = person.key();
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = followers.entry(key).or_default();
        if *taken >= self.config.followers_each {
            return None;
        }
        *taken += 1;
        drop(followers);
        Some(FollowersPlace { keeper: self.clone(), key })
    }
}

/// A user's place for an event stream, free again when it is dropped.
pub struct FollowersPlace {
    keeper: Arc<Keeper>,
    key: PersonKey,
}

impl Drop for FollowersPlace {
    fn drop(&mut self) {
        let mut followers = self.keeper.followers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = followers.get_mut(&self.key) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                followers.remove(&self.key);
            }
        }
    }
}

/// The bearer token of a request.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    const ONE: &str = "the Authorization header has to be one bearer token";
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key(AUTHORIZATION) { Err(ONE) } else { Ok(None) };
    };
    let (scheme, token) = value.to_str().map_err(|_| ONE)?.split_once(' ').ok_or(ONE)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim())) } else { Err(ONE) }
}
