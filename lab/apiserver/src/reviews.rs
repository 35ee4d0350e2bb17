//! Who a token is (`TokenReview`) and what somebody may do (`SubjectAccessReview`).
//!
//! The lab itself has one token, whose owner may do everything, and that is what the API answers. A test that needs people
//! or ServiceAccounts besides tells so by [`Identities`]; their tokens are reviewed, and open nothing here: every request but a
//! review is still the owner's alone.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value, json};

use crate::status::Status;

/// The user behind the lab's own token, and the group that may do everything.
const OWNER: (&str, &str) = ("signalbox", "system:masters");
/// Whom tokens are for that name nobody.
const OWN_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

const TOKENS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const RIGHTS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// Whether a path is that of a review.
pub(crate) fn is_review(path: &str) -> bool {
    path == TOKENS || path == RIGHTS
}

/// Somebody with a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `status.user.username`: `system:serviceaccount:NAMESPACE:NAME`, or a person's.
    pub user: String,
    /// `status.user.uid`.
    pub uid: String,
    /// `status.user.groups`.
    pub groups: Vec<String>,
    /// `status.user.extra`: what a token is bound to, for example.
    pub extra: BTreeMap<String, Vec<String>>,
    /// Whom the token is for. Empty: for the API.
    pub audiences: Vec<String>,
}

/// Something that a user may do. `*` stands for anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Right {
    /// `get`, `list`, `create`, ...
    pub verb: String,
    /// The API group; empty: the core group.
    pub group: String,
    /// The plural, and the subresource after a slash: `pods/log`.
    pub resource: String,
    /// Where; `None`: everywhere.
    pub namespace: Option<String>,
}

/// Whom the reviews know. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    known: Arc<RwLock<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    owner: String,
    tokens: BTreeMap<String, Identity>,
    rights: BTreeMap<String, Vec<Right>>,
}

impl Identities {
    pub(crate) fn new(owner: &str) -> Self {
        Self { known: Arc::new(RwLock::new(Known { owner: owner.to_owned(), ..Known::default() })) }
    }

    /// From now on this token is theirs.
    pub fn admit(&self, token: &str, identity: Identity) {
        self.write().tokens.insert(token.to_owned(), identity);
    }

    /// The token is nobody's any more.
    pub fn dismiss(&self, token: &str) {
        self.write().tokens.remove(token);
    }

    /// The user may do this, too.
    pub fn allow(&self, user: &str, right: Right) {
        self.write().rights.entry(user.to_owned()).or_default().push(right);
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the review that `path` names.
    pub(crate) fn answer(&self, path: &str, review: Value) -> Result<Value, Status> {
        match path {
            TOKENS => self.token_review(review),
            RIGHTS => self.access_review(review),
            _ => Err(Status::no_such_path()),
        }
    }

    fn token_review(&self, mut review: Value) -> Result<Value, Status> {
        let token = review["spec"]["token"].as_str().filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| Status::bad_request("TokenReview: spec.token: Required value"))?.to_owned();
        let wanted: Vec<String> = strings(&review["spec"]["audiences"]);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let identity = if token == known.owner {
            let (user, group) = OWNER;
            Some(Identity { user: user.to_owned(), groups: vec![group.to_owned()], ..Identity::default() })
        } else {
            known.tokens.get(&token).cloned()
        };
        review["status"] = identity.map_or_else(
            || json!({"user": {}, "error": "[invalid bearer token, unknown]"}),
            |identity| authenticated(identity, wanted),
        );
        Ok(review)
    }

    fn access_review(&self, mut review: Value) -> Result<Value, Status> {
        let spec = &review["spec"];
        let user = spec["user"].as_str().unwrap_or_default();
        let groups = strings(&spec["groups"]);
        if user.is_empty() && groups.is_empty() {
            return Err(Status::bad_request("SubjectAccessReview: spec.user: Required value: or spec.groups"));
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_allowed = groups.iter().any(|group| group == OWNER.1)
            || known.rights.get(user).is_some_and(|rights| rights.iter().any(|right| right.covers(spec)));
        review["status"] = if is_allowed {
            json!({"allowed": true, "reason": "the lab was told so"})
        } else {
            json!({"allowed": false})
        };
        Ok(review)
    }
}

/// What a TokenReview says of somebody who is known.
fn authenticated(identity: Identity, wanted: Vec<String>) -> Value {
    let own = if identity.audiences.is_empty() { vec![OWN_AUDIENCE.to_owned()] } else { identity.audiences };
    // Without a word on audiences the token has to be for the API.
    let wanted = if wanted.is_empty() { vec![OWN_AUDIENCE.to_owned()] } else { wanted };
    let audiences: Vec<String> = wanted.into_iter().filter(|audience| own.contains(audience)).collect();
    if audiences.is_empty() {
        let error = format!("token audiences {own:?} is invalid for the target audiences");
        return json!({"user": {}, "error": error});
    }
    json!({
        "authenticated": true,
        "user": {"username": identity.user, "uid": identity.uid, "groups": identity.groups, "extra": identity.extra},
        "audiences": audiences,
    })
}

impl Right {
    fn covers(&self, spec: &Value) -> bool {
        let wanted = &spec["resourceAttributes"];
        let text = |field: &str| wanted[field].as_str().unwrap_or_default();
        let resource = match text("subresource") {
            "" => text("resource").to_owned(),
            part => format!("{}/{part}", text("resource")),
        };
        let is = |ours: &str, theirs: &str| ours == "*" || ours == theirs;
        wanted.is_object()
            && is(&self.verb, text("verb"))
            && is(&self.group, text("group"))
            && is(&self.resource, &resource)
            && self.namespace.as_ref().is_none_or(|namespace| namespace == text("namespace"))
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities() -> Identities {
        let identities = Identities::new("owner");
        identities.admit(
            "t",
            Identity { user: "eve".to_owned(), audiences: vec!["signalbox".to_owned()], ..Identity::default() },
        );
        let right = |verb: &str, resource: &str, namespace: Option<&str>| Right {
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.map(str::to_owned),
            ..Right::default()
        };
        identities.allow("eve", right("list", "pods", Some("a")));
        identities.allow("eve", right("create", "pods/exec", None));
        identities
    }

    #[test]
    fn a_token_is_somebodys_for_an_audience() {
        let cases: [(&str, &[&str], Option<&str>); 6] = [
            ("owner", &[], Some("signalbox")),
            ("owner", &["signalbox"], None),
            ("t", &["signalbox"], Some("eve")),
            ("t", &["other", "signalbox"], Some("eve")),
            ("t", &[], None),
            ("unknown", &["signalbox"], None),
        ];
        for (token, audiences, expected) in cases {
            let review = json!({"spec": {"token": token, "audiences": audiences}});
            let answer = identities().token_review(review).expect("an answer");
            let user = answer["status"]["user"]["username"].as_str();
            assert_eq!(user, expected, "{token} {audiences:?}");
            assert_eq!(answer["status"]["authenticated"].as_bool().unwrap_or(false), expected.is_some());
        }
        identities().token_review(json!({"spec": {}})).expect_err("no token");
    }

    #[test]
    fn rights_are_of_a_user_a_verb_a_resource_and_a_namespace() {
        let cases = [
            ("eve", "list", "pods", "", "a", true),
            ("eve", "list", "pods", "", "b", false),
            ("eve", "list", "pods", "", "", false),
            ("eve", "watch", "pods", "", "a", false),
            ("eve", "create", "pods", "exec", "b", true),
            ("eve", "create", "pods", "", "b", false),
            ("bob", "list", "pods", "", "a", false),
        ];
        for (user, verb, resource, subresource, namespace, expected) in cases {
            let attributes =
                json!({"verb": verb, "resource": resource, "subresource": subresource, "namespace": namespace});
            let review = json!({"spec": {"user": user, "resourceAttributes": attributes}});
            let answer = identities().access_review(review).expect("an answer");
            assert_eq!(answer["status"]["allowed"], expected, "{user} {verb} {resource}/{subresource} {namespace}");
        }
        let owner = json!({"spec": {"user": "x", "groups": ["system:masters"], "resourceAttributes": {"verb": "get"}}});
        assert_eq!(identities().access_review(owner).expect("an answer")["status"]["allowed"], true);
    }
}
