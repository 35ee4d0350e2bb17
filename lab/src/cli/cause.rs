//! What kept a request from the cluster's API where it is neither the network nor the API's answer: the kubeconfig's credential plug-in, or a
//! certificate of one of the two sides.

use std::error::Error as StdError;
use std::io;

use kube::client::AuthError;
use rustls::{AlertDescription, CertificateError};
use signalbox_server::kube_error;

/// Why nothing was asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cause {
    #[error(
        "the kubeconfig's credential plug-in {command} {why}: run it by hand to see what it lacks, log in again with it, or correct users[].user.exec there"
    )]
    Plugin { command: String, why: String },
    #[error("the kubeconfig's user has no credentials to show: {0}; log in again, or correct the user there")]
    Credentials(String),
    #[error("the cluster's API does not prove to be the one that is meant: its certificate {problem}; {remedy}")]
    Certificate { problem: String, remedy: &'static str },
    #[error(
        "the cluster's API does not take the client certificate of the kubeconfig's user ({0}): renew it, or log in again"
    )]
    ClientCertificate(String),
}

/// The command of the credential plug-in that a cluster's user has.
pub(super) fn plugin(config: &kube::Config) -> Option<String> {
    config.auth_info.exec.as_ref()?.command.clone()
}

impl Cause {
    /// `plugin` is the command of the kubeconfig's user's plug-in, where it has one. `None`: it is something else.
    pub(super) fn of(error: &(dyn StdError + 'static), plugin: Option<&str>) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<AuthError>() {
                return Some(credentials(error, plugin));
            }
            if let Some(found) = error.downcast_ref::<rustls::Error>().and_then(certificate) {
                return Some(found);
            }
            // What an error of the system's kind wraps is not its source, but that one's source is.
            let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = wrapped.map(|wrapped| wrapped as &(dyn StdError + 'static)).or_else(|| error.source());
        }
        None
    }
}

fn credentials(error: &AuthError, plugin: Option<&str>) -> Cause {
    let why = match error {
        AuthError::AuthExecStart(error) => format!("cannot be run ({error})"),
        AuthError::AuthExecRun { out, .. } => kube_error::ended(out),
        AuthError::AuthExecParse(_) => "wrote what is no ExecCredential".to_owned(),
        AuthError::ExecPluginFailed => "wrote an ExecCredential without a status".to_owned(),
        AuthError::UnrefreshableTokenResponse => "gave no token again, as it did at first".to_owned(),
        AuthError::MissingCommand => "has no command".to_owned(),
        AuthError::ReadTokenFile(source, path) => {
            return Cause::Credentials(format!("the token's file {} cannot be read ({source})", path.display()));
        }
        other if plugin.is_some() => format!("gave nothing that can be used ({other})"),
        other => return Cause::Credentials(other.to_string()),
    };
    Cause::Plugin { command: plugin.map_or_else(|| "(auth-provider)".to_owned(), |name| format!("{name:?}")), why }
}

fn certificate(error: &rustls::Error) -> Option<Cause> {
    let of = |problem: &str, remedy| Some(Cause::Certificate { problem: problem.to_owned(), remedy });
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                of("has expired", "renew the API server's, and look whether this machine's clock is right")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                of("is not valid yet", "look whether this machine's clock is right")
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => of(
                "is not signed by an authority that the kubeconfig names, or this system where that names none",
                "correct certificate-authority-data of the cluster there, or the address if it is another cluster's",
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => of(
                "is not for the host that was asked",
                "correct the address (clusters[].cluster.server) in the kubeconfig, or name the host that it is for as tls-server-name there",
            ),
            other => Some(Cause::Certificate {
                problem: format!("cannot be accepted ({other})"),
                remedy: "look at the API server's certificate, and at certificate-authority-data of the cluster in the kubeconfig",
            }),
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA => Some(Cause::ClientCertificate(format!("{alert:?}"))),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: impl StdError + Send + Sync + 'static, plugin: Option<&str>) -> Option<String> {
        Cause::of(&kube::Error::Service(Box::new(error)), plugin).map(|cause| cause.to_string())
    }

    #[test]
    fn each_cause_has_its_sentence_and_remedy() {
        let wrapped = |error: rustls::Error| io::Error::other(error);
        let start = || AuthError::AuthExecStart(io::Error::from(io::ErrorKind::NotFound));
        let file = AuthError::ReadTokenFile(io::Error::from(io::ErrorKind::NotFound), "/run/token".into());
        for (told, expected) in [
            (
                told(start(), Some("aws")),
                ["credential plug-in \"aws\" cannot be run (entity not found)", "users[].user.exec"],
            ),
            (told(start(), None), ["credential plug-in (auth-provider) cannot be run", "log in again"]),
            (told(file, None), ["the token's file /run/token cannot be read", "correct the user"]),
            (
                told(wrapped(rustls::Error::InvalidCertificate(CertificateError::Expired)), None),
                ["its certificate has expired", "renew the API server's"],
            ),
            (
                told(wrapped(rustls::Error::InvalidCertificate(CertificateError::NotValidYet)), None),
                ["is not valid yet", "clock"],
            ),
            (
                told(wrapped(rustls::Error::InvalidCertificate(CertificateError::Revoked)), Some("aws")),
                ["cannot be accepted (", "look at the API server's certificate"],
            ),
            (
                told(wrapped(rustls::Error::AlertReceived(AlertDescription::CertificateExpired)), None),
                ["does not take the client certificate of the kubeconfig's user (CertificateExpired)", "renew it"],
            ),
        ] {
            let told = told.expect("a cause");
            assert!(expected.iter().all(|part| told.contains(part)), "{expected:?}: {told}");
        }
        for other in [
            wrapped(rustls::Error::AlertReceived(AlertDescription::InternalError)),
            wrapped(rustls::Error::DecryptError),
            io::Error::from(io::ErrorKind::ConnectionRefused),
        ] {
            let text = other.to_string();
            assert_eq!(told(other, Some("aws")), None, "{text}");
        }
    }
}
