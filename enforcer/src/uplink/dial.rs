//! From an address, an authority and a token to a stream.

use std::{path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use signalbox_api::stream::{LONGEST_FRAME, PATH};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error as WsError, client::IntoClientRequest, protocol::WebSocketConfig},
};

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The port, where none is named.
const PORT: u16 = 9443;

/// A stream.
pub type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Where the server takes streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
}

/// Why an address of a server cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address of a server: write https://HOST:PORT")]
pub struct ServerError(String);

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        let error = || ServerError(text.to_owned());
        let rest = text.strip_prefix("https://").unwrap_or(text);
        let authority: http::uri::Authority = rest.strip_suffix('/').unwrap_or(rest).parse().map_err(|_| error())?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || authority.as_str().contains('@') || ServerName::try_from(host).is_err() {
            return Err(error());
        }
        Ok(Self { host: host.to_owned(), port: authority.port_u16().unwrap_or(PORT) })
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "https://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "https://{}:{}", self.host, self.port)
        }
    }
}

/// A name that a certificate may be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateName(ServerName<'static>);

impl FromStr for CertificateName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = ServerName::try_from(text.to_owned());
        name.map(Self).map_err(|_| format!("{text:?} is neither a DNS name nor an address"))
    }
}

/// Where a stream leads, and how whoever dials proves itself.
#[derive(Clone, Debug)]
pub struct Door {
    /// The server.
    pub server: Server,
    /// The name that its certificate is for; `None`: the host of its address.
    pub name: Option<CertificateName>,
    /// Whom to trust.
    pub authority: Authority,
    /// The file with the token for the audience `signalbox`, read anew for each connection.
    pub token: PathBuf,
}

/// Whom to trust: read anew for each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// Certificates in a file, PEM.
    File(PathBuf),
    /// The key `ca.crt` of a ConfigMap.
    ConfigMap {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl FromStr for Authority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(named) = text.strip_prefix("configmap:") else { return Ok(Self::File(PathBuf::from(text))) };
        match named.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self::ConfigMap { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("{text:?} names no ConfigMap: write configmap:NAMESPACE/NAME")),
        }
    }
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The token cannot be read.
    #[error("the token {} cannot be read: {source}", path.display())]
    Token {
        /// Its file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Whom to trust is not known.
    #[error("whom to trust cannot be read from {from}: {why}")]
    Authority {
        /// Where it should be.
        from: String,
        /// What is wrong.
        why: String,
    },
    /// The server is not there.
    #[error("cannot connect to {server}: {source}")]
    Connect {
        /// Its address.
        server: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It does not prove itself.
    #[error("{server} does not prove to be the server: {source}")]
    Tls {
        /// Its address.
        server: String,
        /// What TLS said.
        source: std::io::Error,
    },
    /// It does not want a stream.
    #[error("the server answers {status}: {why}")]
    Answer {
        /// HTTP's status.
        status: u16,
        /// The answer's text.
        why: String,
    },
    /// It speaks something else.
    #[error("{server} opens no stream: {why}")]
    Upgrade {
        /// Its address.
        server: String,
        /// What went wrong.
        why: String,
    },
    /// It takes too long.
    #[error("{0} takes longer than 10 s")]
    Late(&'static str),
}

/// Opens a stream. Gives back the token that it was opened with. `client`: for an authority that is kept in the cluster.
///
/// # Errors
///
/// Where one of the steps fails, or takes longer than ten seconds.
pub async fn dial(door: &Door, client: Option<&kube::Client>) -> Result<(Socket, String), DialError> {
    let server = door.server.to_string();
    let token = read_token(door).await?;
    let tls = trust(&door.authority, client).await?;
    let connecting = TcpStream::connect((door.server.host.as_str(), door.server.port));
    let stream = in_time("the server", connecting).await?;
    let stream = stream.map_err(|source| DialError::Connect { server: server.clone(), source })?;
    let _without = stream.set_nodelay(true);
    let host = || ServerName::try_from(door.server.host.clone()).expect("an address of a server has a good name");
    let name = door.name.clone().map_or_else(host, |name| name.0);
    let stream = in_time("TLS", TlsConnector::from(tls).connect(name, stream)).await?;
    let stream = stream.map_err(|source| DialError::Tls { server: server.clone(), source })?;
    let upgrade = |why: String| DialError::Upgrade { server: server.clone(), why };
    let address = server.replacen("https", "wss", 1) + PATH;
    let mut request = address.into_client_request().map_err(|error| upgrade(error.to_string()))?;
    let mut value = http::HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| DialError::Token { path: door.token.clone(), source: std::io::ErrorKind::InvalidData.into() })?;
    value.set_sensitive(true);
    request.headers_mut().insert(http::header::AUTHORIZATION, value);
    let limits = WebSocketConfig::default().max_message_size(Some(LONGEST_FRAME)).max_frame_size(Some(LONGEST_FRAME));
    let opening = tokio_tungstenite::client_async_with_config(request, stream, Some(limits));
    match in_time("the server's answer", opening).await? {
        Ok((socket, _)) => Ok((socket, token)),
        Err(WsError::Http(answer)) => {
            let why = answer.body().as_ref().map(|body| String::from_utf8_lossy(body).trim().to_owned());
            Err(DialError::Answer { status: answer.status().as_u16(), why: why.unwrap_or_default() })
        }
        Err(error) => Err(upgrade(error.to_string())),
    }
}

/// The token as it is now.
///
/// # Errors
///
/// Where the file cannot be read.
pub async fn read_token(door: &Door) -> Result<String, DialError> {
    let read = tokio::fs::read_to_string(&door.token).await;
    let token = read.map_err(|source| DialError::Token { path: door.token.clone(), source })?;
    Ok(token.trim().to_owned())
}

async fn trust(authority: &Authority, client: Option<&kube::Client>) -> Result<Arc<rustls::ClientConfig>, DialError> {
    let (from, pem) = match authority {
        Authority::File(path) => {
            let from = path.display().to_string();
            (from, tokio::fs::read(path).await.map_err(|error| error.to_string()))
        }
        Authority::ConfigMap { namespace, name } => {
            let from = format!("the ConfigMap {namespace}/{name}");
            let Some(client) = client else {
                return Err(DialError::Authority { from, why: "no cluster is known here: name a file".to_owned() });
            };
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
            let found = in_time("the Kubernetes API", maps.get(name)).await?;
            let pem = found.map_err(|error| error.to_string()).and_then(|map| {
                let pem = map.data.unwrap_or_default().remove("ca.crt");
                pem.map(String::into_bytes).ok_or_else(|| "it has no `ca.crt`".to_owned())
            });
            (from, pem)
        }
    };
    let error = |why: String| DialError::Authority { from: from.clone(), why };
    let pem = pem.map_err(&error)?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|what| error(what.to_string()))?;
        roots.add(certificate).map_err(|what| error(what.to_string()))?;
    }
    if roots.is_empty() {
        return Err(error("it holds no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|what| error(what.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

async fn in_time<T>(what: &'static str, step: impl Future<Output = T>) -> Result<T, DialError> {
    tokio::time::timeout(PATIENCE, step).await.map_err(|_| DialError::Late(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_servers() {
        for (text, expected) in [
            ("https://signalbox.signalbox-system:9443", Some("https://signalbox.signalbox-system:9443")),
            ("signalbox.signalbox-system", Some("https://signalbox.signalbox-system:9443")),
            ("https://10.0.0.1:1/", Some("https://10.0.0.1:1")),
            ("https://[fd00::1]", Some("https://[fd00::1]:9443")),
            ("http://x:1", None),
            ("https://user@x:1", None),
            ("https://x/path", None),
            ("https://", None),
            ("", None),
        ] {
            let server = text.parse::<Server>().map(|server| server.to_string()).ok();
            assert_eq!(server.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn names_of_certificates() {
        for (text, is_good) in
            [("signalbox.signalbox-system.svc", true), ("10.0.0.1", true), ("a b", false), ("", false)]
        {
            assert_eq!(text.parse::<CertificateName>().is_ok(), is_good, "{text}");
        }
    }

    #[test]
    fn authorities() {
        let map = Authority::ConfigMap { namespace: "a".to_owned(), name: "b".to_owned() };
        assert_eq!("configmap:a/b".parse(), Ok(map));
        assert_eq!("/run/ca.crt".parse(), Ok(Authority::File(PathBuf::from("/run/ca.crt"))));
        for broken in ["configmap:", "configmap:a", "configmap:/b", "configmap:a/b/c"] {
            assert!(broken.parse::<Authority>().is_err(), "{broken}");
        }
    }
}
