//! What an authenticating proxy says, in the headers that Kubernetes' own front proxy uses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest, Sha256};
use signalbox_api::session::Via;

use super::Proxy;
use super::person::Person;
use crate::error::Error;

const USER: &str = "x-remote-user";
const UID: &str = "x-remote-uid";
const GROUP: &str = "x-remote-group";
const EXTRA: &str = "x-remote-extra-";
const SECRET: &str = "x-signalbox-proxy-secret";
/// What Kubernetes' API servers add to the groups that their front proxy names.
const AUTHENTICATED: &str = "system:authenticated";
/// The shortest secret that is taken, in bytes.
const SHORTEST: usize = 16;

/// Who a connection comes from.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its other end.
    pub address: SocketAddr,
    /// It has shown the certificate of the proxy.
    pub is_proxy: bool,
}

/// Believes a proxy that shows that it is the one.
pub struct Trust {
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    names: Vec<String>,
    secret: Option<[u8; 32]>,
}

/// Whether a request has headers that only a proxy may send.
pub fn claims(headers: &HeaderMap) -> bool {
    let is_claim = |name: &str| matches!(name, USER | UID | GROUP | SECRET) || name.starts_with(EXTRA);
    headers.keys().any(|name| is_claim(name.as_str()))
}

impl Trust {
    /// Reads the files.
    ///
    /// # Errors
    /// Where one cannot be read, holds nothing of use, or neither is named.
    pub fn new(proxy: &Proxy) -> Result<Self, Error> {
        let verifier = match &proxy.client_ca {
            None => None,
            Some(path) => {
                let unreadable = |why: String| Error::File { path: path.clone(), why };
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))? {
                    let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
                    roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
                }
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| unreadable(error.to_string()))?;
                Some(verifier)
            }
        };
        let secret = match &proxy.secret {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Error::File { path: path.clone(), why: error.to_string() })?;
                if text.trim().len() < SHORTEST {
                    let why = format!("the proxy's secret has fewer than {SHORTEST} bytes");
                    return Err(Error::File { path: path.clone(), why });
                }
                Some(Sha256::digest(text.trim()).into())
            }
        };
        if verifier.is_none() && secret.is_none() {
            return Err(Error::BlindProxy);
        }
        Ok(Self { verifier, names: proxy.names.clone(), secret })
    }

    /// What TLS asks clients for.
    pub fn verifier(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        self.verifier.clone()
    }

    /// Whether a connection's certificates are the proxy's.
    pub fn is_proxy(&self, certificates: &[CertificateDer<'_>]) -> bool {
        let (Some(verifier), Some((first, rest))) = (&self.verifier, certificates.split_first()) else { return false };
        // Anew, and not only in the handshake: who made the TLS configuration may have asked for another authority's.
        verifier.verify_client_cert(first, rest, UnixTime::now()).is_ok()
            && (self.names.is_empty() || common_name(first).is_some_and(|name| self.names.contains(&name)))
    }

    /// Whom the proxy names, where the request comes from it.
    ///
    /// # Errors
    /// One sentence: why it is not believed.
    pub fn person(&self, peer: &Peer, headers: &HeaderMap) -> Result<Person, &'static str> {
        let is_trusted = peer.is_proxy || (peer.address.ip().to_canonical().is_loopback() && self.has_secret(headers));
        if !is_trusted {
            return Err("the request names a user as a proxy does, and does not come from the proxy");
        }
        let all = |name: &str| -> Result<Vec<String>, &'static str> {
            let values = headers.get_all(name).iter().map(|value| value.to_str().map(str::to_owned));
            values.collect::<Result<_, _>>().map_err(|_| "a header of the proxy's is no plain text")
        };
        let names = all(USER)?;
        let [name] = names.as_slice() else { return Err("the proxy has to name one user, in X-Remote-User") };
        if name.is_empty() {
            return Err("the proxy has to name one user, in X-Remote-User");
        }
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for key in headers.keys() {
            if let Some(name) = key.as_str().strip_prefix(EXTRA) {
                extra.insert(unescape(name), all(key.as_str())?);
            }
        }
        let mut groups = all(GROUP)?;
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Ok(Person {
            name: name.clone(),
            uid: all(UID)?.into_iter().next().unwrap_or_default(),
            groups,
            extra,
            via: Via::Proxy,
            expires_ms: None,
        })
    }

    fn has_secret(&self, headers: &HeaderMap) -> bool {
        let mut sent = headers.get_all(SECRET).iter();
        let (Some(known), Some(sent), None) = (self.secret, sent.next(), sent.next()) else { return false };
        let sent: [u8; 32] = Sha256::digest(sent.as_bytes()).into();
        let difference = sent.iter().zip(known).fold(0_u8, |sum, (one, other)| sum | (one ^ other));
        std::hint::black_box(difference) == 0
    }
}

/// Names of extras are percent-encoded where a header's name cannot hold them.
fn unescape(name: &str) -> String {
    let joined = format!("k={}", name.replace('+', "%2B"));
    form_urlencoded::parse(joined.as_bytes()).next().map_or_else(|| name.to_owned(), |(_, value)| value.into_owned())
}

/// The subject's common name: the last one in the certificate's DER.
fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate.as_ref()).ok()?;
    let name = certificate.subject().iter_common_name().last()?.as_str().ok()?;
    Some(name.to_owned())
}
