//! All paths, and what each of them needs. A test walks through this list: what is new has to say who may ask for it.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{MethodRouter, any, delete, get, post, put};

use super::{
    App, MAX_BODY, answer, events, lesson, metrics, page, policies, probes, security, session, standins, state,
};

/// What a path needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it tells nothing of the cluster.
    Nothing,
    /// A user, whose view its answer is cut to.
    See,
    /// A user, or the server's own token; and the right to the change itself.
    Change,
    /// A user who may `get` the path `/metrics`: it counts over all namespaces.
    Metrics,
}

/// A path of the server's, by one method.
pub struct Route {
    /// In capitals.
    pub method: &'static str,
    /// As axum writes it.
    pub path: &'static str,
    /// What it needs.
    pub need: Need,
    handler: fn() -> MethodRouter<App>,
}

const fn route(method: &'static str, path: &'static str, need: Need, handler: fn() -> MethodRouter<App>) -> Route {
    Route { method, path, need, handler }
}

/// Every one of them but the page itself.
pub const ROUTES: [Route; 21] = [
    route("GET", "/api/v1/session", Need::Nothing, || get(session::session)),
    route("GET", "/api/v1/openapi.json", Need::Nothing, || get(state::openapi)),
    route("GET", "/healthz", Need::Nothing, || get(state::healthz)),
    route("GET", "/readyz", Need::Nothing, || get(state::readyz)),
    route("GET", "/api/v1/rights", Need::See, || get(session::rights)),
    route("GET", "/api/v1/state", Need::See, || get(state::snapshot)),
    route("GET", "/api/v1/events", Need::See, || get(events::follow)),
    route("GET", "/api/v1/kernel/counts", Need::See, || get(state::kernel_counts)),
    route("GET", "/api/v1/policies", Need::See, || get(policies::list)),
    route("GET", "/api/v1/policies/{namespace}/{name}", Need::See, || get(policies::one)),
    route("GET", "/api/v1/lesson", Need::See, || get(lesson::steps)),
    route("POST", "/api/v1/rounds", Need::Change, || post(state::round)),
    route("POST", "/api/v1/policies", Need::Change, || post(policies::apply)),
    route("PUT", "/api/v1/policies/{namespace}/{name}", Need::Change, || put(policies::replace)),
    route("DELETE", "/api/v1/policies/{namespace}/{name}", Need::Change, || delete(policies::delete)),
    route("POST", "/api/v1/lesson/steps/{number}", Need::Change, || post(lesson::go_to)),
    route("POST", "/api/v1/stand-ins", Need::Change, || post(standins::deploy)),
    route("PUT", "/api/v1/stand-ins/{run}", Need::Change, || put(standins::renew)),
    route("DELETE", "/api/v1/stand-ins/{run}", Need::Change, || delete(standins::end)),
    route("POST", "/api/v1/probes", Need::Change, || post(probes::probe)),
    route("GET", "/metrics", Need::Metrics, || get(metrics::metrics)),
];

/// All routes, with everything that guards them.
pub fn router(app: App) -> Router {
    let needing = |need: Need| {
        let routes = ROUTES.iter().filter(move |route| route.need == need);
        routes.fold(Router::new(), |router, route| router.route(route.path, (route.handler)()))
    };
    let see = needing(Need::See).route_layer(middleware::from_fn_with_state(app.clone(), security::need_view));
    let change = needing(Need::Change).route_layer(middleware::from_fn_with_state(app.clone(), security::need_token));
    let metrics =
        needing(Need::Metrics).route_layer(middleware::from_fn_with_state(app.clone(), security::need_metrics));
    needing(Need::Nothing)
        .merge(see)
        .merge(change)
        .merge(metrics)
        // Anything else there is no page.
        .route("/api", any(answer::no_such_path))
        .route("/api/{*rest}", any(answer::no_such_path))
        .method_not_allowed_fallback(answer::no_such_method)
        .fallback(page::page)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(app.clone(), security::guard))
        .layer(tower_http::catch_panic::CatchPanicLayer::new())
        .with_state(app)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_the_api_is_described() {
        let described: serde_json::Value = serde_json::from_str(include_str!("openapi.json")).expect("JSON");
        for route in ROUTES.iter().filter(|route| route.path.starts_with("/api/") && !route.path.ends_with(".json")) {
            let method = route.method.to_lowercase();
            assert!(described["paths"][route.path][&method].is_object(), "{method} {}", route.path);
        }
    }
}
