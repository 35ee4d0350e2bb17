//! The page by TLS, and users who come through an authenticating proxy.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use signalbox_api::session::Session;
use signalbox_server::{Proxy, Tls};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::bench::{ANN, Answer, Bench, kubernetes, read};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    certificate: rustls::pki_types::CertificateDer<'static>,
}

struct Leaf {
    pem: String,
    key_pem: String,
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { pem: certificate.pem(), certificate: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    fn leaf(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Leaf {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Leaf {
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        }
    }
}

/// One request by TLS, with a client's certificate or without.
async fn ask(bench: &Bench, server: &Authority, client: Option<&Leaf>, headers: &str) -> Option<Answer> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(server.certificate.clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match client {
        Some(leaf) => builder.with_client_auth_cert(leaf.chain.clone(), leaf.key.clone_key()).expect("a certificate"),
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(bench.server.local_addr()).await.expect("a connection");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    let request = format!("GET /api/v1/session HTTP/1.0\r\nhost: localhost\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let answer = read(&mut stream, 10_000).await;
    (answer.status != 0).then_some(answer)
}

fn write(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("it is written");
    path
}

fn user(answer: &Answer) -> Option<String> {
    serde_json::from_str::<Session>(&answer.body).ok()?.viewer.map(|viewer| viewer.name)
}

#[tokio::test]
async fn a_proxy_is_believed_by_its_certificate() {
    let (ours, proxies, strangers) = (Authority::new("page"), Authority::new("proxies"), Authority::new("strangers"));
    let page = ours.leaf("page", ExtendedKeyUsagePurpose::ServerAuth);
    let bench = Bench::with_tls(|config, folder| {
        let (chain, key) = (write(folder, "page.crt", &page.pem), write(folder, "page.key", &page.key_pem));
        config.tls = Some(Tls::from_files(&chain, &key).expect("a certificate"));
        kubernetes(config).proxy = Some(Proxy {
            client_ca: Some(write(folder, "proxies.crt", &proxies.pem)),
            names: vec!["front".to_owned()],
            secret: None,
        });
    })
    .await;
    assert!(bench.server.url().starts_with("https://"), "{}", bench.server.url());
    let front = proxies.leaf("front", ExtendedKeyUsagePurpose::ClientAuth);
    let back = proxies.leaf("back", ExtendedKeyUsagePurpose::ClientAuth);
    let stranger = strangers.leaf("front", ExtendedKeyUsagePurpose::ClientAuth);
    let ann = "x-remote-user: ann\r\nx-remote-group: ops\r\n";
    let through = ask(&bench, &ours, Some(&front), ann).await.expect("an answer");
    assert_eq!((through.status, user(&through).as_deref()), (200, Some("ann")), "{through:?}");
    for (what, client, headers, status) in [
        ("no certificate", None, ann, 403),
        ("another name", Some(&back), ann, 403),
        ("no user", Some(&front), "x-remote-group: system:masters\r\n", 403),
        ("two users", Some(&front), "x-remote-user: ann\r\nx-remote-user: root\r\n", 403),
    ] {
        let answer = ask(&bench, &ours, client, headers).await.expect("an answer");
        assert_eq!(answer.status, status, "{what}: {answer:?}");
    }
    let answer = ask(&bench, &ours, Some(&stranger), ann).await;
    assert!(answer.is_none(), "another authority's certificate ends the handshake: {answer:?}");
    // Without the proxy a token does, by TLS as well.
    let token = ask(&bench, &ours, None, &format!("authorization: Bearer {ANN}\r\n")).await.expect("an answer");
    assert_eq!(user(&token).as_deref(), Some("ann"), "{token:?}");
    bench.end().await;
}

#[tokio::test]
async fn a_proxy_on_loopback_is_believed_by_its_secret() {
    let bench = Bench::with(|config, folder| {
        let secret = Some(write(folder, "secret", "a secret of the proxy's\n"));
        kubernetes(config).proxy = Some(Proxy { secret, ..Proxy::default() });
    })
    .await;
    for (what, headers, status, name) in [
        ("with it", "x-remote-user: ann\r\nx-signalbox-proxy-secret: a secret of the proxy's\r\n", 200, Some("ann")),
        ("without", "x-remote-user: root\r\nx-remote-group: system:masters\r\n", 403, None),
        ("a wrong one", "x-remote-user: root\r\nx-signalbox-proxy-secret: a secret\r\n", 403, None),
        ("nobody", "x-signalbox-proxy-secret: a secret of the proxy's\r\n", 403, None),
    ] {
        let answer = bench.ask("GET", "/api/v1/session", headers, "").await;
        assert_eq!((answer.status, user(&answer).as_deref()), (status, name), "{what}: {answer:?}");
    }
    bench.end().await;
}
