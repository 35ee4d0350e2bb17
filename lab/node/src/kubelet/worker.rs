//! One pod, from its first sight to its removal.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::container::{Container, Now, RestartPolicy};
use super::event::{Kind, Recorder};
use super::listeners::{self, Listener};
use super::status::{self, Since, phase, who};
use crate::channel::End;
use crate::dns;
use crate::instance::Instance;
use crate::node::{Node, Place, environment};
use crate::sandbox::StartError;

/// A container of ours ends at SIGTERM; whoever does not, has so long at most.
const MAX_GRACE: Duration = Duration::from_secs(1);
/// How often a container that is not ready is looked at.
const READINESS: Duration = Duration::from_millis(4);
/// So long a start may take before the pod is shown without being ready.
const QUICK: Duration = Duration::from_millis(150);
/// Between two tries to make a sandbox.
const RETRY: Duration = Duration::from_secs(2);

/// Runs the pod until it is gone from the API, and removes what it had on the node.
pub(super) async fn run(node: Arc<Node>, client: Client, updates: watch::Receiver<Option<Arc<Pod>>>) {
    let Some(pod) = updates.borrow().clone() else { return };
    let namespace = pod.namespace().unwrap_or_default();
    let worker = Worker {
        events: Recorder::new(client.clone(), node.name(), pod.object_ref(&())),
        api: Api::namespaced(client, &namespace),
        name: pod.name_any(),
        namespace,
        node,
        pod,
        updates,
        reported: Value::Null,
        since: Since::new(Timestamp::now()),
    };
    worker.run().await;
}

/// What became of the pod.
enum Outcome {
    /// It is to be deleted: its processes have their grace.
    Deleted,
    /// It is gone from the API.
    Gone,
    /// All its containers have ended for good.
    Over,
    /// Its init has ended: everything starts anew.
    Lost,
}

struct Worker {
    node: Arc<Node>,
    api: Api<Pod>,
    events: Recorder,
    namespace: String,
    name: String,
    pod: Arc<Pod>,
    updates: watch::Receiver<Option<Arc<Pod>>>,
    reported: Value,
    since: Since,
}

type Exits = FuturesUnordered<BoxFuture<'static, (usize, Option<End>)>>;

impl Worker {
    async fn run(mut self) {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let mut over = matches!(phase, Some("Succeeded" | "Failed"));
        let refused = self.refusal();
        if let (false, Some(message)) = (over, refused) {
            self.events.record(Kind::Warning, "FailedAdmission", message.clone());
            let status = json!({"phase": "Failed", "reason": "NotSupported", "message": message});
            self.patch(status).await;
            over = true;
        }
        while !over && !self.leaving() {
            let Some(instance) = self.open().await else { break };
            let outcome = self.serve(&instance).await;
            if matches!(outcome, Outcome::Deleted) {
                self.events.record(Kind::Normal, "Killing", "Stopping the pod's containers".to_owned());
            }
            self.node.close(&instance).await;
            self.node.unregister_pod(&self.namespace, &self.name, &instance);
            match outcome {
                Outcome::Deleted | Outcome::Gone => break,
                Outcome::Over => over = true,
                Outcome::Lost => self.events.record(
                    Kind::Warning,
                    "SandboxChanged",
                    "The pod's sandbox ended; it will be killed and made anew".to_owned(),
                ),
            }
        }
        while !self.leaving() && self.updated().await {}
        self.forget().await;
    }

    /// Why this node does not run the pod at all.
    fn refusal(&self) -> Option<String> {
        let spec = self.pod.spec.as_ref()?;
        if spec.host_network == Some(true) {
            return Some("hostNetwork: the lab's node runs no pods in its own network namespace".to_owned());
        }
        if spec.init_containers.as_ref().is_some_and(|containers| !containers.is_empty()) {
            return Some("initContainers: the lab's pods run Signalbox's probe, which prepares nothing".to_owned());
        }
        None
    }

    /// It is deleted, or gone already.
    fn leaving(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some() || self.updates.borrow().is_none()
    }

    /// The same by what has been heard and not yet taken in.
    fn unwanted(&self) -> bool {
        self.updates.borrow().as_ref().is_none_or(|pod| pod.metadata.deletion_timestamp.is_some())
    }

    /// Waits for news of the pod. False when there will be none.
    async fn updated(&mut self) -> bool {
        if self.updates.changed().await.is_err() {
            return false;
        }
        match self.updates.borrow_and_update().clone() {
            Some(pod) => {
                self.pod = pod;
                true
            }
            None => false,
        }
    }

    /// Makes the sandbox, again and again until it stands or nobody wants it any more.
    async fn open(&mut self) -> Option<Arc<Instance>> {
        let mut failed = false;
        loop {
            let hostname = hostname(&self.pod);
            match self.node.open(&who(&self.pod), &hostname, Place::Pod).await {
                Ok(instance) => {
                    self.since.initialized = Some(Timestamp::now());
                    self.node.register_pod(&self.namespace, &self.name, &instance);
                    return Some(instance);
                }
                // Deleted while it started: what was in the way no longer matters to anybody.
                Err(error) if self.unwanted() => {
                    tracing::debug!(namespace = %self.namespace, pod = %self.name, %error, "no sandbox, none wanted");
                    return None;
                }
                Err(error) => {
                    // Once may be the lab's own end, which reaches the sandbox before it reaches us. The event tells it either way.
                    if failed {
                        tracing::error!(namespace = %self.namespace, pod = %self.name, %error, "no sandbox");
                    } else {
                        tracing::info!(namespace = %self.namespace, pod = %self.name, %error, "no sandbox yet");
                    }
                    failed = true;
                    self.events.record(
                        Kind::Warning,
                        "FailedCreatePodSandBox",
                        format!("Failed to create pod sandbox: {error}"),
                    );
                }
            }
            let retry = tokio::time::sleep(RETRY);
            tokio::pin!(retry);
            loop {
                tokio::select! {
                    () = &mut retry => break,
                    more = self.updated() => if !more || self.leaving() { return None },
                }
            }
        }
    }

    /// Runs the containers.
    async fn serve(&mut self, instance: &Arc<Instance>) -> Outcome {
        let specs: Vec<Spec> = self.pod.spec.iter().flat_map(|spec| spec.containers.clone()).collect();
        let policy = RestartPolicy::parse(self.pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()));
        let began = Instant::now();
        let mut containers: Vec<Container> = specs.iter().map(|_| Container::new(began)).collect();
        let mut running: Vec<Option<u64>> = vec![None; specs.len()];
        let mut exits = Exits::new();
        // Kept while it answers inside the pod.
        let mut resolver: Option<dns::Serving> = None;
        loop {
            let now = Instant::now();
            for index in 0..specs.len() {
                if containers[index].due.is_none_or(|due| due > now) {
                    continue;
                }
                if is_dns(&specs[index]) && resolver.is_none() {
                    match dns::serve(&self.node, instance).await {
                        Ok(serving) => resolver = Some(serving),
                        Err(error) => {
                            let message = format!("Error: {error}");
                            self.events.record(Kind::Warning, "Failed", message.clone());
                            containers[index].failed_to_start("CreateContainerError", message, now);
                            continue;
                        }
                    }
                }
                self.start(instance, &specs[index], index, &mut containers[index], &mut running[index], &mut exits)
                    .await;
            }
            self.check(instance, &specs, &mut containers);
            let settled = containers.iter().all(|container| container.ready || container.due.is_some());
            if settled || began.elapsed() >= QUICK || containers.iter().any(|c| c.last.is_some()) {
                self.report(Some(instance), &containers).await;
            }
            if matches!(phase(&containers), "Succeeded" | "Failed") {
                self.report(Some(instance), &containers).await;
                return Outcome::Over;
            }

            let unready = containers.iter().any(|c| !c.ready && matches!(c.now, Now::Running { .. }));
            let due = containers.iter().filter_map(|container| container.due).min();
            let wake = match (unready, due) {
                (true, Some(due)) => Some(due.min(now + READINESS)),
                (true, None) => Some(now + READINESS),
                (false, due) => due,
            };
            tokio::select! {
                () = sleep_until(wake) => {}
                () = instance.sandbox.gone() => return Outcome::Lost,
                Some((index, end)) = exits.next() => {
                    // Without an end the whole sandbox has ended, and says so itself.
                    let Some(end) = end else { continue };
                    running[index] = None;
                    let wait = containers[index].ended(end, policy, Timestamp::now(), Instant::now());
                    if wait.is_some_and(|wait| !wait.is_zero()) {
                        let name = &specs[index].name;
                        let message = format!("Back-off restarting failed container {name} in {}", who(&self.pod));
                        self.events.record(Kind::Warning, "BackOff", message);
                    }
                    // Shown at once: its cells are to say what happened.
                    self.report(Some(instance), &containers).await;
                }
                more = self.updated() => {
                    if !more {
                        return Outcome::Gone;
                    }
                    if self.leaving() {
                        self.stop(instance, running, exits).await;
                        return Outcome::Deleted;
                    }
                }
            }
        }
    }

    /// Starts one container.
    async fn start(
        &self,
        instance: &Arc<Instance>,
        spec: &Spec,
        index: usize,
        container: &mut Container,
        running: &mut Option<u64>,
        exits: &mut Exits,
    ) {
        let name = &spec.name;
        let argv = match self.argv(spec) {
            Ok(argv) => argv,
            Err(message) => {
                self.events.record(Kind::Warning, "Failed", message.clone());
                container.failed_to_start("CreateContainerError", message, Instant::now());
                return;
            }
        };
        let first = container.restarts == 0 && container.last.is_none();
        let env = self.environment(instance, spec);
        match instance.start(name, argv, env).await {
            Ok(process) => {
                *running = Some(process.id);
                let id = format!("signalbox://{}-{}", instance.sandbox.init(), process.id);
                container.started(id, Timestamp::now(), Instant::now());
                let exit = process.exit;
                exits.push(Box::pin(async move { (index, exit.await.ok()) }));
                if first {
                    let image = spec.image.as_deref().unwrap_or_default();
                    let message = if is_dns(spec) {
                        format!("image {image:?}: Signalbox answers DNS in this pod")
                    } else if spec.command.is_some() {
                        format!("image {image:?} is not pulled: the command runs on Signalbox's own tools")
                    } else {
                        format!("image {image:?} is not pulled: it is served by Signalbox's probe")
                    };
                    self.events.record(Kind::Normal, "Pulled", message);
                }
                self.events.record(Kind::Normal, "Started", format!("Started container {name}"));
            }
            // The select loop sees the sandbox's end.
            Err(StartError::Gone) => {}
            Err(error) => {
                let message = format!("Error: {error}");
                self.events.record(Kind::Warning, "Failed", message.clone());
                container.failed_to_start("CreateContainerError", message, Instant::now());
            }
        }
    }

    /// What runs in the container: its own command if the pod has that program, otherwise the probe.
    fn argv(&self, spec: &Spec) -> Result<Vec<String>, String> {
        if let Some(command) = spec.command.as_ref().filter(|command| !command.is_empty()) {
            if !self.node.has_program(&command[0]) {
                return Err(format!(
                    "Error: container {}: {:?} is not in the lab's pods, which hold Signalbox's probe and busybox; \
                     leave out `command` to let the probe serve its ports",
                    spec.name, command[0]
                ));
            }
            return Ok(command.iter().chain(spec.args.iter().flatten()).cloned().collect());
        }
        let mut argv = vec!["/bin/signalbox-probe".to_owned(), "serve".to_owned()];
        argv.extend(["--name".to_owned(), self.name.clone()]);
        if !is_dns(spec) {
            for port in spec.ports.iter().flatten() {
                let protocol = port.protocol.as_deref().unwrap_or("TCP");
                argv.extend(["--port".to_owned(), format!("{protocol}/{}", port.container_port)]);
            }
        }
        Ok(argv)
    }

    fn environment(&self, instance: &Instance, spec: &Spec) -> Vec<(String, String)> {
        let mut env = environment(&hostname(&self.pod));
        env.push(("KUBERNETES_SERVICE_HOST".to_owned(), "10.96.0.1".to_owned()));
        env.push(("KUBERNETES_SERVICE_PORT".to_owned(), "443".to_owned()));
        for variable in spec.env.iter().flatten() {
            let field = variable.value_from.as_ref().and_then(|from| from.field_ref.as_ref());
            let value = match field.map(|field| field.field_path.as_str()) {
                None => variable.value.clone(),
                Some("metadata.name") => Some(self.name.clone()),
                Some("metadata.namespace") => Some(self.namespace.clone()),
                Some("metadata.uid") => self.pod.uid(),
                Some("spec.nodeName") => Some(self.node.name().to_owned()),
                Some("status.podIP") => instance.addresses.first().map(ToString::to_string),
                Some(_) => None,
            };
            if let Some(value) = value {
                env.retain(|(key, _)| *key != variable.name);
                env.push((variable.name.clone(), value));
            }
        }
        env
    }

    /// A container is ready as soon as it listens on all its ports.
    fn check(&self, instance: &Instance, specs: &[Spec], containers: &mut [Container]) {
        let waiting = |container: &Container| !container.ready && matches!(container.now, Now::Running { .. });
        if !containers.iter().any(waiting) {
            return;
        }
        let open: HashSet<Listener> = listeners::of_process(instance.sandbox.init()).unwrap_or_default();
        for (spec, container) in specs.iter().zip(containers) {
            if waiting(container) {
                container.ready = promised(spec).all(|listener| open.contains(&listener));
            }
        }
    }

    /// SIGTERM, a short grace; the sandbox's end does the rest.
    async fn stop(&self, instance: &Instance, running: Vec<Option<u64>>, mut exits: Exits) {
        for id in running.into_iter().flatten() {
            instance.sandbox.signal(id, libc::SIGTERM).await;
        }
        let asked = self.pod.metadata.deletion_grace_period_seconds.unwrap_or(1);
        let grace = Duration::from_secs(asked.try_into().unwrap_or(0)).min(MAX_GRACE);
        // Whoever is left after that is killed with the sandbox.
        let _ = tokio::time::timeout(grace, async { while exits.next().await.is_some() {} }).await;
    }

    /// Writes the status if it has changed.
    async fn report(&mut self, instance: Option<&Arc<Instance>>, containers: &[Container]) {
        let address = instance.and_then(|instance| instance.addresses.first().copied());
        let status = status::status(&self.pod, address, containers, &mut self.since, Timestamp::now());
        self.patch(status).await;
    }

    async fn patch(&mut self, status: Value) {
        if status == self.reported {
            return;
        }
        let patch = json!({"metadata": {"uid": self.pod.uid()}, "status": status});
        match self.api.patch_status(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => self.reported = status,
            // Deleted meanwhile: the watch tells.
            Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => {}
            Err(error) => {
                tracing::warn!(namespace = %self.namespace, pod = %self.name, %error, "status not written");
            }
        }
    }

    /// Ends the pod's life in the API, which waits for it.
    async fn forget(&self) {
        if self.updates.borrow().is_none() {
            return;
        }
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: self.pod.uid(), resource_version: None }),
            ..Default::default()
        };
        match self.api.delete(&self.name, &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => {}
            Err(error) => {
                tracing::warn!(namespace = %self.namespace, pod = %self.name, %error, "the pod was not forgotten");
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// The lab itself answers DNS in a container of this image.
fn is_dns(spec: &Spec) -> bool {
    let image = spec.image.as_deref().unwrap_or_default();
    image.split(':').next() == Some("signalbox/dns")
}

/// The ports that a container must listen on before it is ready. Nobody knows which ones a command of its own takes,
/// and SCTP listeners are in no table that every kernel has.
fn promised(spec: &Spec) -> impl Iterator<Item = Listener> + '_ {
    let own = spec.command.as_ref().is_some_and(|command| !command.is_empty());
    spec.ports.iter().flatten().filter(move |_| !own).filter_map(|port| {
        let number = u16::try_from(port.container_port).ok()?;
        match port.protocol.as_deref() {
            None | Some("TCP") => Some(Listener::Tcp(number)),
            Some("UDP") => Some(Listener::Udp(number)),
            Some(_) => None,
        }
    })
}

/// As Kubernetes names it: the pod's `hostname`, or its name, no longer than a host name may be.
fn hostname(pod: &Pod) -> String {
    let asked = pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
    let mut name = asked.unwrap_or_else(|| pod.name_any());
    name.truncate(63);
    name.trim_end_matches(['-', '.']).to_owned()
}
