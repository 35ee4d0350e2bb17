//! What every request has to pass, and what browsers are told to forbid (docs/security.md, docs/adr/0004).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderName, HeaderValue,
    ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Method, Uri};

use super::App;
use super::answer::{self, Refusal};
use super::caller::{Caller, Who};
use crate::access::person::Wish;
use crate::access::proxy::{self, Peer};
use crate::access::view::View;

/// The page runs its own scripts and WASM, talks to its own server, and is shown in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// In the answer, the name that the request has in logs.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Checks requests.
pub struct Gate {
    token: String,
    listen: SocketAddr,
    hosts: Vec<String>,
}

impl Gate {
    /// For a server that listens on `listen`, and is asked for under `hosts` as well.
    pub fn new(token: String, listen: SocketAddr, hosts: Vec<String>) -> Self {
        Self { token, listen, hosts }
    }

    /// Whether the request comes to a name of ours and from a page of ours.
    ///
    /// # Errors
    /// Says which of the two does not hold.
    pub fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().unwrap_or_default(),
            // HTTP/2 has the name in the URI instead.
            (None, _) => uri.authority().map(http::uri::Authority::as_str).unwrap_or_default(),
            (Some(_), Some(_)) => "",
        };
        if !self.is_own(host) {
            return Err(forbidden(
                "the request is for another host; use an address of this server's, such as the link of its ready line has",
            ));
        }
        let own = |origin: &HeaderValue| {
            let origin = origin.to_str().unwrap_or_default();
            origin.strip_prefix("http://").or(origin.strip_prefix("https://")) == Some(host)
        };
        if !headers.get_all(ORIGIN).iter().all(own) {
            return Err(forbidden("the request comes from another page"));
        }
        // Browsers say so even where they send no Origin: scripts and images of another page.
        let site = headers.get(SEC_FETCH_SITE).and_then(|site| site.to_str().ok()).unwrap_or("none");
        let navigates = headers.get(SEC_FETCH_MODE).is_some_and(|mode| mode == "navigate");
        let opens_page = method == Method::GET && navigates && !uri.path().starts_with("/api/");
        if !matches!(site, "none" | "same-origin") && !opens_page {
            return Err(forbidden("the request comes from another page"));
        }
        Ok(())
    }

    /// Whether the request carries the token.
    pub fn has_token(&self, headers: &HeaderMap) -> bool {
        let bearer = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        bearer.is_some_and(|token| self.is_token(token))
    }

    /// Whether it is the token. Takes the same time for every wrong one of the same length.
    pub fn is_token(&self, candidate: &str) -> bool {
        let (known, candidate) = (self.token.as_bytes(), candidate.as_bytes());
        if known.is_empty() || known.len() != candidate.len() {
            return false;
        }
        let difference = known.iter().zip(candidate).fold(0_u8, |sum, (one, other)| sum | (one ^ other));
        std::hint::black_box(difference) == 0
    }

    /// A name that nobody else can point at this machine: an address, or `localhost`.
    fn is_own(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        if name.eq_ignore_ascii_case("localhost") || self.hosts.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            return true;
        }
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let Ok(address) = name.parse::<IpAddr>() else { return false };
        address.is_loopback() || address == self.listen.ip() || self.listen.ip().is_unspecified()
    }
}

fn forbidden(why: &str) -> Refusal {
    Refusal::Forbidden(why.to_owned())
}

/// The name of a request in logs and in its answer.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// Checks every request, and marks every answer.
pub async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let is_api = request.uri().path().starts_with("/api/");
    let id = RequestId(uuid::Uuid::new_v4().to_string());
    // Whoever prints headers prints no secrets.
    for (name, value) in request.headers_mut() {
        let name = name.as_str();
        value.set_sensitive(name == "authorization" || name == "cookie" || name.starts_with("x-signalbox-"));
    }
    request.extensions_mut().insert(id.clone());
    let mut response = match check(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    if is_api {
        response = answer::in_shape(response).await;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
    if let Ok(id) = HeaderValue::try_from(id.0) {
        headers.insert(X_REQUEST_ID, id);
    }
    if is_api {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

fn check(app: &App, request: &Request) -> Result<(), Refusal> {
    let (uri, headers) = (request.uri(), request.headers());
    // The kubelet asks by the pod's address, and is told one word.
    let is_health = app.keeper.is_some() && matches!(uri.path(), "/healthz" | "/readyz");
    if !is_health {
        app.gate.check(request.method(), uri, headers)?;
    }
    if proxy::claims(headers) && app.keeper.as_ref().is_none_or(|keeper| keeper.trust().is_none()) {
        return Err(forbidden("the request names a user as a proxy does, and this server believes no proxy"));
    }
    if app.keeper.is_some() && uri.query().is_some_and(holds_token) {
        return Err(forbidden(
            "a token is never part of an address: send it in the Authorization header, and revoke this one",
        ));
    }
    bounded(headers)
}

fn holds_token(query: &str) -> bool {
    query.split('&').any(|pair| matches!(pair.split('=').next(), Some("token" | "access_token")))
}

/// Refuses a body by the length that it announces, before any of it is read.
fn bounded(headers: &HeaderMap) -> Result<(), Refusal> {
    let length: Option<usize> =
        headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()).and_then(|text| text.parse().ok());
    match length {
        Some(length) if length > super::MAX_BODY => Err(Refusal::TooLarge(super::MAX_BODY)),
        Some(_) | None => Ok(()),
    }
}

/// Finds out who asks, and what they see.
///
/// # Errors
/// Where they have to say who they are, are not who they say, or nobody can tell.
pub async fn identify(app: &App, peer: &Peer, id: RequestId, headers: &HeaderMap) -> Result<Caller, Refusal> {
    let Some(keeper) = &app.keeper else {
        return Ok(Caller {
            who: Who::Anyone,
            view: Arc::new(View::everything()),
            writable: app.gate.has_token(headers),
            peer: peer.clone(),
            request_id: id.0,
        });
    };
    let Some((person, credentials)) = keeper.who(peer, headers).await? else {
        return Err(Refusal::NoToken(
            "log in: this needs a Kubernetes bearer token, such as `kubectl create token` prints".to_owned(),
        ));
    };
    let view = keeper.view(&person, &app.namespaces()).await?;
    Ok(Caller {
        who: Who::User(person, credentials),
        view,
        writable: keeper.config().allow_apply,
        peer: peer.clone(),
        request_id: id.0,
    })
}

/// Lets those pass who may see something, with what that is.
pub async fn need_view(State(app): State<App>, request: Request, next: Next) -> Response {
    match with_caller(&app, request).await {
        Ok((_, request)) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Lets those pass who may change something: with the server's own token, or as a user, whose right to the change itself is
/// judged when it is known. Reads the body only then, and all of it, in bounded time.
pub async fn need_token(State(app): State<App>, request: Request, next: Next) -> Response {
    let passed = async {
        if app.keeper.is_none() && !app.gate.has_token(request.headers()) {
            return Err(Refusal::NoToken(
                "this changes the cluster and needs the token; open the link that the ready line shows".to_owned(),
            ));
        }
        let (_, request) = with_caller(&app, request).await?;
        let (head, body) = request.into_parts();
        let read = tokio::time::timeout(app.body_time, axum::body::to_bytes(body, super::MAX_BODY));
        let body = read.await.map_err(|_elapsed| Refusal::TooSlow(app.body_time.as_secs()))?;
        // All that can be wrong with a body that is cut off is that there is too much of it, or that nobody waits for an answer.
        let body = body.map_err(|_too_long| Refusal::TooLarge(super::MAX_BODY))?;
        Ok(Request::from_parts(head, Body::from(body)))
    };
    match passed.await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Lets those pass who may read the metrics, which count over all namespaces.
pub async fn need_metrics(State(app): State<App>, request: Request, next: Next) -> Response {
    let passed = async {
        let (caller, request) = with_caller(&app, request).await?;
        if let (Some(keeper), Who::User(person, _)) = (&app.keeper, &caller.who) {
            let wish = Wish::Path("/metrics");
            if !keeper.may(person, &wish).await? {
                return Err(Refusal::Forbidden(format!(
                    "{} may not {wish}; give them a ClusterRole with nonResourceURLs",
                    person.name
                )));
            }
        }
        Ok(request)
    };
    match passed.await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn with_caller(app: &App, mut request: Request) -> Result<(Caller, Request), Refusal> {
    let (Some(peer), Some(id)) =
        (request.extensions().get::<Peer>().cloned(), request.extensions().get::<RequestId>().cloned())
    else {
        return Err(Refusal::Unjudged("nobody can tell where the request comes from".to_owned()));
    };
    let caller = identify(app, &peer, id, request.headers()).await?;
    request.extensions_mut().insert(caller.clone());
    Ok((caller, request))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn gate(listen: &str) -> Gate {
        Gate::new("secret".to_owned(), listen.parse().expect("an address"), vec!["signalbox.example".to_owned()])
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).expect("a name"), HeaderValue::try_from(*value).expect("a value"))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn hosts_that_are_ours() {
        let cases = [
            ("127.0.0.1:8080", "localhost:8080", true),
            ("127.0.0.1:8080", "LOCALHOST", true),
            ("127.0.0.1:8080", "127.0.0.1:8080", true),
            ("127.0.0.1:8080", "[::1]:8080", true),
            ("127.0.0.1:8080", "evil.example:8080", false),
            ("127.0.0.1:8080", "localhost.evil.example", false),
            ("127.0.0.1:8080", "127.0.0.1.evil.example", false),
            ("127.0.0.1:8080", "192.0.2.7:8080", false),
            ("192.0.2.7:8080", "192.0.2.7:8080", true),
            ("0.0.0.0:8080", "192.0.2.7:8080", true),
            ("0.0.0.0:8080", "evil.example:8080", false),
            ("127.0.0.1:8080", "", false),
            ("127.0.0.1:8080", "SIGNALBOX.example:443", true),
            ("127.0.0.1:8080", "signalbox.example.evil.example", false),
        ];
        for (listen, host, own) in cases {
            let checked = gate(listen).check(&Method::GET, &Uri::from_static("/"), &headers(&[("host", host)]));
            assert_eq!(checked.is_ok(), own, "{host} at {listen}");
        }
    }

    #[test]
    fn pages_that_are_ours() {
        let cases: [(Pairs<'_>, &str, bool); 9] = [
            (&[], "/api/v1/state", true),
            (&[("origin", "http://localhost:8080")], "/api/v1/state", true),
            (&[("origin", "http://localhost:3000")], "/api/v1/state", false),
            (&[("origin", "null")], "/api/v1/state", false),
            (&[("origin", "http://localhost:8080"), ("origin", "http://evil.example")], "/", false),
            (&[("sec-fetch-site", "same-origin")], "/api/v1/state", true),
            (&[("sec-fetch-site", "cross-site")], "/api/v1/state", false),
            (&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], "/?token=x", true),
            (&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], "/api/v1/state", false),
        ];
        for (pairs, path, own) in cases {
            let mut all = headers(pairs);
            all.insert(HOST, HeaderValue::from_static("localhost:8080"));
            let uri = Uri::try_from(path).expect("a path");
            assert_eq!(gate("127.0.0.1:8080").check(&Method::GET, &uri, &all).is_ok(), own, "{pairs:?} {path}");
        }
    }

    #[test]
    fn tokens() {
        let cases: [(Pairs<'_>, bool); 8] = [
            (&[], false),
            (&[("authorization", "Bearer secret")], true),
            (&[("authorization", "bearer secret")], true),
            (&[("authorization", "Bearer secreT")], false),
            (&[("authorization", "Bearer secrets")], false),
            (&[("authorization", "Basic secret")], false),
            (&[("cookie", "a=b; signalbox=secret")], false),
            (&[("cookie", "signalbox=; other=secret")], false),
        ];
        for (pairs, expected) in cases {
            assert_eq!(gate("127.0.0.1:1").has_token(&headers(pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn a_server_without_a_token_takes_none() {
        let gate = Gate::new(String::new(), "127.0.0.1:1".parse().expect("an address"), Vec::new());
        assert!(!gate.is_token("") && !gate.has_token(&headers(&[("authorization", "Bearer ")])));
    }

    #[test]
    fn tokens_in_addresses_are_found() {
        for (query, holds) in
            [("token=x", true), ("a=b&access_token=x", true), ("after=3", false), ("tokens=1", false), ("", false)]
        {
            assert_eq!(holds_token(query), holds, "{query}");
        }
    }
}
