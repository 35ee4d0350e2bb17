//! What the Kubernetes API says of tokens and wishes.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use signalbox_api::session::Via;
use tokio::sync::Semaphore;

use super::person::{Person, Wish};
use crate::kube_error::sentence;

/// Reviews of tokens, and of rights, that are under way at a time: a flood of wrong tokens is not passed on, and holds up nobody
/// who is known.
const AT_A_TIME: usize = 16;
/// How long one is waited for, its turn included.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the Kubernetes API, with the server's own rights.
pub struct Reviews {
    client: kube::Client,
    tokens: Semaphore,
    rights: Semaphore,
}

/// Why there is no answer. One sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReview {
    /// It did not come.
    #[error("the Kubernetes API did not answer: {0}")]
    Away(String),
    /// The server may not ask.
    #[error(
        "the server may not ask who its users are and what they may do: {0}; give it the ClusterRole system:auth-delegator"
    )]
    Refused(String),
}

/// What the API says of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenVerdict {
    /// Its user. When it ends is not among what the API says.
    Good(Person),
    /// Not a token of this cluster's, or no longer.
    Bad,
}

impl Reviews {
    /// Asks through this client.
    pub fn new(client: kube::Client) -> Self {
        Self { client, tokens: Semaphore::new(AT_A_TIME), rights: Semaphore::new(AT_A_TIME) }
    }

    /// Whose token this is. Tokens for audiences other than the API server's own, such as the enforcers', are bad ones.
    ///
    /// # Errors
    /// Where the API gives no answer.
    pub async fn token(&self, token: &str) -> Result<TokenVerdict, NoReview> {
        let review = TokenReview {
            spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: None },
            ..TokenReview::default()
        };
        let status = self.create(&review, &self.tokens).await?.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true));
        let name = user.as_ref().and_then(|user| user.username.clone()).filter(|name| !name.is_empty());
        let (Some(user), Some(name)) = (user, name) else { return Ok(TokenVerdict::Bad) };
        Ok(TokenVerdict::Good(Person {
            name,
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
            via: Via::Token,
            expires_ms: None,
        }))
    }

    /// Whether someone may.
    ///
    /// # Errors
    /// Where the API gives no answer.
    pub async fn may(&self, person: &Person, wish: &Wish) -> Result<bool, NoReview> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (resource, path) = match wish {
            Wish::Resource { verb, group, resource, namespace, name } => {
                let attributes = ResourceAttributes {
                    verb: some(verb),
                    group: some(group),
                    resource: some(resource),
                    namespace: namespace.clone(),
                    name: name.clone(),
                    ..ResourceAttributes::default()
                };
                (Some(attributes), None)
            }
            Wish::Path(path) => (None, Some(NonResourceAttributes { path: some(path), verb: some("get") })),
        };
        let extra: BTreeMap<String, Vec<String>> = person.extra.clone();
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(person.name.clone()),
                uid: some(&person.uid),
                groups: Some(person.groups.clone()).filter(|groups| !groups.is_empty()),
                extra: Some(extra).filter(|extra| !extra.is_empty()),
                resource_attributes: resource,
                non_resource_attributes: path,
            },
            ..SubjectAccessReview::default()
        };
        let status = self.create(&review, &self.rights).await?.status.unwrap_or_default();
        // Where an authorizer denies, another one's word does not count.
        Ok(status.allowed && status.denied != Some(true))
    }

    async fn create<K>(&self, review: &K, turns: &Semaphore) -> Result<K, NoReview>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        let asked = async {
            let _turn = turns.acquire().await;
            Api::<K>::all(self.client.clone()).create(&PostParams::default(), review).await
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => {
                Err(NoReview::Refused(status.message.clone()))
            }
            Ok(Err(error)) => Err(NoReview::Away(sentence(&error))),
            Err(_elapsed) => Err(NoReview::Away(format!("nothing came within {} s", PATIENCE.as_secs()))),
        }
    }
}
