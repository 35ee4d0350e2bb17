//! Who asks.

use std::sync::Arc;

use signalbox_api::session::Viewer;

use super::App;
use super::answer::Refusal;
use crate::access::audit::User;
use crate::access::keeper::Credentials;
use crate::access::person::Person;
use crate::access::proxy::Peer;
use crate::access::view::{Scope, View};

/// Who asks: found out once for each request, before any handler runs.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who they are.
    pub who: Who,
    /// What they may see.
    pub view: Arc<View>,
    /// They may change something, as far as is known before they try.
    pub writable: bool,
    /// Where the request comes from.
    pub peer: Peer,
    /// Names the request in logs.
    pub request_id: String,
}

/// Who somebody is.
#[derive(Clone, Debug)]
pub enum Who {
    /// Users are not told apart.
    Anyone,
    /// A user of Kubernetes.
    User(Arc<Person>, Credentials),
}

impl Caller {
    /// As they are told themselves.
    pub fn viewer(&self) -> Option<Viewer> {
        match &self.who {
            Who::Anyone => None,
            Who::User(person, _) => Some(Viewer {
                name: person.name.clone(),
                via: person.via,
                all_namespaces: self.view.namespaces == Scope::All,
                expires_ms: person.expires_ms,
            }),
        }
    }

    /// As the audit log has them.
    pub fn user(&self) -> User {
        let address = self.peer.address.ip().to_canonical().to_string();
        match &self.who {
            Who::Anyone => User { name: None, groups: Vec::new(), via: None, address },
            Who::User(person, _) => {
                User { name: Some(person.name.clone()), groups: person.groups.clone(), via: Some(person.via), address }
            }
        }
    }

    /// Looks again: whether they are still who they were, and what they may see now.
    ///
    /// # Errors
    /// Where they are no longer let in, or nobody can tell.
    pub async fn again(&self, app: &App) -> Result<Self, Refusal> {
        let (Some(keeper), Who::User(person, credentials)) = (&app.keeper, &self.who) else { return Ok(self.clone()) };
        let person = keeper.again(person, credentials).await?;
        let view = keeper.view(&person, &app.namespaces()).await?;
        Ok(Self { who: Who::User(person, credentials.clone()), view, ..self.clone() })
    }
}
