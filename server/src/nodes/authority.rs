//! The server's own certificate authority, and the certificate that the listener shows.
//!
//! Both are kept in a Secret, so that every replica and every later server has the same; the authority's public half is in a ConfigMap, from
//! which enforcers read it. A Secret that somebody else made is used as it is, and never written to.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

use super::StreamsConfig;
use crate::kube_error::sentence;

/// How long a certificate is good for. It is renewed when a third of that is left.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// The same for the authority, which is not renewed: enforcers trust it.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// How often it is looked whether the certificate has to be renewed, or somebody has.
const LOOK: Duration = Duration::from_secs(3600);
/// How often two servers may get in each other's way.
const ATTEMPTS: usize = 5;
/// Until when the certificate is good, Unix seconds; only a Secret of ours has it.
const NOT_AFTER: &str = "signalbox.dev/not-after";
/// What the certificate is for.
const NAMES: &str = "signalbox.dev/names";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The API server refuses, or is away.
    #[error(
        "cannot {what}: {why}; the server needs `get`, `create` and `update` on it, or make it yourself with `ca.crt`, `tls.crt` and `tls.key`"
    )]
    Object {
        /// The verb, the kind, and the name.
        what: String,
        /// What the API server says.
        why: String,
    },
    /// An object is there, and cannot be used.
    #[error("the Secret {name} cannot be used: {why}; mend it, or remove it to have a new one made")]
    Unusable {
        /// `namespace/name`.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// Others were faster, again and again.
    #[error("other servers kept writing the Secret {name}; try again")]
    Contended {
        /// `namespace/name`.
        name: String,
    },
}

/// The certificate that is shown, which may change while the listener runs.
#[derive(Debug)]
pub struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Keeps the certificate good.
pub struct Authority {
    client: kube::Client,
    config: StreamsConfig,
    shown: Arc<Shown>,
}

/// What the Secret holds.
struct Material {
    authority: Option<String>,
    certificate: Arc<CertifiedKey>,
}

impl Authority {
    /// Reads the certificate, or makes it, and tells whom to trust.
    ///
    /// # Errors
    /// Where neither can be done.
    pub async fn load(client: kube::Client, config: &StreamsConfig) -> Result<Self, AuthorityError> {
        let material = material(&client, config).await?;
        let shown = Arc::new(Shown(RwLock::new(material.certificate)));
        Ok(Self { client, config: config.clone(), shown })
    }

    /// What to show.
    pub fn certificate(&self) -> Arc<Shown> {
        self.shown.clone()
    }

    /// Looks from time to time whether the certificate has to be renewed, or was.
    pub async fn keep(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            match material(&self.client, &self.config).await {
                Ok(material) => {
                    *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = material.certificate;
                }
                Err(error) => tracing::warn!(%error, "the certificate could not be looked at; it is tried again"),
            }
        }
    }
}

/// Reads the Secret, or makes or renews it, and brings the ConfigMap up to date.
async fn material(client: &kube::Client, config: &StreamsConfig) -> Result<Material, AuthorityError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &config.namespace);
    let name = format!("{}/{}", config.namespace, config.secret);
    let failed = |verb: &str, error: &kube::Error| AuthorityError::Object {
        what: format!("{verb} the Secret {name}"),
        why: sentence(error),
    };
    for _ in 0..ATTEMPTS {
        let found = secrets.get_opt(&config.secret).await.map_err(|error| failed("get", &error))?;
        let written = match found {
            None => {
                let (key, pem) = new_authority()?;
                let secret = new_secret(config, &key, &pem, None)?;
                secrets.create(&PostParams::default(), &secret).await.map_err(|error| ("create", error))
            }
            Some(secret) if is_due(&secret, config) => {
                let read = |field: &str| text(&secret, field, &name);
                let key = KeyPair::from_pem(read("ca.key")?.trim())?;
                let renewed = new_secret(config, &key, &read("ca.crt")?, secret.metadata.resource_version.clone())?;
                tracing::info!(secret = name, "the certificate is renewed");
                secrets
                    .replace(&config.secret, &PostParams::default(), &renewed)
                    .await
                    .map_err(|error| ("update", error))
            }
            Some(secret) => Ok(secret),
        };
        match written {
            Ok(secret) => {
                let material = read_material(&secret, &name)?;
                if let Some(authority) = &material.authority {
                    tell(client, config, authority).await?;
                } else {
                    tracing::warn!(
                        secret = name,
                        "it has no `ca.crt`: enforcers have to be told whom to trust otherwise"
                    );
                }
                return Ok(material);
            }
            // Somebody else was faster.
            Err((_, kube::Error::Api(status))) if status.code == 409 => {}
            Err((verb, error)) => return Err(failed(verb, &error)),
        }
    }
    Err(AuthorityError::Contended { name })
}

/// Whether a Secret is ours, and its certificate is about to end or for other names.
fn is_due(secret: &Secret, config: &StreamsConfig) -> bool {
    let annotations = secret.metadata.annotations.as_ref();
    let annotation = |name: &str| annotations.and_then(|all| all.get(name)).map(String::as_str);
    let Some(not_after) = annotation(NOT_AFTER).and_then(|text| text.parse::<u64>().ok()) else { return false };
    now().as_secs() + LIFETIME.as_secs() / 3 > not_after || annotation(NAMES) != Some(&names(config).join(","))
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What the certificate is for.
fn names(config: &StreamsConfig) -> Vec<String> {
    let namespace = &config.namespace;
    let mut names = vec![
        format!("signalbox.{namespace}"),
        format!("signalbox.{namespace}.svc"),
        format!("signalbox.{namespace}.svc.cluster.local"),
        "localhost".to_owned(),
    ];
    if !config.listen.ip().is_unspecified() {
        names.push(config.listen.ip().to_string());
    }
    names.extend(config.names.iter().cloned());
    names.dedup();
    names
}

fn new_authority() -> Result<(KeyPair, String), AuthorityError> {
    let key = KeyPair::generate()?;
    let pem = authority_params()?.self_signed(&key)?.pem();
    Ok((key, pem))
}

/// The authority's certificate but for its dates: its key is what counts.
fn authority_params() -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "signalbox-server-ca");
    (params.not_before, params.not_after) = dates(AUTHORITY_LIFETIME);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// From an hour ago, since clocks differ.
fn dates<T: From<SystemTime>>(lifetime: Duration) -> (T, T) {
    let now = SystemTime::now();
    ((now - Duration::from_secs(3600)).into(), (now + lifetime).into())
}

fn new_secret(
    config: &StreamsConfig,
    authority: &KeyPair,
    authority_pem: &str,
    resource_version: Option<String>,
) -> Result<Secret, AuthorityError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names(config))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "signalbox-server");
    (params.not_before, params.not_after) = dates(LIFETIME);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, &Issuer::new(authority_params()?, authority))?;
    let data = [
        ("ca.crt", authority_pem.to_owned()),
        ("ca.key", authority.serialize_pem()),
        ("tls.crt", certificate.pem()),
        ("tls.key", key.serialize_pem()),
    ];
    Ok(Secret {
        metadata: ObjectMeta {
            annotations: Some(BTreeMap::from([
                (NOT_AFTER.to_owned(), (now() + LIFETIME).as_secs().to_string()),
                (NAMES.to_owned(), names(config).join(",")),
            ])),
            resource_version,
            ..meta(config, &config.secret)
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data.into_iter().map(|(name, pem)| (name.to_owned(), ByteString(pem.into_bytes()))).collect()),
        ..Secret::default()
    })
}

fn meta(config: &StreamsConfig, name: &str) -> ObjectMeta {
    let labels = [("part-of", "signalbox"), ("name", "signalbox"), ("component", "server")];
    let labels = labels.map(|(key, value)| (format!("app.kubernetes.io/{key}"), value.to_owned()));
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(config.namespace.clone()),
        labels: Some(labels.into()),
        ..ObjectMeta::default()
    }
}

fn text(secret: &Secret, field: &str, name: &str) -> Result<String, AuthorityError> {
    let unusable = |why: String| AuthorityError::Unusable { name: name.to_owned(), why };
    let bytes = secret
        .data
        .as_ref()
        .and_then(|data| data.get(field))
        .ok_or_else(|| unusable(format!("it has no `{field}`")))?;
    String::from_utf8(bytes.0.clone()).map_err(|_| unusable(format!("`{field}` is not text")))
}

fn read_material(secret: &Secret, name: &str) -> Result<Material, AuthorityError> {
    let unusable =
        |field: &str, why: String| AuthorityError::Unusable { name: name.to_owned(), why: format!("`{field}`: {why}") };
    let chain = text(secret, "tls.crt", name)?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| unusable("tls.crt", error.to_string()))?;
    let key = text(secret, "tls.key", name)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| unusable("tls.key", error.to_string()))?;
    let certificate = CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
        .map_err(|error| unusable("tls.crt", error.to_string()))?;
    let has_authority = secret.data.as_ref().is_some_and(|data| data.contains_key("ca.crt"));
    let authority = if has_authority { Some(text(secret, "ca.crt", name)?) } else { None };
    Ok(Material { authority, certificate: Arc::new(certificate) })
}

/// Writes the authority's public half where enforcers look for it.
async fn tell(client: &kube::Client, config: &StreamsConfig, authority: &str) -> Result<(), AuthorityError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &config.namespace);
    let name = &config.config_map;
    let failed = |verb: &str, error: &kube::Error| AuthorityError::Object {
        what: format!("{verb} the ConfigMap {}/{name}", config.namespace),
        why: sentence(error),
    };
    for _ in 0..ATTEMPTS {
        let found = maps.get_opt(name).await.map_err(|error| failed("get", &error))?;
        let written = match found {
            Some(map) if map.data.as_ref().and_then(|data| data.get("ca.crt")).is_some_and(|pem| pem == authority) => {
                return Ok(());
            }
            Some(mut map) => {
                map.data.get_or_insert_default().insert("ca.crt".to_owned(), authority.to_owned());
                maps.replace(name, &PostParams::default(), &map).await.map_err(|error| ("update", error))
            }
            None => {
                let data = Some(BTreeMap::from([("ca.crt".to_owned(), authority.to_owned())]));
                let map = ConfigMap { metadata: meta(config, name), data, ..ConfigMap::default() };
                maps.create(&PostParams::default(), &map).await.map_err(|error| ("create", error))
            }
        };
        match written {
            Ok(_) => return Ok(()),
            Err((_, kube::Error::Api(status))) if status.code == 409 => {}
            Err((verb, error)) => return Err(failed(verb, &error)),
        }
    }
    Err(AuthorityError::Contended { name: format!("{}/{name}", config.namespace) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> StreamsConfig {
        StreamsConfig::new(([127, 0, 0, 1], 0).into(), "signalbox-system")
    }

    fn ours() -> Secret {
        let (key, pem) = new_authority().expect("an authority");
        new_secret(&config(), &key, &pem, None).expect("a Secret")
    }

    #[test]
    fn a_certificate_is_renewed_before_it_ends_and_for_other_names_but_only_ours() {
        assert!(!is_due(&ours(), &config()), "fresh");
        let mut old = ours();
        let soon = (now() + LIFETIME / 3 - Duration::from_secs(5)).as_secs().to_string();
        old.metadata.annotations.get_or_insert_default().insert(NOT_AFTER.to_owned(), soon);
        assert!(is_due(&old, &config()), "two thirds are over");
        let more = StreamsConfig { names: vec!["signalbox.example.com".to_owned()], ..config() };
        assert!(is_due(&ours(), &more), "for one more name");
        let mut foreign = old;
        foreign.metadata.annotations = None;
        assert!(!is_due(&foreign, &more), "somebody else's");
    }

    #[test]
    fn what_is_made_can_be_used_and_what_cannot_says_what_is_wrong() {
        assert!(read_material(&ours(), "n/s").expect("material").authority.is_some());
        let broken = |field: &str, value: Option<&str>| {
            let mut secret = ours();
            let data = secret.data.get_or_insert_default();
            match value {
                Some(value) => data.insert(field.to_owned(), ByteString(value.as_bytes().to_vec())),
                None => data.remove(field),
            };
            read_material(&secret, "n/s").map(|_| ()).expect_err("unusable").to_string()
        };
        assert!(broken("tls.crt", None).contains("the Secret n/s cannot be used: it has no `tls.crt`"));
        assert!(broken("tls.key", Some("rubbish")).contains("`tls.key`"));
        let mut mixed = ours();
        let other = ours().data.unwrap_or_default().remove("tls.key").expect("a key");
        mixed.data.get_or_insert_default().insert("tls.key".to_owned(), other);
        assert!(read_material(&mixed, "n/s").is_err(), "the key of another certificate");
    }

    #[test]
    fn names_are_those_of_the_service_and_where_it_listens() {
        let names = names(&config());
        for name in ["signalbox.signalbox-system.svc", "127.0.0.1", "localhost"] {
            assert!(names.contains(&name.to_owned()), "{names:?}");
        }
    }
}
