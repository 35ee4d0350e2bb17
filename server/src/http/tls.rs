//! TLS for the page.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCert;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::error::Error;

/// The server's certificate, or what chooses it for each connection.
#[derive(Clone, Debug)]
pub struct Tls {
    resolver: Arc<dyn ResolvesServerCert>,
}

impl Tls {
    /// From two PEM files: the certificates, the server's own first; and its key.
    ///
    /// # Errors
    /// Where one cannot be read, or the key is not the certificate's.
    pub fn from_files(certificates: &Path, key: &Path) -> Result<Self, Error> {
        let unreadable =
            |path: &Path, error: &dyn std::fmt::Display| Error::File { path: path.to_owned(), why: error.to_string() };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificates)
            .and_then(Iterator::collect)
            .map_err(|error| unreadable(certificates, &error))?;
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
        Self::new(chain, secret)
    }

    /// From certificates, the server's own first, and its key.
    ///
    /// # Errors
    /// Where the key is not the certificate's.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, Error> {
        let certified = CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider());
        Ok(Self { resolver: Arc::new(SingleCertAndKey::from(certified.map_err(Error::Tls)?)) })
    }

    /// Made for the page: with what it asks clients for, where a proxy shows a certificate.
    pub(crate) fn config(
        &self,
        clients: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Result<Arc<rustls::ServerConfig>, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?;
        let builder = match clients {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(self.resolver.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The certificate of a configuration that was made for something else: such as one of the server's own authority.
impl From<Arc<rustls::ServerConfig>> for Tls {
    fn from(config: Arc<rustls::ServerConfig>) -> Self {
        Self { resolver: config.cert_resolver.clone() }
    }
}

impl From<Arc<dyn ResolvesServerCert>> for Tls {
    fn from(resolver: Arc<dyn ResolvesServerCert>) -> Self {
        Self { resolver }
    }
}
