//! An API on a free port with a state directory of its own, and clients for it.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

use kube::config::{KubeConfigOptions, Kubeconfig};
use signalbox_lab_apiserver::{ApiServer, Config, start};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub mod runtime;

/// A running API. Dropping it ends it.
pub struct Lab {
    pub api: Option<ApiServer>,
    pub dir: Arc<TempDir>,
    shutdown: CancellationToken,
}

impl Lab {
    pub async fn start() -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap())).await
    }

    pub async fn start_in(dir: Arc<TempDir>) -> Self {
        let shutdown = CancellationToken::new();
        let config =
            Config { listen: "127.0.0.1:0".parse().unwrap(), state_dir: dir.path().join("state"), fresh: false };
        let api = start(config, Arc::new(runtime::Processes), shutdown.clone()).await.unwrap();
        std::fs::write(dir.path().join("kubeconfig"), api.kubeconfig(None)).unwrap();
        Self { api: Some(api), dir, shutdown }
    }

    /// Ends the API and gives its directory back.
    pub async fn stop(mut self) -> Arc<TempDir> {
        self.shutdown.cancel();
        self.api.take().unwrap().stopped().await;
        self.dir.clone()
    }

    pub fn kubeconfig(&self) -> Kubeconfig {
        Kubeconfig::from_yaml(&self.api.as_ref().unwrap().kubeconfig(None)).unwrap()
    }

    pub async fn config(&self) -> kube::Config {
        kube::Config::from_custom_kubeconfig(self.kubeconfig(), &KubeConfigOptions::default()).await.unwrap()
    }

    pub async fn client(&self) -> kube::Client {
        kube::Client::try_from(self.config().await).unwrap()
    }

    /// Runs kubectl with a manifest or nothing on its standard input.
    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> Output {
        use std::io::Write;
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(self.path("kubeconfig"))
            .arg("--cache-dir")
            .arg(self.path("cache"))
            .args(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let input = input.to_owned();
        tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().expect("kubectl starts");
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        })
        .await
        .unwrap()
    }

    /// Runs kubectl, which must succeed, and returns what it printed.
    pub async fn ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.kubectl(arguments, input).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs kubectl, which must fail, and returns its complaint.
    pub async fn fails(&self, arguments: &[&str], input: &str) -> String {
        let output = self.kubectl(arguments, input).await;
        assert!(!output.status.success(), "kubectl {arguments:?} succeeded");
        String::from_utf8(output.stderr).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Whether kubectl can be tested with. Without it the test fails, unless somebody has said that this is meant.
pub fn kubectl_is_there() -> bool {
    if Command::new("kubectl").args(["version", "--client"]).output().is_ok_and(|output| output.status.success()) {
        return true;
    }
    assert!(
        std::env::var_os("SIGNALBOX_SKIP_KUBECTL").is_some(),
        "kubectl is missing: install Debian's package kubernetes-client, or set SIGNALBOX_SKIP_KUBECTL=1"
    );
    println!("skipped: needs kubectl");
    false
}
