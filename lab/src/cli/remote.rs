//! A server that runs somewhere: what it asks for, and the way to it. [`door`]: through the cluster's API to a port of a pod.

mod door;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use http::uri::{Authority, Scheme};
use http::{HeaderName, Uri};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::entry::ServerEntry;

use door::Door;

/// How long the cluster's API and a pod behind it may take until the connection stands.
const WAIT: Duration = Duration::from_secs(10);

/// Bytes in both directions.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A server, and how it is reached.
pub(super) struct Remote {
    /// As messages name it.
    pub url: String,
    authority: Authority,
    authorization: HeaderValue,
    way: Way,
}

enum Way {
    /// In clear text: a lab's, on loopback.
    Plain,
    Tls(TlsConnector),
    /// Through the cluster's API to a port of a pod, and by TLS.
    Forwarded {
        tls: TlsConnector,
        door: Door,
    },
}

/// Why a server cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0:?} is no URL of a server: give --server https://HOST:PORT, or http:// on loopback")]
    Url(String),
    #[error("the token has characters that no token has: look at --token-file, or at the user of the kubeconfig")]
    Token,
    #[error("cannot read --server-ca {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("whom to trust is not known: {from} holds no certificates that can be read ({why})")]
    Authority { from: String, why: String },
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Why there is no connection to it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("no answer from {url}: {source}; does `signalbox lab`, or `signalbox serve`, still run?")]
    Away { url: String, source: io::Error },
    #[error(
        "{url} does not prove to be the server: {source}; name a file with --server-ca whose authority has signed for the host that is asked"
    )]
    Tls { url: String, source: io::Error },
    #[error(transparent)]
    Forward(#[from] door::Error),
    #[error("{url} has no name that a certificate could be for: {source}")]
    Name { url: String, source: InvalidDnsNameError },
}

impl Remote {
    /// By its URL. Without `authority` those of the system are believed.
    pub(super) fn new(entry: &ServerEntry, authority: Option<&Path>) -> Result<Self, Error> {
        let wrong = || Error::Url(entry.server.clone());
        let uri: Uri = entry.server.parse().map_err(|_| wrong())?;
        let host = uri.authority().cloned().ok_or_else(wrong)?;
        let way = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => Way::Plain,
            Some(scheme) if *scheme == Scheme::HTTPS => Way::Tls(match authority {
                Some(path) => {
                    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
                    trusting(&fs::read(path).map_err(unreadable)?, &path.display().to_string())?
                }
                None => trusting_the_system()?,
            }),
            Some(_) | None => return Err(wrong()),
        };
        Ok(Self { url: entry.server.clone(), authority: host, authorization: bearer(&entry.token)?, way })
    }

    /// In a pod. `plugin` is the command of the user's credential plug-in, where it has one; `name` is what the server's certificate is for;
    /// `authority` are the certificates to believe, from `from`.
    pub(super) fn forwarded(
        (pods, plugin): (Api<Pod>, Option<String>),
        pod: (String, u16),
        name: &str,
        authorization: HeaderValue,
        (authority, from): (&[u8], &str),
    ) -> Result<Self, Error> {
        let url = format!("https://{name}");
        let wrong = || Error::Url(url.clone());
        let host: Authority = name.parse().map_err(|_| wrong())?;
        let door = Door { pods: Box::new(pods), pod: pod.0, port: pod.1, plugin, wait: WAIT };
        let way = Way::Forwarded { tls: trusting(authority, from)?, door };
        Ok(Self { url, authority: host, authorization, way })
    }

    /// What each request has in its head.
    pub(super) fn headers(&self) -> [(HeaderName, HeaderValue); 2] {
        let host = HeaderValue::from_str(self.authority.as_str()).expect("an authority is printable");
        [(http::header::HOST, host), (http::header::AUTHORIZATION, self.authorization.clone())]
    }

    pub(super) async fn connect(&self) -> Result<Box<dyn Duplex>, ConnectError> {
        match &self.way {
            Way::Plain => Ok(Box::new(self.dial(80).await?)),
            Way::Tls(tls) => self.shake(tls, self.dial(443).await?).await,
            Way::Forwarded { tls, door } => door.open(|stream| self.shake(tls, stream)).await?,
        }
    }

    async fn dial(&self, port: u16) -> Result<TcpStream, ConnectError> {
        let address = (self.host(), self.authority.port_u16().unwrap_or(port));
        TcpStream::connect(address).await.map_err(|source| ConnectError::Away { url: self.url.clone(), source })
    }

    async fn shake(&self, tls: &TlsConnector, stream: impl Duplex + 'static) -> Result<Box<dyn Duplex>, ConnectError> {
        let url = || self.url.clone();
        let name = ServerName::try_from(self.host().to_owned());
        let name = name.map_err(|source| ConnectError::Name { url: url(), source })?;
        let stream = tls.connect(name, stream).await.map_err(|source| ConnectError::Tls { url: url(), source })?;
        Ok(Box::new(stream))
    }

    fn host(&self) -> &str {
        self.authority.host().trim_matches(['[', ']'])
    }
}

fn bearer(token: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Error::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

fn trusting(pem: &[u8], from: &str) -> Result<TlsConnector, Error> {
    let unusable = |why: String| Error::Authority { from: from.to_owned(), why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("none is there".to_owned()));
    }
    let config = client()?.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn trusting_the_system() -> Result<TlsConnector, Error> {
    let config = client()?.with_platform_verifier()?.with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn client() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(server: &str, token: &str) -> ServerEntry {
        ServerEntry { server: server.to_owned(), token: token.to_owned() }
    }

    #[test]
    fn what_cannot_be_asked_is_named() {
        for server in ["127.0.0.1:8080", "ftp://host", "http://", "nonsense", ""] {
            let error = Remote::new(&entry(server, "t"), None).err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|it| it.contains("--server https://")), "{server:?}: {error:?}");
        }
        assert!(matches!(Remote::new(&entry("http://127.0.0.1:1", "a\nb"), None), Err(Error::Token)));
        let missing = Remote::new(&entry("https://a", "t"), Some(Path::new("/nonexistent/ca"))).err();
        assert!(missing.is_some_and(|error| error.to_string().contains("--server-ca /nonexistent/ca")));
        let none = trusting(b"nothing of the sort", "the ConfigMap a/b").err().map(|error| error.to_string());
        assert!(none.as_ref().is_some_and(|it| it.contains("the ConfigMap a/b")), "{none:?}");
    }

    #[test]
    fn a_request_names_host_and_port_and_hides_its_token() {
        let remote = Remote::new(&entry("http://[::1]:8080", "secret"), None).expect("it can be asked");
        let [(_, host), (_, authorization)] = remote.headers();
        assert_eq!((host.as_bytes(), authorization.as_bytes()), (&b"[::1]:8080"[..], &b"Bearer secret"[..]));
        assert!(!format!("{authorization:?}").contains("secret"));
        assert_eq!(remote.host(), "::1");
    }
}
