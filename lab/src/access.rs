//! The flags by which `signalbox serve` is told who may use it: to be flattened into its own, and taken over into the server's
//! configuration.

use std::path::PathBuf;
use std::time::Duration;

use signalbox_server::access::audit::AuditLog;
use signalbox_server::{Access, Config, Error, Kubernetes, Proxy, Tls};

/// Who may use the server.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Access")]
pub struct AccessArgs {
    /// Tell users apart: by Kubernetes bearer tokens, each seeing and changing what their role allows. Needed on any address but
    /// loopback
    #[arg(long)]
    pub users: bool,
    /// Take changes of policies, and requests for rounds of probes, from users whose role allows them
    #[arg(long, requires = "users")]
    pub allow_apply: bool,
    /// Where it is written down who changed what: a file, or - for standard output
    #[arg(long, value_name = "FILE|-")]
    pub audit_log: Option<String>,
    /// A host name under which the page is asked for, besides addresses and localhost; may be repeated
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// The page's certificate, with those of its authorities, as a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The key of the page's certificate, as a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Believe an authenticating proxy whose client certificate is of an authority in this PEM file
    #[arg(long, value_name = "FILE", requires = "users")]
    pub proxy_client_ca: Option<PathBuf>,
    /// A common name that the proxy's certificate may have; may be repeated. Without: any
    #[arg(long = "proxy-name", value_name = "NAME", requires = "proxy_client_ca")]
    pub proxy_names: Vec<String>,
    /// Believe an authenticating proxy on loopback that sends the contents of this file in X-Signalbox-Proxy-Secret
    #[arg(long, value_name = "FILE", requires = "users")]
    pub proxy_secret: Option<PathBuf>,
    /// Connections from one address at a time; behind a proxy all users have its address
    #[arg(long, value_name = "NUMBER")]
    pub connections_per_address: Option<usize>,
    /// How long a token counts after it was reviewed, in seconds
    #[arg(long, value_name = "SECONDS", requires = "users")]
    pub tokens_kept: Option<u64>,
}

impl AccessArgs {
    /// Takes them over. A certificate that the configuration has already, such as one of the server's own authority, is kept
    /// where no file is named.
    ///
    /// # Errors
    /// Where the certificate cannot be read.
    pub fn configure(&self, config: &mut Config) -> Result<(), Error> {
        if self.users {
            let is_proxied = self.proxy_client_ca.is_some() || self.proxy_secret.is_some();
            let proxy = is_proxied.then(|| Proxy {
                client_ca: self.proxy_client_ca.clone(),
                names: self.proxy_names.clone(),
                secret: self.proxy_secret.clone(),
            });
            let mut kubernetes = Kubernetes { allow_apply: self.allow_apply, proxy, ..Kubernetes::default() };
            if let Some(seconds) = self.tokens_kept {
                kubernetes.tokens_kept = Duration::from_secs(seconds);
            }
            config.access = Access::Kubernetes(kubernetes);
        }
        config.audit = match self.audit_log.as_deref() {
            None => AuditLog::Off,
            Some("-") => AuditLog::Stdout,
            Some(path) => AuditLog::File(path.into()),
        };
        config.hosts.extend(self.hosts.iter().cloned());
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            config.tls = Some(Tls::from_files(certificate, key)?);
        }
        if let Some(most) = self.connections_per_address {
            config.limits.per_address = most;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        access: AccessArgs,
    }

    #[test]
    fn flags_become_a_configuration() {
        let parse = |flags: &[&str]| Command::try_parse_from([&["serve"], flags].concat());
        let mut config = Config::default();
        let command =
            parse(&["--users", "--allow-apply", "--audit-log", "-", "--host", "a.example", "--host", "b.example"]);
        command.expect("they can be read").access.configure(&mut config).expect("no file is named");
        assert!(matches!(&config.access, Access::Kubernetes(it) if it.allow_apply && it.proxy.is_none()));
        assert_eq!(
            (config.audit, config.hosts),
            (AuditLog::Stdout, vec!["a.example".to_owned(), "b.example".to_owned()])
        );
        for flags in
            [&["--allow-apply"][..], &["--tls-cert", "x"], &["--proxy-secret", "x"], &["--users", "--proxy-name", "x"]]
        {
            assert!(parse(flags).is_err(), "{flags:?} need more");
        }
        let command =
            parse(&["--tls-cert", "/nonexistent/crt", "--tls-key", "/nonexistent/key"]).expect("they can be read");
        let error = command.access.configure(&mut Config::default()).expect_err("there is no such file");
        assert!(error.to_string().contains("/nonexistent/crt"), "{error}");
    }
}
