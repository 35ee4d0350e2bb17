//! What a controller's pure core asks for, and how it is carried out.

use std::fmt;

use futures::StreamExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::Serialize;
use tracing::{debug, warn};

use super::store::{Key, Object, Store, key_of};

/// Writes that one controller has under way at once.
const CONCURRENT_WRITES: usize = 16;

/// One write to a namespaced kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command<K> {
    /// Create it.
    Create(Box<K>),
    /// Replace it; the resource version that it carries must still be the current one.
    Replace(Box<K>),
    /// Replace its status, under the same condition.
    ReplaceStatus(Box<K>),
    /// Merge this into it.
    Patch(Key, serde_json::Value),
    /// Merge this into its status.
    PatchStatus(Key, serde_json::Value),
    /// Delete the object of this uid, and no successor of the same name.
    Delete(Key, String),
}

impl<K: Resource> fmt::Display for Command<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, key) = match self {
            Self::Create(object) => ("create", key_of(object.as_ref())),
            Self::Replace(object) => ("replace", key_of(object.as_ref())),
            Self::ReplaceStatus(object) => ("write the status of", key_of(object.as_ref())),
            Self::Patch(key, _) => ("patch", key.clone()),
            Self::PatchStatus(key, _) => ("patch the status of", key.clone()),
            Self::Delete(key, _) => ("delete", key.clone()),
        };
        write!(f, "{verb} {}/{}", key.0, key.1)
    }
}

/// What the API server answers to whoever makes something new in a namespace that is being deleted.
fn in_ending_namespace(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

impl<K> Store<K>
where
    K: Object + Serialize + Resource<Scope = NamespaceResourceScope>,
{
    /// Carries commands out, several at once, and takes the answers in. Returns how many failed.
    pub(crate) async fn carry_out(&self, client: &Client, commands: Vec<Command<K>>) -> usize {
        self.carry_out_and_tell(client, commands.into_iter().map(|command| ((), command)).collect(), |(), _, _| {})
            .await
    }

    /// The same for commands on behalf of someone, who is told of each success: the command, and the object that the
    /// server answered with, where the command leaves one.
    pub(crate) async fn carry_out_and_tell<T: Sync + Send>(
        &self,
        client: &Client,
        commands: Vec<(T, Command<K>)>,
        tell: impl Fn(&T, &Command<K>, Option<&K>) + Sync,
    ) -> usize {
        let tell = &tell;
        futures::stream::iter(commands)
            .map(|(on_behalf_of, command)| async move {
                let error = match self.carry_out_one(client, &command).await {
                    Ok(answer) => {
                        tell(&on_behalf_of, &command, answer.as_ref());
                        if let Some(answer) = answer {
                            self.wrote(answer);
                        }
                        return 0;
                    }
                    Err(error) => error,
                };
                match error {
                    // Our view was old: the watch brings the news, and the next pass decides on it.
                    kube::Error::Api(status) if matches!(status.code, 404 | 409) => {
                        debug!(kind = %K::kind(&()), %command, message = status.message, "stale");
                    }
                    // Its namespace is being deleted, and the object that this write is for with it.
                    kube::Error::Api(status) if in_ending_namespace(&status) => {
                        debug!(kind = %K::kind(&()), %command, "too late");
                    }
                    other => warn!(kind = %K::kind(&()), %command, error = %other, "refused"),
                }
                1
            })
            .buffer_unordered(CONCURRENT_WRITES)
            .fold(0, |sum, failed| async move { sum + failed })
            .await
    }

    async fn carry_out_one(&self, client: &Client, command: &Command<K>) -> Result<Option<K>, kube::Error> {
        let api = |namespace: &str| Api::<K>::namespaced(client.clone(), namespace);
        let post = PostParams::default();
        let answer = match command {
            Command::Create(object) => api(&key_of(object.as_ref()).0).create(&post, object).await?,
            Command::Replace(object) => {
                let (namespace, name) = key_of(object.as_ref());
                api(&namespace).replace(&name, &post, object).await?
            }
            Command::ReplaceStatus(object) => {
                let (namespace, name) = key_of(object.as_ref());
                api(&namespace).replace_status(&name, &post, object).await?
            }
            Command::Patch((namespace, name), patch) => {
                api(namespace).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?
            }
            Command::PatchStatus((namespace, name), patch) => {
                api(namespace).patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?
            }
            Command::Delete(key, uid) => {
                let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
                let params = DeleteParams { preconditions: Some(only), ..DeleteParams::background() };
                match api(&key.0).delete(&key.1, &params).await?.left() {
                    // It ends gracefully: the node removes it for good.
                    Some(terminating) if terminating.meta().deletion_timestamp.is_some() => terminating,
                    Some(_) | None => {
                        self.deleted(key, uid);
                        return Ok(None);
                    }
                }
            }
        };
        Ok(Some(answer))
    }
}
