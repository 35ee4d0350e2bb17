//! Who gets in (docs/adr/0004).

use std::os::unix::fs::PermissionsExt;

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use kube::client::ConfigExt;

use crate::support::Lab;

type Body = Full<bytes::Bytes>;

/// Asks over TLS with these headers, and nothing that a client library would add.
async fn ask(lab: &Lab, headers: &[(header::HeaderName, String)]) -> (StatusCode, String) {
    let connector = lab.config().await.rustls_https_connector().unwrap();
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(connector);
    let address = lab.api.as_ref().unwrap().local_addr();
    let mut request = Request::get(format!("https://{address}/api/v1/namespaces"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let response = client.request(request.body(Body::default()).unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn token(lab: &Lab) -> String {
    let path = lab.dir.path().join("state/credentials/token");
    format!("Bearer {}", std::fs::read_to_string(path).unwrap())
}

#[tokio::test]
async fn only_who_holds_the_token_and_is_no_web_page_gets_in() {
    let lab = Lab::start().await;
    let token = token(&lab);
    let own = lab.api.as_ref().unwrap().local_addr().to_string();
    let bearer = || (header::AUTHORIZATION, token.clone());
    let cases = [
        (vec![bearer()], StatusCode::OK, "NamespaceList"),
        (vec![bearer(), (header::HOST, own)], StatusCode::OK, "NamespaceList"),
        (vec![], StatusCode::UNAUTHORIZED, "Unauthorized"),
        (vec![(header::AUTHORIZATION, "Bearer wrong".into())], StatusCode::UNAUTHORIZED, "Unauthorized"),
        (vec![(header::AUTHORIZATION, token.replace("Bearer", "Basic"))], StatusCode::UNAUTHORIZED, "Unauthorized"),
        (vec![bearer(), (header::ORIGIN, "https://attacker.example".into())], StatusCode::FORBIDDEN, "Origin"),
        (vec![bearer(), (header::ORIGIN, "null".into())], StatusCode::FORBIDDEN, "Origin"),
        (vec![bearer(), (header::HOST, "attacker.example".into())], StatusCode::FORBIDDEN, "Host"),
        (vec![bearer(), (header::HOST, "127.0.0.1:1".into())], StatusCode::FORBIDDEN, "Host"),
    ];
    for (headers, status, text) in cases {
        let (found, body) = ask(&lab, &headers).await;
        assert_eq!(found, status, "{headers:?}: {body}");
        assert!(body.contains(text), "{headers:?}: {body}");
        assert!(status == StatusCode::OK || body.contains("\"kind\":\"Status\""), "{body}");
    }
}

#[tokio::test]
async fn the_kubeconfig_holds_what_a_client_needs_and_the_extension() {
    let lab = Lab::start().await;
    let api = lab.api.as_ref().unwrap();
    let extension = serde_json::json!({"url": "http://127.0.0.1:8080", "token": "t"});
    let text = api.kubeconfig(Some(extension.clone()));
    let config: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(config["clusters"][0]["cluster"]["server"], format!("https://{}", api.local_addr()));
    assert_eq!(config["contexts"][0]["context"]["extensions"][0]["name"], "signalbox.dev");
    assert_eq!(config["contexts"][0]["context"]["extensions"][0]["extension"], extension);
    assert!(config["users"][0]["user"]["token"].as_str().unwrap().len() >= 43);
    assert!(config["clusters"][0]["cluster"].get("insecure-skip-tls-verify").is_none());
    for file in ["credentials/token", "credentials/ca.key", "objects.journal"] {
        let mode = std::fs::metadata(lab.dir.path().join("state").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}");
    }
}

#[tokio::test]
async fn tokens_and_rights_are_reviewed_as_told_and_open_nothing() {
    use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
    use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
    use kube::Api;
    use signalbox_lab_apiserver::reviews::{Identity, Right};

    let lab = Lab::start().await;
    let identities = lab.api.as_ref().unwrap().identities();
    let eve = Identity { user: "eve".to_owned(), audiences: vec!["signalbox".to_owned()], ..Identity::default() };
    identities.admit("eves-token", eve);
    let right = Right { verb: "list".to_owned(), resource: "pods".to_owned(), ..Right::default() };
    identities.allow("eve", right);

    let tokens: Api<TokenReview> = Api::all(lab.client().await);
    let spec = TokenReviewSpec { token: Some("eves-token".to_owned()), audiences: Some(vec!["signalbox".to_owned()]) };
    let review = TokenReview { spec, ..TokenReview::default() };
    let answer = tokens.create(&Default::default(), &review).await.unwrap().status.unwrap();
    assert_eq!(answer.authenticated, Some(true));
    assert_eq!(answer.user.and_then(|user| user.username).as_deref(), Some("eve"));

    let rights: Api<SubjectAccessReview> = Api::all(lab.client().await);
    for (resource, expected) in [("pods", true), ("secrets", false)] {
        let attributes = ResourceAttributes {
            verb: Some("list".to_owned()),
            resource: Some(resource.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some("eve".to_owned()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let answer = rights.create(&Default::default(), &review).await.unwrap().status.unwrap();
        assert_eq!(answer.allowed, expected, "{resource}");
    }

    let mut config = lab.config().await;
    config.auth_info.token = Some("eves-token".to_owned().into());
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::all(kube::Client::try_from(config).unwrap());
    let refused = pods.list(&Default::default()).await.expect_err("only the owner's token opens the lab");
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 401), "{refused}");
    lab.stop().await;
}
