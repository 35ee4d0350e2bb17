//! The agent's own binary, as a process, in front of the smallest API.

use std::{
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Lab, POD_A, POD_B, Space, api::Api};

/// Cargo names it to tests only; examples share this support, and start no agent.
pub const BINARY: &str = match option_env!("CARGO_BIN_EXE_signalbox-enforcer") {
    Some(path) => path,
    None => "no binary: this is no test",
};

/// A process that ends with the value.
pub struct Process(pub Child);

impl Process {
    /// One that stands for a pod's, in its namespace.
    pub fn sleeping(space: &Space) -> Self {
        let child = space.enter(|| Command::new("sleep").arg("120").stdin(Stdio::null()).spawn());
        Self(child.expect("sleep is installed"))
    }

    /// Ends it in order; how it ended.
    pub fn end(&mut self) -> std::process::ExitStatus {
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).expect("a process's id"));
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).expect("the process lives");
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if let Some(status) = self.0.try_wait().expect("it is ours") {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not end at SIGTERM");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A running agent over a lab.
pub struct Agent {
    pub process: Process,
    pub socket: PathBuf,
    pub listen: String,
    pub folder: tempfile::TempDir,
}

/// The namespaces `one` and `two` with the pods `a` and `b`.
pub fn furnish(api: &Api) {
    for name in ["one", "two"] {
        api.put("namespaces", json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}}));
    }
    for (namespace, name, address) in [("one", "a", POD_A), ("two", "b", POD_B)] {
        api.put("pods", pod(namespace, name, address));
    }
}

pub fn pod(namespace: &str, name: &str, address: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
        "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    })
}

impl Agent {
    /// Starts it, and waits until it enforces.
    pub fn start(lab: &Lab, api: &Api, more: &[&str]) -> Self {
        let (agent, command) = Self::prepare(lab, api, more);
        agent.begin(command)
    }

    /// The command line that starts it, for those who wrap it.
    pub fn prepare(lab: &Lab, api: &Api, more: &[&str]) -> (Prepared, Command) {
        let folder = tempfile::tempdir().expect("a folder");
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, api.kubeconfig()).expect("written");
        let socket = folder.path().join("run/enforcer.sock");
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
        let listen = format!("127.0.0.1:{port}");
        let mut command = Command::new(BINARY);
        command
            .args(["run", "--node", "n", "--uplink", "up0", "--listen", &listen])
            .arg("--netns")
            .arg(lab.node.path())
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(more)
            .args((!more.contains(&"--pins")).then_some("--no-pins"))
            .env("SIGNALBOX_ENFORCER_SOCKET", &socket)
            .stdin(Stdio::null());
        (Prepared { socket, listen, folder }, command)
    }

    /// Runs one of the other commands.
    pub fn ask(&self, words: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(words).arg("--socket").arg(&self.socket).stdin(Stdio::null());
        command.output().expect("the binary runs")
    }

    /// The same, as JSON; its exit status.
    pub fn json(&self, words: &[&str]) -> (Value, Option<i32>) {
        let mut words = words.to_vec();
        words.extend(["-o", "json"]);
        let output = self.ask(&words);
        let value = serde_json::from_slice(&output.stdout);
        (value.unwrap_or_else(|error| panic!("{error}: {output:?}")), output.status.code())
    }

    /// Waits for a condition of the status.
    pub fn until(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + Duration::from_secs(15);
        let mut last = Value::Null;
        while Instant::now() < end {
            let output = self.ask(&["status", "-o", "json"]);
            if let Ok(status) = serde_json::from_slice::<Value>(&output.stdout) {
                if fits(&status) {
                    return status;
                }
                last = status;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{what}: {last:#}");
    }

    /// Waits until policies up to a version are in force.
    pub fn until_in_force(&self, version: u64) -> Value {
        self.until("the policy is in force", |status| status["policies_version"].as_u64() >= Some(version))
    }

    /// What a monitor reads.
    pub fn get(&self, path: &str) -> (u16, String) {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(&self.listen).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let status = text.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }
}

/// What an agent is started with.
pub struct Prepared {
    pub socket: PathBuf,
    pub listen: String,
    pub folder: tempfile::TempDir,
}

impl Prepared {
    /// Starts it by this command, and waits until it enforces.
    pub fn begin(self, mut command: Command) -> Agent {
        let process = Process(command.spawn().expect("the command runs"));
        let Self { socket, listen, folder } = self;
        let agent = Agent { process, socket, listen, folder };
        agent.until("both pods are found", |status| status["enforcing"] == true && status["pods"] == 2);
        agent
    }
}
