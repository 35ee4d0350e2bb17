//! Credentials of the API: the lab's own certificate authority and bearer token, and the checks that every request passes.
//!
//! Loopback is shared by every user and every browser of the machine; docs/adr/0004 says what follows from that.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{HeaderMap, Uri, header};
use rand::RngCore;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::status::Status;

/// Names under which pods of a cluster know its API.
const SERVICE_NAMES: [&str; 4] =
    ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];

/// What proves the server to its clients, and clients to the server.
pub(crate) struct Credentials {
    /// Certificate of the authority, PEM.
    pub(crate) ca_pem: String,
    /// Bearer token.
    pub(crate) token: String,
    ca_key: KeyPair,
}

impl Credentials {
    /// Reads the credentials below `state_dir`, or makes and keeps new ones.
    pub(crate) fn load_or_create(state_dir: &Path) -> Result<Self, Error> {
        let dir = state_dir.join("credentials");
        let paths = [dir.join("ca.crt"), dir.join("ca.key"), dir.join("token")];
        if paths.iter().all(|path| path.is_file()) {
            let ca_key = KeyPair::from_pem(read(&paths[1])?.trim()).map_err(Error::Certificate)?;
            return Ok(Self { ca_pem: read(&paths[0])?, token: read(&paths[2])?.trim().to_owned(), ca_key });
        }
        let ca_key = KeyPair::generate().map_err(Error::Certificate)?;
        let ca_pem = authority()?.self_signed(&ca_key).map_err(Error::Certificate)?.pem();
        let mut secret = [0u8; 32];
        rand::rng().fill_bytes(&mut secret);
        let token = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, secret);
        create_private_dir(&dir)?;
        for (path, text) in paths.iter().zip([&ca_pem, &ca_key.serialize_pem(), &token]) {
            write_private(path, text.as_bytes())?;
        }
        Ok(Self { ca_pem, token, ca_key })
    }

    /// TLS with a certificate for `listen`, made anew at each start.
    pub(crate) fn tls(&self, listen: IpAddr) -> Result<Arc<rustls::ServerConfig>, Error> {
        let key = KeyPair::generate().map_err(Error::Certificate)?;
        let mut params = CertificateParams::new(
            SERVICE_NAMES.iter().copied().chain(["localhost"]).map(str::to_owned).collect::<Vec<_>>(),
        )
        .map_err(Error::Certificate)?;
        for address in ["127.0.0.1", "::1", "10.96.0.1"].iter().filter_map(|text| text.parse().ok()).chain([listen]) {
            let san = SanType::IpAddress(address);
            if !params.subject_alt_names.contains(&san) {
                params.subject_alt_names.push(san);
            }
        }
        params.distinguished_name.push(DnType::CommonName, "signalbox-lab-apiserver");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2120, 1, 1);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let issuer = Issuer::new(authority()?, &self.ca_key);
        let certificate = params.signed_by(&key, &issuer).map_err(Error::Certificate)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(Error::Tls)?
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .map_err(Error::Tls)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The authority's certificate. Its key is what counts; the parameters are the same at each start.
fn authority() -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(Error::Certificate)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "signalbox-lab-ca");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2120, 1, 1);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Decides on a request by its head alone, before anything of its body is read.
pub(crate) struct Gate {
    token_digest: [u8; 32],
    local: SocketAddr,
}

impl Gate {
    pub(crate) fn new(token: &str, local: SocketAddr) -> Self {
        Self { token_digest: Sha256::digest(token).into(), local }
    }

    /// Refuses browsers, rebound names, and whoever lacks the token.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Status> {
        if headers.contains_key(header::ORIGIN) {
            return Err(Status::forbidden(
                "requests with an Origin header are refused: this API does not serve web pages",
            ));
        }
        let host = uri
            .authority()
            .map(|authority| authority.as_str())
            .or_else(|| headers.get(header::HOST).and_then(|value| value.to_str().ok()));
        if !host.is_some_and(|host| self.knows(host)) {
            return Err(Status::forbidden("unknown Host: use the address in the lab's kubeconfig"));
        }
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
        if !token.is_some_and(|token| self.accepts(token)) {
            return Err(Status::unauthorized());
        }
        Ok(())
    }

    fn knows(&self, host: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, Some(port)),
            _ => (host, None),
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        if SERVICE_NAMES.contains(&name) {
            return true;
        }
        if port.is_some_and(|port| port.parse() != Ok(self.local.port())) {
            return false;
        }
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || address == self.local.ip())
    }

    /// Compares digests, and all of them, so that neither length nor common prefix shows in the time taken.
    fn accepts(&self, token: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let difference = digest.iter().zip(self.token_digest).fold(0u8, |sum, (left, right)| sum | (left ^ right));
        std::hint::black_box(difference) == 0
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The kubeconfig that reaches the API at `address`.
pub(crate) fn kubeconfig(
    credentials: &Credentials,
    address: SocketAddr,
    extension: Option<serde_json::Value>,
) -> String {
    let ca = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &credentials.ca_pem);
    let mut context = serde_json::json!({"cluster": "signalbox", "user": "signalbox", "namespace": "default"});
    if let Some(extension) = extension {
        context["extensions"] = serde_json::json!([{"name": "signalbox.dev", "extension": extension}]);
    }
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "signalbox", "cluster": {
            "server": format!("https://{address}"),
            "certificate-authority-data": ca,
        }}],
        "users": [{"name": "signalbox", "user": {"token": credentials.token}}],
        "contexts": [{"name": "signalbox", "context": context}],
        "current-context": "signalbox",
        "preferences": {},
    });
    serde_saphyr::to_string(&config).expect("a JSON value is valid YAML")
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| state(path, source))
}

fn state(path: &Path, source: io::Error) -> Error {
    Error::State { path: PathBuf::from(path), source }
}

/// Makes a directory that only its owner may enter.
pub(crate) fn create_private_dir(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| state(path, source))
}

/// Writes a file that only its owner may read, in one step: a crash leaves the old one or none.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        let _ = std::fs::remove_file(&new);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        std::fs::rename(&new, path)
    };
    write().map_err(|source| state(path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        Gate::new("secret", "127.0.0.1:6443".parse().expect("an address"))
    }

    #[test]
    fn hosts() {
        for (host, known) in [
            ("127.0.0.1:6443", true),
            ("localhost:6443", true),
            ("LOCALHOST", true),
            ("[::1]:6443", true),
            ("kubernetes.default.svc", true),
            ("127.0.0.1:8080", false),
            ("attacker.example:6443", false),
            ("127.0.0.1.attacker.example", false),
            ("", false),
        ] {
            assert_eq!(gate().knows(host), known, "{host}");
        }
    }

    #[test]
    fn tokens() {
        for (token, accepted) in
            [("secret", true), ("Secret", false), ("secre", false), ("secrets", false), ("", false)]
        {
            assert_eq!(gate().accepts(token), accepted, "{token}");
        }
        for (value, expected) in [("Bearer x", Some("x")), ("bearer x", Some("x")), ("Basic x", None), ("x", None)] {
            assert_eq!(bearer(value), expected, "{value}");
        }
    }

    #[test]
    fn credentials_survive_a_restart_and_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let first = Credentials::load_or_create(dir.path()).expect("credentials");
        let second = Credentials::load_or_create(dir.path()).expect("credentials");
        assert_eq!(first.token, second.token);
        assert_eq!(first.ca_pem, second.ca_pem);
        for file in ["ca.crt", "ca.key", "token"] {
            let mode = std::fs::metadata(dir.path().join("credentials").join(file)).expect(file).permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }
}
