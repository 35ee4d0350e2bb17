//! What is answered before the upgrade.

use http::{Request, StatusCode, Version};
use http_body_util::BodyExt;

use super::serve_exec;
use crate::runtime::RuntimeError;

const WEB_SOCKET: [(&str, &str); 5] = [
    ("connection", "keep-alive, Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-protocol", "v5.channel.k8s.io"),
];

const SPDY: [(&str, &str); 3] =
    [("connection", "Upgrade"), ("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "v4.channel.k8s.io")];

/// The headers, one of them with another value.
fn with<const N: usize>(
    headers: [(&'static str, &'static str); N],
    name: &str,
    value: &'static str,
) -> Vec<(&'static str, &'static str)> {
    headers.into_iter().map(|(known, old)| (known, if known == name { value } else { old })).collect()
}

#[tokio::test]
async fn refusals() {
    let check = async |query: &str, version: Version, headers: &[(&str, &str)], code: u16, words: &str| {
        let mut request = Request::builder().uri(format!("/exec?{query}")).version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // A start would be a mistake: whatever is asked for here is refused before.
        let start = |_| async { Err(RuntimeError::NotFound("started".into())) };
        let response = serve_exec(request.body(()).unwrap(), start).await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(status, StatusCode::from_u16(code).unwrap(), "{query} {headers:?}: {body}");
        assert_eq!((body["kind"].as_str(), body["code"].as_u64()), (Some("Status"), Some(code.into())));
        let message = body["message"].as_str().unwrap();
        assert!(message.contains(words), "{query} {headers:?}: {message}");
    };
    let good = "command=true&stdout=true";
    let http = Version::HTTP_11;
    check("stdout=true", http, &WEB_SOCKET, 400, "at least one command").await;
    check("command=true", http, &WEB_SOCKET, 400, "at least one of stdin, stdout, stderr").await;
    check("command=true&stdout=maybe", http, &WEB_SOCKET, 400, "stdout: invalid value \"maybe\"").await;
    check(good, http, &[], 400, "Upgrade request required").await;
    check(good, http, &WEB_SOCKET[1..], 400, "Upgrade request required").await;
    check(good, Version::HTTP_2, &WEB_SOCKET, 400, "needs HTTP/1.1").await;
    check(good, http, &with(WEB_SOCKET, "upgrade", "h2c"), 400, "WebSocket and SPDY/3.1 are known").await;
    check(good, http, &with(WEB_SOCKET, "sec-websocket-version", "8"), 400, "version must be 13").await;
    check(good, http, &WEB_SOCKET[..3], 400, "Sec-WebSocket-Key is missing").await;
    check(good, http, &with(WEB_SOCKET, "sec-websocket-protocol", "chat, v1"), 400, "no common WebSocket subprotocol")
        .await;
    check(good, http, &with(SPDY, "x-stream-protocol-version", "v9.channel.k8s.io"), 403, "unable to negotiate").await;
    // All is well, but this request came over no connection.
    check(good, http, &WEB_SOCKET, 500, "cannot be upgraded").await;
    check(good, http, &SPDY, 500, "cannot be upgraded").await;
}

#[test]
fn agreed_answers() {
    use crate::{spdy, websocket};
    let headers = |pairs: &[(&'static str, &'static str)]| {
        let mut headers = http::HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    };
    // The key and its answer are the example of RFC 6455, section 1.3.
    for (offered, chosen) in [
        ("v5.channel.k8s.io", "v5.channel.k8s.io"),
        ("v4.channel.k8s.io, v5.channel.k8s.io", "v4.channel.k8s.io"),
        ("base64.channel.k8s.io,v4.channel.k8s.io", "v4.channel.k8s.io"),
    ] {
        let offer = headers(&with(WEB_SOCKET, "sec-websocket-protocol", offered));
        let response = websocket::Handshake::read(&offer).unwrap().response();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()["sec-websocket-protocol"], chosen);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
    let name = "x-stream-protocol-version";
    for (offered, chosen) in [
        (&[(name, "v4.channel.k8s.io"), (name, "v3.channel.k8s.io")][..], "v4.channel.k8s.io"),
        (&[(name, "v9.channel.k8s.io, v2.channel.k8s.io")], "v2.channel.k8s.io"),
        (&[], "channel.k8s.io"),
    ] {
        let response = spdy::Handshake::read(&headers(offered)).unwrap().response();
        assert_eq!(response.headers()[name], chosen);
        assert_eq!(response.headers()["upgrade"], "SPDY/3.1");
    }
}
