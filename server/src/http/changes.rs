//! What becomes of a wish to change something: judged in the user's name, written down, done, written down again.
//!
//! The server changes with its own rights, after the Kubernetes API has said that the user may (docs/adr/0011).

use std::future::Future;

use signalbox_api::cell::Outcome;
use signalbox_api::rest::PolicyChange;
use signalbox_api::session::PolicyVerb;

use super::App;
use super::answer::Refusal;
use super::caller::{Caller, Who};
use super::policies;
use crate::access::audit::{self, Entry, Object, Stage};
use crate::access::person::Wish;

/// One change.
#[derive(Clone, Debug)]
pub enum Deed {
    /// A policy is applied: created where it is not there.
    Apply(Subject),
    /// A policy is replaced: created where it is not there.
    Replace(Subject),
    /// A policy is deleted.
    Delete(Subject),
    /// A round of probes is run.
    Round,
    /// Stand-ins are deployed, kept, or removed.
    StandIns {
        /// `create`, `update`, `delete`.
        verb: &'static str,
        /// The namespace that they are in.
        namespace: String,
        /// As [`signalbox_api::rest::StandInWish::run`].
        run: String,
    },
    /// A connection is tried from inside of a real pod. It changes nothing in the cluster, and speaks in the pod's name.
    Probe {
        /// The pod's namespace.
        namespace: String,
        /// Its name.
        pod: String,
        /// Where to.
        to: String,
    },
}

/// A policy that is changed.
#[derive(Clone, Debug)]
pub struct Subject {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// Judged by the API server only. Needs the same rights, as it does there.
    pub dry_run: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// As it is answered; absent for what is no policy.
    pub change: Option<PolicyChange>,
    /// `metadata.resourceVersion` before.
    pub before: Option<String>,
    /// What a probe saw.
    pub outcome: Option<Outcome>,
}

const REVIEW: &str = "SubjectAccessReview";
const OWN_TOKEN: &str = "token";
const SWITCH: &str = "--allow-apply";
const REAL_PODS: &str = "--allow-real-pods";
const ENFORCER: &str = "enforcer";
/// The Kubernetes API refuses.
pub const API: &str = "Kubernetes API";
/// What somebody may not see, or is not as it has to be.
pub const VIEW: &str = "view";
/// There are too many already.
pub const LIMIT: &str = "limit";

/// Asks whether someone may. What they may not is in the audit log afterwards.
///
/// # Errors
/// Where they may not, or nobody can tell.
pub async fn judge(app: &App, caller: &Caller, deed: &Deed) -> Result<(), Refusal> {
    let refused = match verdict(app, caller, deed).await {
        Ok(()) => return Ok(()),
        Err(refused) => refused,
    };
    let (by, refusal) = refused;
    Err(refuse(app, caller, deed, by, refusal).await)
}

/// Writes down that something is not done, and gives back why.
pub async fn refuse(app: &App, caller: &Caller, deed: &Deed, by: &'static str, refusal: Refusal) -> Refusal {
    let reason = Some(refusal.to_string());
    // It is refused, whether or not that can be written down; what cannot is in the server's own log.
    let _logged = app.audit.write(Entry { by, reason, ..entry(caller, deed, Stage::Refused) }).await;
    refusal
}

/// Does what was judged, with a line before and after. Goes on where the asker goes away meanwhile.
///
/// # Errors
/// What the work says; and where the line before cannot be written, in which case nothing is done.
pub async fn carry_out<F>(app: &App, caller: &Caller, deed: Deed, work: F) -> Result<Option<PolicyChange>, Refusal>
where
    F: Future<Output = Result<Done, Refusal>> + Send + 'static,
{
    let (audit, caller) = (app.audit.clone(), caller.clone());
    let task = tokio::spawn(async move {
        let first = audit.write(entry(&caller, &deed, Stage::Allowed)).await;
        first.map_err(|error| Refusal::NoAudit(error.to_string()))?;
        let (entry, result) = match work.await {
            Ok(Done { change, before, outcome }) => {
                let action = change.as_ref().map(|change| change.action);
                let after = change.as_ref().and_then(|change| change.resource_version.clone());
                (Entry { action, before, after, outcome, ..entry(&caller, &deed, Stage::Done) }, Ok(change))
            }
            Err(refusal) => {
                let by = if matches!(deed, Deed::Probe { .. }) { ENFORCER } else { API };
                let reason = Some(refusal.to_string());
                (Entry { by, reason, ..entry(&caller, &deed, Stage::Failed) }, Err(refusal))
            }
        };
        // It has happened by now: where the line does not fit, it is in the server's own log, and nothing more is changed.
        let _logged = audit.write(entry).await;
        result
    });
    task.await.unwrap_or(Err(Refusal::Ending))
}

async fn verdict(app: &App, caller: &Caller, deed: &Deed) -> Result<(), (&'static str, Refusal)> {
    let is_probe = matches!(deed, Deed::Probe { .. });
    if is_probe && !app.probes.are_allowed() {
        let why = "this server tries nothing from inside of real pods unless it is started with --allow-real-pods";
        return Err((REAL_PODS, Refusal::Forbidden(why.to_owned())));
    }
    let (Some(keeper), Who::User(person, _)) = (&app.keeper, &caller.who) else { return Ok(()) };
    if !is_probe && !keeper.config().allow_apply {
        let why = "this server only shows: it takes no changes unless it is started with --allow-apply";
        return Err((SWITCH, Refusal::Forbidden(why.to_owned())));
    }
    let refused = |refusal: Refusal| (REVIEW, refusal);
    let may = async |wish: &Wish| keeper.may(person, wish).await.map_err(|why| refused(why.into()));
    let need = async |wish: Wish| {
        if may(&wish).await? {
            return Ok(());
        }
        Err(refused(Refusal::Forbidden(format!("{} may not {wish}; ask for a role that allows it", person.name))))
    };
    let change = |verb: PolicyVerb, subject: &Subject| Wish::change(verb, &subject.namespace, Some(&subject.name));
    // Kubernetes asks for "create" without a name.
    let create = |subject: &Subject| Wish::change(PolicyVerb::Create, &subject.namespace, None);
    match deed {
        Deed::Apply(subject) => {
            need(change(PolicyVerb::Patch, subject)).await?;
            if !is_there(app, subject).await.map_err(refused)? {
                need(create(subject)).await?;
            }
            Ok(())
        }
        Deed::Replace(subject) => {
            let (update, create) = (change(PolicyVerb::Update, subject), create(subject));
            // Who may do neither is not told whether the policy is there.
            if !may(&create).await? {
                need(update.clone()).await?;
            }
            need(if is_there(app, subject).await.map_err(refused)? { update } else { create }).await
        }
        Deed::Delete(subject) => need(change(PolicyVerb::Delete, subject)).await,
        Deed::Round => need(Wish::round()).await,
        // They are Jobs: who may not make one by hand makes none through the server.
        Deed::StandIns { namespace, .. } => need(Wish::make_jobs(namespace)).await,
        Deed::Probe { namespace, .. } => need(Wish::probe(namespace)).await,
    }
}

async fn is_there(app: &App, subject: &Subject) -> Result<bool, Refusal> {
    Ok(policies::policies(&app.client, &subject.namespace).get_opt(&subject.name).await?.is_some())
}

fn entry(caller: &Caller, deed: &Deed, stage: Stage) -> Entry {
    let policy = |subject: &Subject| Object {
        kind: "NetworkPolicy",
        namespace: Some(subject.namespace.clone()),
        name: Some(subject.name.clone()),
    };
    let (verb, object, dry_run) = match deed {
        Deed::Apply(subject) => ("patch", policy(subject), subject.dry_run),
        Deed::Replace(subject) => ("update", policy(subject), subject.dry_run),
        Deed::Delete(subject) => ("delete", policy(subject), subject.dry_run),
        Deed::Round => ("create", Object { kind: "Round", namespace: None, name: None }, false),
        Deed::StandIns { verb, namespace, run } => {
            (*verb, Object { kind: "StandIns", namespace: Some(namespace.clone()), name: Some(run.clone()) }, false)
        }
        Deed::Probe { namespace, pod, .. } => {
            ("create", Object { kind: "Probe", namespace: Some(namespace.clone()), name: Some(pod.clone()) }, false)
        }
    };
    let to = match deed {
        Deed::Probe { to, .. } => Some(to.clone()),
        Deed::Apply(_) | Deed::Replace(_) | Deed::Delete(_) | Deed::Round | Deed::StandIns { .. } => None,
    };
    let by = match caller.who {
        Who::Anyone => OWN_TOKEN,
        Who::User(..) => REVIEW,
    };
    Entry {
        time: audit::now(),
        request_id: caller.request_id.clone(),
        stage,
        user: caller.user(),
        verb,
        object,
        to,
        dry_run,
        by,
        outcome: None,
        action: None,
        before: None,
        after: None,
        reason: None,
    }
}
